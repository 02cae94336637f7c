"""From the composed configuration to plain objects. Below the commands, the only module that sees a DictConfig."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from sweep.config import targets
from sweep.config.invocation import Invocation
from sweep.config.membership import Membership
from sweep.core import writable
from sweep.core.errors import ConfigError, require_integer, require_text
from sweep.core.protocols import require_part
from sweep.core.types import Data
from sweep.pipeline import own_metrics
from sweep.pipeline.plan import Job, Plan
from sweep.pipeline.protocols import Dataset
from sweep.tracking.tracker import Tracker

_PLAN_GROUPS = ("dataset", "model", "train", "distill", "prune", "cluster", "quant", "pipeline", "target", "metrics")


def plan(config: DictConfig) -> Plan:
    """What the configuration asks for, every value of it validated.

    Raises:
        ConfigError: for a key that its target does not take, a missing one, or a value out of range.
    """
    known = (*_PLAN_GROUPS, "tracking", "seed", "threads", "output", "sweep", "hydra")
    if unknown := [str(name) for name in config if name not in known]:
        raise ConfigError("config", f"no keys but {', '.join(known[:-1])}", unknown[0])
    parts = {name: instantiate(config[name], name) for name in _PLAN_GROUPS}
    built = Plan(**parts, seed=config.seed, threads=threads(config))
    own_metrics.add(built.metrics)
    return built


def metrics(config: DictConfig) -> None:
    """Add the configuration's own metrics to the table, for a sweep whose objectives may name them.

    Raises:
        ConfigError: as `plan`.
    """
    own_metrics.add(instantiate(config.metrics, "metrics"))


def require_keys(overrides: Sequence[str], keys: Sequence[str], command: str) -> None:
    """Refuse overrides of what a command does not use.

    Args:
        overrides: but for those of Hydra's own keys.
        keys: what it uses, each with all below it.
        command: its name.

    Raises:
        ConfigError: with the first that is of something else.
    """
    for override in overrides:
        key = re.split("[=@/]", override.lstrip("+~"))[0]
        if not any(key == known or key.startswith(f"{known}.") for known in keys):
            raise ConfigError("command line", f"keys out of {', '.join(keys)}, which {command} uses", override)


def images(config: DictConfig) -> Data:
    """The data alone.

    Raises:
        ConfigError: as `plan`, and for data that cannot be read.
    """
    dataset = instantiate(config.dataset, "dataset")
    require_part("dataset", dataset, Dataset)
    try:
        loaded: Data = dataset.load()
    except ConfigError as error:
        raise error.under("dataset") from error
    return loaded


def threads(config: DictConfig) -> int:
    """How many threads a run may have.

    Raises:
        ConfigError: for what is no such number.
    """
    given = cores() if config.threads is None else config.threads
    require_integer("threads", given, 1, 1024)
    return int(given)


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def tracker(config: DictConfig) -> Tracker:
    """Where runs are logged.

    Raises:
        ConfigError: as `plan`.
    """
    built: Tracker = instantiate(config.tracking, "tracking")
    return built


def prepare(logged: Tracker) -> None:
    """Make sure, before anything trains, that runs can be logged.

    Raises:
        ConfigError: for a tracking server or database that cannot be used.
    """
    try:
        logged.prepare()
    except ConfigError as error:
        raise error.under("tracking") from error


def job(config: DictConfig, invocation: Invocation) -> Job:
    """What the configuration asks for, with all that its run leaves behind.

    Args:
        config: the composed configuration.
        invocation: of the run.

    Raises:
        ConfigError: as `plan`; for a trial whose sweep has left no record; for references, which a single run does not show.
    """
    sweep_name(config)
    if (beside := references(config)) and not invocation.swept:
        raise ConfigError("sweep.references", "none in a single run: a sweep is shown beside them", str(beside[0]))
    folder, swept = invocation.folder, invocation.swept
    sweep = Membership.read(folder) if swept else None
    # A sweep gives its name to its trials; their user may not have given it one. References are the sweep's alone.
    given = [_masked(override) for override in invocation.overrides if not (swept and override.startswith("sweep."))]
    groups = {group: str(choice) for group, choice in invocation.choices.items() if not group.startswith("hydra/")}
    return Job(
        plan=plan(config),
        tracker=tracker(config),
        store=output(config) / "cache",
        folder=folder,
        name=folder.name,
        swept={} if sweep is None else {key: _masked(text) for key, text in sweep.swept.items()},
        params={key: _masked(text) for key, text in (groups | flat(config)).items() if key != "sweep.references"},
        config=_masked(OmegaConf.to_yaml(config, resolve=True)),
        overrides=tuple(given),
        front=None if sweep is None else sweep.front,
        limits={} if sweep is None else sweep.limits,
        parent_run_id=None if sweep is None else sweep.parent_run_id,
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
    writable.require_writable("output", folder.absolute())
    return folder


def sweep_name(config: DictConfig) -> str:
    """The name of the sweep, which names its folder.

    Raises:
        ConfigError: for anything but letters, digits, dots, dashes and underscores; for another key beside it.
    """
    if unknown := [str(key) for key in config.sweep if key not in ("name", "references")]:
        raise ConfigError("sweep", "one of the keys name, references", unknown[0])
    name = config.sweep.name
    if type(name) is int:  # 2024, say, in a YAML
        name = str(name)
    if not isinstance(name, str):
        raise ConfigError("sweep.name", "a text, which a YAML has in quotes where it looks like something else", repr(name))
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]{,199}", name):
        raise ConfigError("sweep.name", "letters, digits, dots, dashes and underscores, at most 200", repr(name))
    return name


def references(config: DictConfig) -> tuple[Path, ...]:
    """The files that a sweep is shown beside.

    Raises:
        ConfigError: for anything but a list of paths.
    """
    given = config.sweep.get("references")
    paths = OmegaConf.to_container(given, resolve=True) if isinstance(given, ListConfig) else given or []
    if not isinstance(paths, list) or not all(isinstance(path, str) and path and path.isprintable() for path in paths):
        raise ConfigError("sweep.references", "a list of files: [theirs.tflite,published.csv]", str(paths))
    return tuple(Path(path) for path in dict.fromkeys(paths))


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
