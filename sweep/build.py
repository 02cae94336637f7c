"""From the composed configuration to plain objects. Below the commands, the only module that sees a DictConfig."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping
from errno import EROFS
from pathlib import Path
from typing import Any

from hydra.errors import ConfigCompositionException, HydraException, MissingConfigException, OverrideParseException
from hydra.utils import get_class
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from sweep import track
from sweep.plan import Job, Plan
from sweep.records import ConfigError

# What a sweep tells its trials, as against what its user asks for.
_INTERNAL = ("tracking.parent_run_id=", "sweep.name=")
_PLAN_GROUPS = ("dataset", "model", "train", "distill", "prune", "quant", "pipeline")


def plan(config: DictConfig) -> Plan:
    """What the configuration asks for, every value of it validated.

    Raises:
        ConfigError: for a key that its target does not take, a missing one, or a value out of range.
    """
    known = (*_PLAN_GROUPS, "tracking", "seed", "threads", "output", "sweep", "hydra")
    if unknown := [str(name) for name in config if name not in known]:
        raise ConfigError("config", f"no keys but {', '.join(known[:-1])}", unknown[0])
    parts = {name: instantiate(config[name], name) for name in _PLAN_GROUPS}
    threads = len(os.sched_getaffinity(0)) if config.threads is None else config.threads
    return Plan(**parts, seed=config.seed, threads=threads)


def tracker(config: DictConfig) -> track.Tracker:
    """Where runs are logged.

    Raises:
        ConfigError: as `plan`.
    """
    built: track.Tracker = instantiate(config.tracking, "tracking")
    return built


def prepare(logged: track.Tracker) -> None:
    """Make sure, before anything trains, that runs can be logged.

    Raises:
        ConfigError: for a tracking server or database that cannot be used.
    """
    try:
        logged.prepare()
    except ConfigError as error:
        raise error.under("tracking") from error


def job(config: DictConfig, *, folder: Path, choices: Mapping[str, str], overrides: list[str], swept: bool) -> Job:
    """What the configuration asks for, with all that its run leaves behind.

    Args:
        config: the composed configuration.
        folder: where the run's files go.
        choices: group to choice, as composed.
        overrides: the command line's overrides.
        swept: whether the run is a trial of a sweep.

    Raises:
        ConfigError: as `plan`.
    """
    sweep_name(config)
    given = [override for override in overrides if not override.startswith(_INTERNAL)]
    groups = {group: str(choice) for group, choice in choices.items() if not group.startswith("hydra/")}
    return Job(
        plan=plan(config),
        tracker=tracker(config),
        store=output(config) / "cache",
        folder=folder,
        name=folder.name,
        swept=dict(override.lstrip("+").split("=", 1) for override in given if "=" in override) if swept else {},
        params=groups | flat(config),
        config=OmegaConf.to_yaml(config, resolve=True),
        overrides=tuple(given),
    )


def output(config: DictConfig) -> Path:
    """The folder that everything is written to.

    Raises:
        ConfigError: when it is a file, or read-only.
    """
    folder = Path(str(config.output))
    nearest = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    # The superuser may write anywhere; a folder that nobody has write permission for is meant to be left alone all the same.
    if not nearest.is_dir() or not os.access(nearest, os.W_OK) or not nearest.stat().st_mode & 0o222:
        raise ConfigError(
            "output", "a folder that can be written to", f"{folder} (read-only)" if nearest.is_dir() else f"{folder} (a file)"
        )
    return folder


def sweep_name(config: DictConfig) -> str:
    """The name of the sweep, which names its folder.

    Raises:
        ConfigError: for anything but letters, digits, dots, dashes and underscores.
    """
    name = str(config.sweep.name)
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]*", name):
        raise ConfigError("sweep.name", "letters, digits, dots, dashes and underscores", name)
    return name


def flat(config: DictConfig) -> dict[str, str]:
    """Every leaf of the configuration but the `_target_`s, resolved: dotted key to text. A list is one leaf."""
    leaves: dict[str, str] = {}

    def walk(node: Any, path: str) -> None:
        if isinstance(node, dict) and node:
            for name, value in node.items():
                if name != "_target_":  # the group's choice says it shorter
                    walk(value, f"{path}.{name}" if path else str(name))
        else:
            leaves[path] = str(node)

    walk(OmegaConf.to_container(config, resolve=True), "")
    return leaves


def instantiate(node: Any, path: str) -> Any:
    """The object that a `_target_` node describes, built from the leaves up so that an error can name its key.

    Args:
        node: a configuration node, or a plain value, which is returned as it is (a list as a tuple).
        path: its dotted key.

    Raises:
        ConfigError: as `plan`.
    """
    try:
        if isinstance(node, ListConfig):
            return tuple(instantiate(item, f"{path}[{position}]") for position, item in enumerate(node))
        if not isinstance(node, DictConfig):
            return node
        values = {name: instantiate(node[name], f"{path}.{name}") for name in map(str, node) if name != "_target_"}
    except OmegaConfBaseException as error:
        raise ConfigError(path, "a value for every key", str(error).splitlines()[0]) from error
    if "_target_" not in node:
        return values
    try:
        target = get_class(node["_target_"])
    except (HydraException, ValueError, ImportError) as error:
        raise ConfigError(f"{path}._target_", "the dotted name of a class", str(node["_target_"])) from error
    try:
        return target(**values)
    except ConfigError as error:
        raise error.under(path) from error
    except TypeError as error:
        raise ConfigError(
            path, f"the keys of {target.__name__}", str(error).removeprefix(f"{target.__name__}.__init__() ")
        ) from error


def explain(error: BaseException) -> tuple[int, str]:
    """The exit code and the one line for an error: 2 for input that cannot be used, 1 for work that failed."""
    refusal = _refusal(error)
    if refusal is not None:
        return 2, str(refusal)
    return 1, f"{type(error).__name__}: {' '.join(str(error).split())}"


def _refusal(error: BaseException) -> ConfigError | None:
    """The error as a refusal of the user's input, where it is one."""
    if isinstance(error, ConfigError):
        return error
    first = (str(error).strip().splitlines() or [""])[0]
    if isinstance(error, MissingConfigException):
        missing = (error.missing_cfg_file or "").removesuffix(".yaml")
        group, _, choice = missing.rpartition("/")
        options = sorted(error.options or ())
        return ConfigError(group or "config", f"one of {', '.join(options)}" if options else "a known choice", choice)
    if isinstance(error, OverrideParseException):
        return ConfigError("command line", "KEY=VALUE in Hydra's grammar", f"{error.override} ({first})")
    if isinstance(error, ConfigCompositionException):
        cause = error.__cause__
        if isinstance(cause, (ConfigKeyError, ConfigAttributeError)):
            parent = cause.parent_node
            known = (
                [str(name) for name in parent if name not in ("_target_", "hydra")] if isinstance(parent, DictConfig) else []
            )
            near = difflib.get_close_matches(str(cause.key), known, n=1)
            hint = f" (did you mean {near[0]}?)" if near else ""
            return ConfigError(_parent(cause.full_key) or "config", f"one of the keys {', '.join(known)}{hint}", str(cause.key))
        return ConfigError("command line", "a key or group of the configuration", first.rstrip("."))
    if isinstance(error, OmegaConfBaseException):
        return ConfigError(str(error.full_key or "config"), "a value that can be resolved", first)
    if isinstance(error, (PermissionError, FileExistsError, NotADirectoryError)) or getattr(error, "errno", None) == EROFS:
        return ConfigError(
            "output",
            "a folder that can be written to",
            f"{getattr(error, 'filename', None)} ({getattr(error, 'strerror', error)})",
        )
    return None


def _parent(key: str | None) -> str:
    return (key or "").rpartition(".")[0]
