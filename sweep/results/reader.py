"""Reads the records of a sweep from its folder."""

from __future__ import annotations

import difflib
import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sweep.core import jsonfiles
from sweep.core.errors import ConfigError, require_choice
from sweep.core.jsonfiles import get, texts
from sweep.core.metric import Metric
from sweep.core.metrics import METRICS, extend
from sweep.core.trial_files import TrialFile
from sweep.results import pareto, references
from sweep.results.constraints import Bound
from sweep.results.sweeps import BASELINES, TECHNIQUES, Baseline, Limits, Sweep, Trial

_STATES = ("COMPLETE", "FAIL", "PRUNED", "RUNNING", "WAITING")


def find(output: Path, name: str) -> Path:
    """Finds the folder of a sweep by its name.

    Args:
        output: the folder that runs write to (`mlruns`).
        name: the sweep's name.

    Raises:
        ConfigError: for an unknown name, with similar ones.
    """
    sweeps = output / "sweeps"
    folder = sweeps / name
    if Path(name).name == name and (folder / "sweep.json").is_file():
        return folder
    known = sorted(path.parent.name for path in sweeps.glob("*/sweep.json"))
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5) or known[-3:]
    expected = f"the name of a sweep under {sweeps}" + (f", such as {', '.join(near)}" if near else " (there is none)")
    raise ConfigError("NAME", expected, f"{name} (a folder without sweep.json)" if folder.is_dir() else name)


def read(folder: Path) -> Sweep:
    """Reads the sweep in a folder.

    Raises:
        ConfigError: for a folder without a sweep, or a damaged record.
    """
    path = folder / "sweep.json"
    record = jsonfiles.read(path)
    allowed = limits(path, record)
    objectives = texts(path, record, "objectives")
    if not 1 <= len(objectives) <= pareto.MAX_OBJECTIVES:
        raise ConfigError(f"{path}: objectives", f"1 to {pareto.MAX_OBJECTIVES} metrics", len(objectives))
    for metric, direction in objectives.items():
        require_choice(f"{path}: objectives", metric, tuple(METRICS))
        require_choice(f"{path}: objectives.{metric}", direction, tuple(pareto.SIGNS))
    constraints = texts(path, record, "constraints")
    trials = map(trial, trial_folders(folder))
    importances = get(path, record, "importances", dict, {})
    return Sweep(
        folder=folder,
        name=get(path, record, "name", str),
        command=get(path, record, "command", str),
        axes=texts(path, record, "axes"),
        objectives=objectives,
        constraints=constraints,
        limits=allowed,
        sampler=get(path, record, "sampler", str, None),
        n_trials=get(path, record, "n_trials", int, None),
        seed=get(path, record, "seed", int, None),
        started=jsonfiles.seconds(path, record, "started"),
        ended=jsonfiles.seconds(path, record, "ended"),
        importances={
            metric: {axis: get(path, shares, axis, float) for axis in shares}
            for metric in importances
            if (shares := get(path, importances, metric, dict, {}))
        },
        status=get(path, record, "status", str, ""),
        trials=tuple(trials),
        references=references.read(folder),
    )


def limits(path: Path, record: Mapping[str, Any]) -> Limits:
    """The constraints of a sweep: metric to (lowest, highest) allowed value.

    The user's own metrics of the sweep are added to the table of metrics.

    Args:
        path: the path of the sweep's record, for the error.
        record: the content of the record.

    Raises:
        ConfigError: for a metric or a bound that cannot be read.
    """
    own = get(path, record, "metrics", dict, {})
    extend({name: Metric.of_record(path, get(path, own, name, dict)) for name in own})
    constraints = texts(path, record, "constraints")
    return {metric: _limit(f"{path}: constraints.{metric}", metric, text) for metric, text in constraints.items()}


def trial_folders(folder: Path) -> list[Path]:
    """The paths in a sweep's folder that are named as trials, ordered by number."""
    numbers = (int(path.name[6:]) for path in folder.iterdir() if re.fullmatch(r"trial-\d{3,9}", path.name))
    folders = (folder / trial_name(number) for number in sorted(numbers))
    return [path for path in folders if os.path.lexists(path)]


def trial_name(number: int) -> str:
    """The name of a trial, and of its folder."""
    return f"trial-{number:03d}"


def trial(folder: Path) -> Trial:
    """Reads the trial in a folder `trial-NNN`.

    Raises:
        ConfigError: for a damaged record, or that of another trial.
    """
    path, number = folder / "trial.json", int(folder.name.removeprefix("trial-"))
    if not folder.is_dir():
        raise ConfigError(str(folder), "the folder of a trial", "something else")
    if not os.path.lexists(path):
        return Trial(number, "RUNNING", {}, {}, {}, {}, (), None, None, None, {}, folder)
    record = jsonfiles.read(path)
    state = get(path, record, "state", str)
    require_choice(f"{path}: state", state, _STATES)
    if (recorded := get(path, record, "number", int)) != number:
        raise ConfigError(f"{path}: number", str(number), recorded)
    metrics: dict[str, float] = {}
    baselines: list[Baseline] = []
    if state == "COMPLETE":
        measured = jsonfiles.read(where := folder / TrialFile.METRICS)
        metrics = {name: get(where, measured, name, float, math.nan) for name in METRICS}
        if (where := folder / TrialFile.BASELINES).is_file():
            recorded_baselines = jsonfiles.read(where)
            baselines = _baselines(
                where, {role: get(where, recorded_baselines, role, dict) for role in BASELINES if role in recorded_baselines}
            )
    known: dict[str, float] = {}
    if state == "PRUNED" and (where := folder / TrialFile.KNOWN).is_file():
        estimates = jsonfiles.read(where)
        known = {name: get(where, estimates, name, float) for name in METRICS if name in estimates}
    error = get(path, record, "error", str, None)
    data = folder / TrialFile.DATA
    facts = jsonfiles.read(data) if data.is_file() else {}
    techniques = _techniques(data, facts.pop("techniques", None))
    class_names = _class_names(data, facts.pop("class_names", []))
    return Trial(
        number=number,
        state=state,
        overrides=texts(path, record, "overrides"),
        fixed=texts(path, record, "fixed"),
        metrics=metrics,
        known=known,
        baselines=tuple(baselines),
        seconds=jsonfiles.seconds(path, record, "seconds"),
        error=None if error is None else " ".join(error.split()),
        run_id=get(path, record, "run_id", str, None),
        facts={str(name): str(value) for name, value in facts.items()},
        folder=folder,
        recorded_techniques=techniques,
        class_names=class_names,
    )


def _techniques(path: Path, recorded: object) -> frozenset[str] | None:
    """The techniques in a record; None for a record without them."""
    if recorded is None:
        return None
    if not isinstance(recorded, list) or not all(name in TECHNIQUES for name in recorded):
        raise ConfigError(f"{path}: techniques", f"a list of {', '.join(TECHNIQUES)}", recorded)
    return frozenset(recorded)


def _class_names(path: Path, recorded: object) -> tuple[str, ...]:
    """The names of the classes in a record."""
    if not isinstance(recorded, list) or not all(isinstance(name, str) for name in recorded):
        raise ConfigError(f"{path}: class_names", "a list of texts", recorded)
    return tuple(recorded)


def _baselines(path: Path, records: Mapping[str, dict[str, Any]]) -> list[Baseline]:
    sizes: dict[str, int] = {role: get(path, record, "size_bytes", int) for role, record in records.items()}
    for role, size in sizes.items():
        if size < 1:
            raise ConfigError(f"{path}: {role}.size_bytes", "at least 1", size)
    return [
        Baseline(
            role=role,
            name=get(path, record, "name", str),
            size_bytes=sizes[role],
            val_accuracy=get(path, record, "val_accuracy", float, math.nan),
            test_accuracy=get(path, record, "test_accuracy", float, math.nan),
            compression=sizes.get("start", sizes[role]) / sizes[role],
        )
        for role, record in records.items()
    ]


def _limit(where: str, metric: str, text: str) -> tuple[float, float]:
    """Parses a constraint to its (lowest, highest) allowed value."""
    require_choice(where, metric, tuple(METRICS))
    if (bound := Bound.parse(text)) is None:
        raise ConfigError(where, "<=, >=, < or > and a number", text)
    return bound.limits
