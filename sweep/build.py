"""From the composed configuration to plain objects. Below the commands, the only module that sees a DictConfig."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping
from errno import EROFS
from pathlib import Path
from typing import Any

from hydra.errors import (
    ConfigCompositionException,
    HydraException,
    InstantiationException,
    MissingConfigException,
    OverrideParseException,
)
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from sweep import targets, track
from sweep.plan import Job, Plan
from sweep.records import ConfigError, require_text, shortened

# What a sweep tells its trials, as against what its user asks for.
_INTERNAL = ("tracking.parent_run_id=", "sweep.name=", "sweep.axes=", "sweep.rivals=")
# The first word of a launcher of Hydra's, and the extra that brings it.
_EXTRAS = {"joblib": "joblib", "ray": "ray", "submitit": "slurm"}
# Mappings that a user adds keys to.
_OPEN = ("hydra.sweeper.objectives.", "hydra.sweeper.constraints.", "hydra.sweeper.params.")
# OmegaConf's words for people.
_KINDS = {"Integer": "an integer", "Float": "a number", "Boolean": "true or false"}
_PLAN_GROUPS = ("dataset", "model", "train", "distill", "prune", "cluster", "quant", "pipeline")


def plan(config: DictConfig) -> Plan:
    """What the configuration asks for, every value of it validated.

    Raises:
        ConfigError: for a key that its target does not take, a missing one, or a value out of range.
    """
    known = (*_PLAN_GROUPS, "tracking", "seed", "threads", "output", "sweep", "hydra")
    if unknown := [str(name) for name in config if name not in known]:
        raise ConfigError("config", f"no keys but {', '.join(known[:-1])}", unknown[0])
    parts = {name: instantiate(config[name], name) for name in _PLAN_GROUPS}
    threads = cores() if config.threads is None else config.threads
    return Plan(**parts, seed=config.seed, threads=threads)


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


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
    given = [_masked(override) for override in overrides if not (swept and override.startswith(_INTERNAL))]
    groups = {group: str(choice) for group, choice in choices.items() if not group.startswith("hydra/")}
    return Job(
        plan=plan(config),
        tracker=tracker(config),
        store=output(config) / "cache",
        folder=folder,
        name=folder.name,
        # The sweeper puts the axes first.
        swept=dict(override.lstrip("+").split("=", 1) for override in given[: config.sweep.axes]),
        params={key: _masked(text) for key, text in (groups | flat(config)).items()},
        config=_masked(OmegaConf.to_yaml(config, resolve=True)),
        overrides=tuple(given),
        rivals=None if config.sweep.rivals is None else Path(config.sweep.rivals),
    )


def output(config: DictConfig) -> Path:
    """The folder that everything is written to.

    Raises:
        ConfigError: when it is a file, or read-only.
    """
    require_text("output", config.output)
    if not config.output.isprintable():
        raise ConfigError("output", "a folder's name, on one line", config.output)
    folder = Path(config.output)
    track.require_writable("output", folder.absolute())
    return folder


def sweep_name(config: DictConfig) -> str:
    """The name of the sweep, which names its folder.

    Raises:
        ConfigError: for anything but letters, digits, dots, dashes and underscores.
    """
    name = config.sweep.name
    if type(name) is int:  # 2024, say, in a YAML
        name = str(name)
    if not isinstance(name, str):
        raise ConfigError("sweep.name", "a text, which a YAML has in quotes where it looks like something else", repr(name))
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]{,199}", name):
        raise ConfigError("sweep.name", "letters, digits, dots, dashes and underscores, at most 200", repr(name))
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


def instantiate(node: Any, group: str) -> Any:
    """The object that a group's node describes; the parts of an object are built before it, so that an error names its key.

    Args:
        node: the group's part of the configuration.
        group: its name.

    Raises:
        ConfigError: as `plan`.
    """
    return _built(node, group, targets.of_group(group))


def _built(node: Any, path: str, place: targets.Annotations) -> Any:
    """The object of a node with a `_target_`; a list as a tuple, a mapping as a dict, a plain value as it is.

    Args:
        node: a configuration node, or a plain value.
        path: its dotted key.
        place: what is taken there.

    Raises:
        ConfigError: as `plan`.
    """
    try:
        if isinstance(node, ListConfig):
            items = enumerate(node)
            return tuple(_built(item, f"{path}[{number}]", targets.of_item(place, number)) for number, item in items)
        if not isinstance(node, DictConfig):
            return node
        if "_target_" not in node:
            return {name: _built(node[name], f"{path}.{name}", targets.of_value(place)) for name in map(str, node)}
        target = targets.located(node["_target_"], place, path)
        takes = targets.parameters(target, path)
        given = [str(name) for name in node if name != "_target_"]
        if wrong := [name for name in given if name not in takes]:
            raise ConfigError(path, f"no keys but {', '.join(takes) or 'none at all'}", wrong[0])
        if absent := [name for name, parameter in takes.items() if name not in given and parameter.required]:
            raise ConfigError(path, f"the keys {', '.join(takes)}", f"no {absent[0]}")
        values = {name: _built(node[name], f"{path}.{name}", takes[name].place) for name in given}
    except OmegaConfBaseException as error:
        raise ConfigError(path, "a value for every key", str(error).splitlines()[0]) from error
    try:
        return target(**values)
    except ConfigError as error:
        raise error.under(path) from error
    except Exception as error:
        received = f"{type(error).__name__}: {error}"
        raise ConfigError(path, f"what {target.__module__}.{target.__qualname__} can be made of", received) from error


def _masked(text: str) -> str:
    """The text without the password of any address in it."""
    return re.sub(r"(?<=://)[^/@\s]+(?=@)", "***", text)


def explain(error: BaseException) -> tuple[int, str]:
    """The exit code and the one line for an error: 2 for input that cannot be used, 1 for work that failed."""
    refusal = _refusal(error)
    if refusal is not None:
        return 2, str(refusal)
    return 1, f"{type(error).__name__}: {shortened(str(error))}"


def _refusal(error: BaseException) -> ConfigError | None:
    """The error as a refusal of the user's input, where it is one."""
    if isinstance(error, ConfigError):
        return error
    first = (str(error).strip().splitlines() or [""])[0]
    if isinstance(error, MissingConfigException):
        missing = (error.missing_cfg_file or "").removesuffix(".yaml")
        group, _, choice = missing.rpartition("/")
        options = sorted(error.options or ())
        expected = f"one of {', '.join(options)}" if options else "a known choice"
        if group == "hydra/launcher" and (extra := _EXTRAS.get(choice.partition("_")[0])):
            expected += f", or first pip install -e '.[{extra}]'"
        return ConfigError(group or "config", expected, choice or first)
    if isinstance(error, OverrideParseException):
        return ConfigError("command line", "KEY=VALUE in Hydra's grammar", f"{error.override} ({first})")
    if isinstance(error, ConfigCompositionException):
        return _composition_refusal(error, first)
    if isinstance(error, ValueError) and first.startswith("Config group override must be"):
        return ConfigError("command line", "GROUP=CHOICE, with the name of a choice", first.rpartition("Got ")[2])
    if isinstance(error, InstantiationException):
        return _instantiation_refusal(error, first)
    if isinstance(error, OmegaConfBaseException):
        return ConfigError(str(error.full_key or "config"), "a value that can be resolved", first)
    if isinstance(error, (PermissionError, FileExistsError, NotADirectoryError)) or getattr(error, "errno", None) == EROFS:
        return ConfigError(
            "output",
            "a folder that can be written to",
            f"{getattr(error, 'filename', None)} ({getattr(error, 'strerror', error)})",
        )
    if isinstance(error, HydraException):
        return ConfigError("configuration", "what Hydra can compose", first)
    return None


def _instantiation_refusal(error: InstantiationException, first: str) -> ConfigError:
    """What a plugin of Hydra's could not be made of: where it says so itself, in its words."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ConfigError):
        cause = cause.__cause__
    return cause or ConfigError("hydra", "keys of Hydra, its sweeper and its launcher", first)


def _composition_refusal(error: ConfigCompositionException, first: str) -> ConfigError:
    """What Hydra could not compose, by its cause and the first line of what it says."""
    cause = error.__cause__
    if isinstance(cause, (ConfigKeyError, ConfigAttributeError)):
        full, parent = str(cause.full_key), cause.parent_node
        if full.startswith(_OPEN):
            return ConfigError(full, f"a + before a key that is new there (+{full}=VALUE)", full)
        known = [str(name) for name in parent if name not in ("_target_", "hydra")] if isinstance(parent, DictConfig) else []
        near = difflib.get_close_matches(str(cause.key), known, n=1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        expected = f"one of the keys {', '.join(known)}{hint}" if known else "no keys (this choice has none)"
        return ConfigError(_parent(cause.full_key) or "config", expected, str(cause.key))
    if refused := re.match(r"Error merging override (\S+?)=(.*)", first):
        kind = re.search(r"could not be converted to (\w+)", str(cause))
        return ConfigError(refused[1], _KINDS.get(kind[1] if kind else "", "a value of its kind"), refused[2])
    if there := re.match(r"Could not append to config\. An item is already at '(.+?)'", first):
        return ConfigError("command line", f"{there[1]} without a +, since there is one", f"+{there[1]}")
    if first.startswith("Could not delete from config."):
        return ConfigError("command line", "after ~ a key that there is, with no value or its own", first)
    if unfit := re.match(r"In '(.+?)': \w+ raised while composing config:", first):
        return ConfigError(f"{unfit[1]}.yaml", "keys and values that fit the configuration", _second_line(error))
    absent = re.match(r"Could not override '(.+?)'", first)
    expected = "a key or group of the configuration (a teacher's group is there with distill=kd)"
    return ConfigError("command line", expected, absent[1] if absent else first.rstrip("."))


def _second_line(error: Exception) -> str:
    return (*str(error).splitlines(), "")[1]


def _parent(key: str | None) -> str:
    return (key or "").rpartition(".")[0]
