"""The records of a sweep, read back from its folder."""

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
    """The folder of a sweep.

    Args:
        output: the folder that runs write to (`mlruns`).
        name: the sweep's name.

    Raises:
        ConfigError: for a name that no sweep has, with the nearest ones.
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
    """The sweep in a folder.

    Raises:
        ConfigError: for a folder that is no sweep's, or a record that is damaged.
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
    """The constraints of a sweep: metric to the lowest and the highest value that they allow.

    The metrics of the user's own that its trials are measured by are added to the table.

    Args:
        path: of the sweep's record.
        record: its content.

    Raises:
        ConfigError: for a metric or a bound that cannot be read.
    """
    own = get(path, record, "metrics", dict, {})
    extend({name: Metric.of_record(path, get(path, own, name, dict)) for name in own})
    constraints = texts(path, record, "constraints")
    return {metric: _limit(f"{path}: constraints.{metric}", metric, text) for metric, text in constraints.items()}


def trial_folders(folder: Path) -> list[Path]:
    """What is named as a trial is in a sweep's folder, by number."""
    numbers = (int(path.name[6:]) for path in folder.iterdir() if re.fullmatch(r"trial-\d{3,9}", path.name))
    folders = (folder / trial_name(number) for number in sorted(numbers))
    return [path for path in folders if os.path.lexists(path)]


def trial_name(number: int) -> str:
    """The name of a trial, and of its folder."""
    return f"trial-{number:03d}"


def trial(folder: Path) -> Trial:
    """The trial in a folder `trial-NNN`.

    Raises:
        ConfigError: for a record that is damaged, or of another trial.
    """
    path, named = folder / "trial.json", int(folder.name.removeprefix("trial-"))
    if not folder.is_dir():
        raise ConfigError(str(folder), "the folder of a trial", "something else")
    if not os.path.lexists(path):
        return Trial(named, "RUNNING", {}, {}, {}, {}, (), None, None, None, {}, folder)
    record = jsonfiles.read(path)
    state = get(path, record, "state", str)
    require_choice(f"{path}: state", state, _STATES)
    if (given := get(path, record, "number", int)) != named:
        raise ConfigError(f"{path}: number", str(named), given)
    metrics: dict[str, float] = {}
    baselines: list[Baseline] = []
    if state == "COMPLETE":
        measured = jsonfiles.read(where := folder / TrialFile.METRICS)
        metrics = {name: get(where, measured, name, float, math.nan) for name in METRICS}
        if (where := folder / TrialFile.BASELINES).is_file():
            found = jsonfiles.read(where)
            baselines = _baselines(where, {role: get(where, found, role, dict) for role in BASELINES if role in found})
    known: dict[str, float] = {}
    if state == "PRUNED" and (where := folder / TrialFile.KNOWN).is_file():
        before = jsonfiles.read(where)
        known = {name: get(where, before, name, float) for name in METRICS if name in before}
    error = get(path, record, "error", str, None)
    data = folder / TrialFile.DATA
    facts = jsonfiles.read(data) if data.is_file() else {}
    techniques = _techniques(data, facts.pop("techniques", None))
    return Trial(
        number=named,
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
    )


def _techniques(path: Path, recorded: object) -> frozenset[str] | None:
    """The techniques that a record names; None where it says nothing about them."""
    if recorded is None:
        return None
    if not isinstance(recorded, list) or not all(name in TECHNIQUES for name in recorded):
        raise ConfigError(f"{path}: techniques", f"a list of {', '.join(TECHNIQUES)}", recorded)
    return frozenset(recorded)


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
    """A constraint's text as the lowest and the highest value that it allows."""
    require_choice(where, metric, tuple(METRICS))
    if (bound := Bound.parse(text)) is None:
        raise ConfigError(where, "<=, >=, < or > and a number", text)
    return bound.limits
