"""Builds plain objects from the composed configuration, so that the packages below see no DictConfig."""

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
from sweep.pipeline.protocols import Dataset, Target
from sweep.tracking.tracker import Tracker

_PLAN_GROUPS = ("dataset", "model", "train", "distill", "prune", "cluster", "quant", "pipeline", "target", "metrics")


def plan(config: DictConfig) -> Plan:
    """The plan of a configuration, with every value validated.

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
    """Adds the user's own metrics to the table of metrics, since a sweep's objectives may name them.

    Raises:
        ConfigError: for an invalid key or value of a metric.
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


def target(config: DictConfig) -> Target:
    """What a file is for.

    Raises:
        ConfigError: as `plan`, and for a target that is not installed.
    """
    built = instantiate(config.target, "target")
    require_part("target", built, Target)
    chosen: Target = built
    try:
        chosen.check()
    except ConfigError as error:
        raise error.under("target") from error
    return chosen


def threads(config: DictConfig) -> int:
    """How many threads a run may have.

    Raises:
        ConfigError: for what is no such number.
    """
    count = cores() if config.threads is None else config.threads
    require_integer("threads", count, 1, 1024)
    return int(count)


def cores() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def tracker(config: DictConfig) -> Tracker:
    """The tracker of a configuration.

    Raises:
        ConfigError: for an invalid key or value of the tracker.
    """
    built: Tracker = instantiate(config.tracking, "tracking")
    return built


def prepare(runs_tracker: Tracker) -> None:
    """Checks, before anything trains, that the tracker can log runs.

    Raises:
        ConfigError: for a tracking server or database that cannot be used.
    """
    try:
        runs_tracker.prepare()
    except ConfigError as error:
        raise error.under("tracking") from error


def job(config: DictConfig, invocation: Invocation) -> Job:
    """The job of a run: its plan, its tracker, its folders and its record.

    Args:
        config: the composed configuration.
        invocation: the run's folder, choices and overrides.

    Raises:
        ConfigError: as `plan`; for a trial whose sweep has left no record; for references, which a single run does not show.
    """
    sweep_name(config)
    if (beside := references(config)) and not invocation.swept:
        raise ConfigError("sweep.references", "none in a single run: a sweep is shown beside them", str(beside[0]))
    folder, swept = invocation.folder, invocation.swept
    sweep = Membership.read(folder) if swept else None
    # A sweep gives its name to its trials; their user may not have given it one. References are the sweep's alone.
    overrides = [_masked(override) for override in invocation.overrides if not (swept and override.startswith("sweep."))]
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
        overrides=tuple(overrides),
        front=None if sweep is None else sweep.front,
        limits={} if sweep is None else sweep.limits,
        parent_run_id=None if sweep is None else sweep.parent_run_id,
    )


def output(config: DictConfig) -> Path:
    """The output folder.

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
    """The name of the sweep, which is the name of its folder.

    Raises:
        ConfigError: for a name with other characters than letters, digits, dots, dashes and underscores; for another key under
            `sweep`.
    """
    if unknown := [str(key) for key in config.sweep if key not in ("name", "references")]:
        raise ConfigError("sweep", "one of the keys name, references", unknown[0])
    name = config.sweep.name
    if type(name) is int:  # such as 2024 in a YAML file
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
    node = config.sweep.get("references")
    paths = OmegaConf.to_container(node, resolve=True) if isinstance(node, ListConfig) else node or []
    if not isinstance(paths, list) or not all(isinstance(path, str) and path and path.isprintable() for path in paths):
        raise ConfigError("sweep.references", "a list of files: [theirs.tflite,published.csv]", str(paths))
    return tuple(Path(path) for path in dict.fromkeys(paths))


def flat(config: DictConfig) -> dict[str, str]:
    """The resolved leaves of the configuration without the `_target_`s: dotted key to text. A list is one leaf."""
    leaves: dict[str, str] = {}

    def walk(node: Any, path: str) -> None:
        if isinstance(node, dict) and node:
            for name, value in node.items():
                if name != "_target_":  # the group's choice already names it
                    walk(value, f"{path}.{name}" if path else str(name))
        else:
            leaves[path] = str(node)

    walk(OmegaConf.to_container(config, resolve=True), "")
    return leaves


def instantiate(node: Any, group: str) -> Any:
    """Instantiates a group's node, bottom-up, so that an error names the key of the part.

    Args:
        node: the node of the group.
        group: the name of the group.

    Raises:
        ConfigError: for an invalid key, a missing one, or a value out of range.
    """
    return _built(node, group, targets.of_group(group))


def _built(node: Any, path: str, annotations: targets.Annotations) -> Any:
    """Instantiates a node with a `_target_`; a list becomes a tuple, a mapping a dict, and a plain value stays.

    Args:
        node: a configuration node, or a plain value.
        path: the dotted key of the node.
        annotations: those of which the object must satisfy one.

    Raises:
        ConfigError: for an invalid key, a missing one, or a value out of range.
    """
    try:
        if isinstance(node, ListConfig):
            items = enumerate(node)
            return tuple(_built(item, f"{path}[{number}]", targets.of_item(annotations, number)) for number, item in items)
        if not isinstance(node, DictConfig):
            return node
        if "_target_" not in node:
            return {name: _built(node[name], f"{path}.{name}", targets.of_value(annotations)) for name in map(str, node)}
        target = targets.resolve(node["_target_"], annotations, path)
        accepted = targets.parameters(target, path)
        present = [str(name) for name in node if name != "_target_"]
        if unknown := [name for name in present if name not in accepted]:
            raise ConfigError(path, f"no keys but {', '.join(accepted) or 'none at all'}", unknown[0])
        if missing := [name for name, parameter in accepted.items() if name not in present and parameter.required]:
            raise ConfigError(path, f"the keys {', '.join(accepted)}", f"no {missing[0]}")
        values = {name: _built(node[name], f"{path}.{name}", accepted[name].accepted) for name in present}
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
    """The text with the credentials of every URL masked."""
    return re.sub(r"(?<=://)[^/@\s]+(?=@)", "***", text)
