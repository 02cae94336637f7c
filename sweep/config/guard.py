"""Checks of a composed configuration before Hydra acts on it.

A configuration may come from an untrusted source. Before a run begins, Hydra calls the callbacks, the logging handlers and any
other `_target_` under its own keys, and sets environment variables. `targets` checks the `_target_`s of the run itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

_SWEEPER = "hydra_plugins.pareto_sweeper.sweeper.ParetoSweeper"
_LOGGING = ("hydra_logging", "job_logging")
# Keys that `instantiate` interprets itself.
_INSTANTIATE_KEYS = ("_target_", "_partial_", "_args_", "_recursive_", "_convert_")
# The launchers' keys whose values a shell or another Python executes.
_COMMANDS = ("setup", "additional_parameters", "runtime_env")


def check(config: DictConfig) -> None:
    """Refuses a configuration that would make Hydra call or write what the configuration names.

    Raises:
        ConfigError: at the key.
    """
    own = config.hydra
    if callbacks := OmegaConf.select(own, "callbacks"):
        _refuse("hydra.callbacks", "none: what runs is the command's own", callbacks)
    if variables := OmegaConf.select(own, "job.env_set"):
        _refuse("hydra.job.env_set", "no variables: set them before the command", variables)
    for name in _LOGGING:
        _check_logging(name, own)
    if not isinstance(own.verbose, bool | str) and not OmegaConf.is_list(own.verbose):
        _refuse("hydra.verbose", "true, false or names of loggers", own.verbose)
    if own.mode is RunMode.MULTIRUN:
        _check_sweeper(own)
        _check_launcher(own)


def _check_logging(name: str, own: DictConfig) -> None:
    """Refuses logging other than Hydra's own choices, levels aside, since a handler is a class that is called."""
    folder = Path(hydra.__file__).parent / "conf" / "hydra" / name
    known = {path.stem: _without_levels(OmegaConf.to_container(OmegaConf.load(path))) for path in folder.glob("*.yaml")}
    known.pop("hydra_debug", None)  # writes to the working folder
    node = own._get_node(name)
    raw = OmegaConf.to_container(node) if isinstance(node, DictConfig) and not node._is_interpolation() else None
    if _without_levels(raw) not in known.values():
        choice = own.runtime.choices.get(f"hydra/{name}")
        received = f"{choice} with other values" if str(choice) in known else choice
        _refuse(f"hydra.{name}", f"hydra/{name} to be one of {', '.join(sorted(known))}, as Hydra has it", received)


def _without_levels(logging: Any) -> Any:
    """A logging configuration without its levels, which are free."""
    if not isinstance(logging, dict):
        return logging
    names = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
    return {key: _without_levels(value) for key, value in logging.items() if not (key == "level" and value in names)}


def _check_sweeper(own: DictConfig) -> None:
    if (target := _resolved(own, "sweeper").get("_target_")) != _SWEEPER:
        choice = own.runtime.choices.get("hydra/sweeper")
        _refuse("hydra/sweeper", "pareto", target if choice == "pareto" else choice)
    _refuse_objects("hydra.sweeper", _resolved(own, "sweeper"))


def _check_launcher(own: DictConfig) -> None:
    launcher = _resolved(own, "launcher")
    target = launcher.get("_target_")
    kinds = {f"{kind.__module__}.{kind.__qualname__}" for kind in Plugins.instance().discover(Launcher)}
    if target not in kinds:
        _refuse("hydra.launcher._target_", "the launcher that hydra/launcher=CHOICE names", target)
    _refuse_objects("hydra.launcher", launcher)
    jobs = launcher.get("n_jobs", 1)
    if not isinstance(jobs, int) or isinstance(jobs, bool) or jobs == 0:
        _refuse("hydra.launcher.n_jobs", "an integer, not 0", jobs)
    command_line = {str(text).lstrip("+~").partition("=")[0] for text in own.overrides.hydra}
    for key, value in launcher.items():
        commands = key in _COMMANDS or key.endswith("_commands")
        if commands and value and value != _default(own, key) and f"hydra.launcher.{key}" not in command_line:
            _refuse(f"hydra.launcher.{key}", "commands for another machine on the command line, not in a file", value)
        if any("\n" in text for text in _texts(value)) and value != _default(own, key):
            _refuse(f"hydra.launcher.{key}", "one line, since it may become one of a script", value)


def _default(own: DictConfig, key: str) -> Any:
    """The default of the launcher's plugin for a key."""
    try:
        node = ConfigStore.instance().load(f"hydra/launcher/{own.runtime.choices['hydra/launcher']}.yaml").node
        return OmegaConf.to_container(node, resolve=False).get(key)  # type: ignore[union-attr]
    except Exception:  # noqa: BLE001 - another kind of launcher without defaults
        return None


def _resolved(own: DictConfig, name: str) -> dict[str, Any]:
    """A part of Hydra's configuration, resolved as `instantiate` resolves it."""
    try:
        node = OmegaConf.select(own, name)
        resolved = OmegaConf.to_container(node, resolve=True) if OmegaConf.is_dict(node) else {}
    except OmegaConfBaseException as error:
        _refuse(f"hydra.{name}", "values that can be resolved", str(error).splitlines()[0])
    return {str(key): value for key, value in resolved.items()} if isinstance(resolved, dict) else {}


def _refuse_objects(where: str, node: dict[str, Any]) -> None:
    """Refuses objects that `instantiate` would build below a plugin's keys."""
    for key, value in node.items():
        for path, inner in _keys(value, f"{where}.{key}"):
            if inner in _INSTANTIATE_KEYS:
                _refuse(path, "no object", inner)
    if special := [key for key in node if key in _INSTANTIATE_KEYS[1:]]:
        _refuse(where, "no object", special[0])


def _keys(value: Any, path: str) -> Iterator[tuple[str, str]]:
    """Yields (path of the mapping, key) for every mapping at any depth of a value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        if isinstance(value, dict):
            yield path, str(key)
        yield from _keys(inner, f"{path}.{key}")


def _texts(value: Any) -> Iterator[str]:
    """Yields every text in a value, keys included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield str(key)
            yield from _texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)


def _refuse(where: str, expected: str, received: Any) -> NoReturn:
    from sweep.core.errors import ConfigError  # it imports numpy, which `--help` does without

    raise ConfigError(where, expected, str(received))
