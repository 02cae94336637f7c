"""The records of a sweep, read back from its folder: its trials, and how its candidates rank.

Scope: `sweep.json` and, in each `trial-NNN/`, `trial.json`, `metrics.json`, `baselines.json`, `data.json` and `config.yaml`,
checked and turned into frozen dataclasses, and the front over them. A trial without a `trial.json` has not got far: it counts
as RUNNING. Trials that are equal but for their seed are one candidate, judged by its mean. Nothing here writes or draws. The
command line that names a sweep is here too, since several commands have it.
"""

from __future__ import annotations

import argparse
import difflib
import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sweep import arguments, jsonfiles, pareto
from sweep.jsonfiles import get, texts
from sweep.records import ConfigError, Metrics, require_choice

METRICS = tuple(field.name for field in fields(Metrics))
SEED = "seed"
TECHNIQUES = ("distill", "prune", "cluster", "quant")
BASELINES = ("start", "student")

_DEEPEST = 100  # levels of a composed configuration
_STATES = ("COMPLETE", "FAIL", "PRUNED", "RUNNING", "WAITING")
_IDLE = {"distill": "NoDistillation", "prune": "NoPruning", "cluster": "NoClustering", "quant": "Float32"}
"""The class, in each group, that does nothing."""
_RATIOS = ("size_bytes", "gzip_bytes", "parameters", "nonzero_parameters", "macs", "latency_ms", "compression")
"""Metrics of which ratios count, not differences: the knee and the hypervolume see their logarithm."""

Limits = Mapping[str, tuple[float, float]]
"""Metric to its (lowest, highest) allowed value."""


@dataclass(frozen=True)
class Baseline:
    """The float32 file of a network that was not compressed.

    Attributes:
        role: `start`, what the trial started from (its teacher where it has one), or `student`, the student before compression.
        name: the stage that made it.
        size_bytes: bytes of the file.
        val_accuracy: of the file, in [0, 1].
        test_accuracy: of the file, in [0, 1].
        compression: bytes of the start's file over its own.
    """

    role: str
    name: str
    size_bytes: int
    val_accuracy: float
    test_accuracy: float
    compression: float

    @property
    def efficiency(self) -> float:
        """Test accuracy in per cent per KiB."""
        return 100 * self.test_accuracy / (self.size_bytes / 1024)


@dataclass(frozen=True, eq=False)
class Trial:
    """One trial.

    Attributes:
        number: its number in the sweep.
        state: Optuna's word: COMPLETE, FAIL, PRUNED, RUNNING or WAITING.
        overrides: override key to text, for what the sweep varies.
        fixed: the same for what it holds constant.
        metrics: every metric by name, NaN where it is not known; empty unless COMPLETE.
        baselines: none, unless COMPLETE.
        seconds: wall time; None while it is not known.
        error: why it is not COMPLETE, in one line.
        run_id: of its run in MLflow; None where it has none.
        facts: what `data.json`, where there is one, says of its data (`dataset`, `data_hash`, `split_hash`), as text.
        folder: where its files are.
    """

    number: int
    state: str
    overrides: Mapping[str, str]
    fixed: Mapping[str, str]
    metrics: Mapping[str, float]
    baselines: tuple[Baseline, ...]
    seconds: float | None
    error: str | None
    run_id: str | None
    facts: Mapping[str, str]
    folder: Path

    @property
    def complete(self) -> bool:
        """Whether it has a measured file."""
        return self.state == "COMPLETE"

    @property
    def finished(self) -> bool:
        """Whether it has ended, with whatever result."""
        return self.state in ("COMPLETE", "FAIL", "PRUNED")

    @property
    def point(self) -> tuple[str, ...]:
        """Its overrides as on the command line."""
        return tuple(f"{key}={text}" for key, text in self.overrides.items())

    @property
    def without_seed(self) -> tuple[tuple[str, str], ...]:
        """What it has in common with its repeats under other seeds."""
        return tuple(sorted((key, text) for key, text in self.overrides.items() if key != SEED))

    def config(self) -> dict[str, Any]:
        """The composed configuration.

        Raises:
            ConfigError: when it is missing or no YAML mapping.
        """
        import yaml

        path, loader = self.folder / "config.yaml", getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        try:
            if not path.is_file():
                received = "no regular file" if os.path.lexists(path) else "nothing"
                raise ConfigError(str(path), "the composed configuration in YAML", received)
            content = path.read_bytes()
            if _depth(yaml.parse(content, Loader=loader)) > _DEEPEST:
                raise ConfigError(str(path), "the composed configuration in YAML", "values nested too deeply")
            config = yaml.load(content, Loader=loader)  # noqa: S506 - a safe one
        except (OSError, yaml.YAMLError, ValueError, RecursionError) as error:
            if isinstance(error, ConfigError):
                raise
            raise ConfigError(str(path), "the composed configuration in YAML", f"{type(error).__name__}: {error}") from error
        if not isinstance(config, dict):
            raise ConfigError(str(path), "the composed configuration in YAML", type(config).__name__)
        return config

    def techniques(self) -> frozenset[str]:
        """Which of distillation, pruning and quantisation it uses, read from its configuration.

        Raises:
            ConfigError: as `config`.
        """
        config, used = self.config(), set()
        for group in TECHNIQUES:
            node = config.get(group)
            node = node if isinstance(node, dict) else {}
            kind = str(node.get("_target_", _IDLE[group])).rpartition(".")[2]
            if kind != _IDLE[group] and not (group == "prune" and node.get("sparsity") == 0):
                used.add(group)
        return frozenset(used)


@dataclass(frozen=True, eq=False)
class Sweep:
    """A sweep, as far as it has come.

    Attributes:
        folder: where it is.
        name: its name.
        command: the command line that makes it again.
        axes: override key to the text of its axis.
        objectives: one to four metrics, each with "maximize" or "minimize".
        constraints: metric to text, as given (`<=50000`).
        limits: the same as numbers.
        sampler: who chose the points; None for an exact grid.
        n_trials: how many a search was to have; None for a grid.
        seed: the sampler's.
        started: seconds since the epoch.
        ended: the same; None for a sweep that has not ended.
        importances: objective to axis to importance in [0, 1]; may be empty.
        status: how it ended, or that it runs.
        trials: by number.
    """

    folder: Path
    name: str
    command: str
    axes: Mapping[str, str]
    objectives: Mapping[str, str]
    constraints: Mapping[str, str]
    limits: Limits
    sampler: str | None
    n_trials: int | None
    seed: int | None
    started: float | None
    ended: float | None
    importances: Mapping[str, Mapping[str, float]]
    status: str
    trials: tuple[Trial, ...]

    @property
    def complete(self) -> tuple[Trial, ...]:
        """The trials that have a measured file."""
        return tuple(trial for trial in self.trials if trial.complete)

    @property
    def keys(self) -> tuple[str, ...]:
        """Every swept override key: the axes in their order, then what else a trial was given."""
        return tuple(dict.fromkeys([*self.axes, *(key for trial in self.trials for key in trial.overrides)]))

    def values(self, key: str) -> tuple[str, ...]:
        """The different texts that the complete trials have for a key, numbers in their order; "" where it does not apply."""
        texts = dict.fromkeys(trial.overrides.get(key, "") for trial in self.complete)
        numbers = {text: number(text) if text else -math.inf for text in texts}
        return tuple(texts) if any(map(math.isnan, numbers.values())) else tuple(sorted(texts, key=numbers.__getitem__))


@dataclass(frozen=True, eq=False)
class Candidate:
    """A complete trial, or all those that are equal but for their seed.

    Attributes:
        trials: by number, at least one.
        mean: metric to mean.
        deviation: metric to sample standard deviation; NaN for a single trial.
        feasible: whether the means are known and keep the constraints.
    """

    trials: tuple[Trial, ...]
    mean: Mapping[str, float]
    deviation: Mapping[str, float]
    feasible: bool

    @property
    def number(self) -> int:
        """The number of its first trial."""
        return self.trials[0].number

    @property
    def overrides(self) -> dict[str, str]:
        """The overrides of its trials; of several seeds, all."""
        seeds = [trial.overrides[SEED] for trial in self.trials if SEED in trial.overrides]
        return {**self.trials[0].overrides, **({SEED: " ".join(seeds)} if seeds else {})}


@dataclass(frozen=True, eq=False)
class Ranking:
    """The candidates of a sweep and the front among them.

    Attributes:
        candidates: by number.
        points: float64 (candidates, objectives), as `seen`.
        front: rows of the feasible candidates that none dominates, best accuracy (or else best first objective) first.
        knee: the row of the front's best compromise; None without a front.
    """

    candidates: tuple[Candidate, ...]
    points: pareto.Floats
    front: tuple[int, ...]
    knee: int | None

    @property
    def known(self) -> pareto.Mask:
        """Which candidates have a number for every objective: bool (candidates,)."""
        return np.asarray(~np.isnan(self.points).any(axis=1))

    @property
    def repeated(self) -> bool:
        """Whether any candidate was repeated under several seeds."""
        return any(len(candidate.trials) > 1 for candidate in self.candidates)

    def on_front(self) -> tuple[Candidate, ...]:
        """The front's candidates."""
        return tuple(self.candidates[row] for row in self.front)


def number(text: str) -> float:
    """The finite number that a text says; NaN for anything else."""
    try:
        value = float(text)
    except ValueError:
        return math.nan
    return value if math.isfinite(value) else math.nan


def accuracy_first(objectives: Mapping[str, str]) -> str:
    """The objective that leads: the first accuracy, or else the first of all."""
    return next((name for name in objectives if name.endswith("_accuracy")), next(iter(objectives)))


def rank(sweep: Sweep) -> Ranking:
    """The candidates of a sweep and their front."""
    members: dict[object, list[Trial]] = {}
    for trial in sweep.complete:
        members.setdefault(trial.without_seed if SEED in trial.overrides else trial.number, []).append(trial)
    labels = [label for label, trials in members.items() for _ in trials]
    table = [[trial.metrics[name] for name in METRICS] for trials in members.values() for trial in trials]
    repeats = pareto.repeats(labels, np.array(table, dtype=np.float64).reshape(-1, len(METRICS)))
    columns = dict(zip(METRICS, repeats.mean.T, strict=True))
    known = ~np.isnan(pareto.oriented(columns, sweep.objectives)).any(axis=1)
    feasible = known & (pareto.violation(columns, sweep.limits) == 0)
    candidates = tuple(
        Candidate(tuple(trials), _named(mean), _named(deviation), bool(fits))
        for trials, mean, deviation, fits in zip(members.values(), repeats.mean, repeats.deviation, feasible, strict=True)
    )
    points = seen(columns, sweep.objectives)
    rows = np.flatnonzero(feasible)
    rows = rows[pareto.front(pareto.oriented(columns, sweep.objectives)[rows])]
    lead = list(sweep.objectives).index(accuracy_first(sweep.objectives))
    ordered = rows[np.lexsort((rows, *points[rows].T[::-1], points[rows, lead]))]
    knee = pareto.knee(points[ordered]) if len(ordered) else None
    return Ranking(candidates, points, tuple(ordered.tolist()), None if knee is None else int(ordered[knee]))


def seen(columns: Mapping[str, npt.ArrayLike], objectives: Mapping[str, str]) -> pareto.Floats:
    """The points as the knee and the hypervolume see them: smaller is better, logarithms (base 2) where ratios count.

    Args:
        columns: metric to n numbers.
        objectives: metric to direction.

    Returns:
        float64 (n, objectives), NaN where unknown.
    """
    turned = {name: np.log2(np.maximum(columns[name], 1e-9)) if name in _RATIOS else columns[name] for name in objectives}
    return pareto.oriented(turned, objectives)


def _named(row: pareto.Floats) -> dict[str, float]:
    return dict(zip(METRICS, row.tolist(), strict=True))


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
    objectives = texts(path, record, "objectives")
    if not 1 <= len(objectives) <= pareto.MAX_OBJECTIVES:
        raise ConfigError(f"{path}: objectives", f"1 to {pareto.MAX_OBJECTIVES} metrics", len(objectives))
    for metric, direction in objectives.items():
        require_choice(f"{path}: objectives", metric, METRICS)
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
        limits={metric: _limit(f"{path}: constraints.{metric}", metric, text) for metric, text in constraints.items()},
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
    )


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
        return Trial(named, "RUNNING", {}, {}, {}, (), None, None, None, {}, folder)
    record = jsonfiles.read(path)
    state = get(path, record, "state", str)
    require_choice(f"{path}: state", state, _STATES)
    if (given := get(path, record, "number", int)) != named:
        raise ConfigError(f"{path}: number", str(named), given)
    metrics: dict[str, float] = {}
    baselines: list[Baseline] = []
    if state == "COMPLETE":
        measured = jsonfiles.read(where := folder / "metrics.json")
        metrics = {name: get(where, measured, name, float, math.nan) for name in METRICS}
        if (where := folder / "baselines.json").is_file():
            found = jsonfiles.read(where)
            baselines = _baselines(where, {role: get(where, found, role, dict) for role in BASELINES if role in found})
    error = get(path, record, "error", str, None)
    facts = jsonfiles.read(where) if (where := folder / "data.json").is_file() else {}
    return Trial(
        number=named,
        state=state,
        overrides=texts(path, record, "overrides"),
        fixed=texts(path, record, "fixed"),
        metrics=metrics,
        baselines=tuple(baselines),
        seconds=jsonfiles.seconds(path, record, "seconds"),
        error=None if error is None else " ".join(error.split()),
        run_id=get(path, record, "run_id", str, None),
        facts={str(name): str(value) for name, value in facts.items()},
        folder=folder,
    )


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
    require_choice(where, metric, METRICS)
    match = re.fullmatch(r"\s*([<>])(=?)\s*(\S+)\s*", text)
    if match is None or math.isnan(bound := number(match[3])):
        raise ConfigError(where, "<=, >=, < or > and a number", text)
    toward = -math.inf if match[1] == "<" else math.inf
    bound = bound if match[2] else math.nextafter(bound, toward)
    return (-math.inf, bound) if match[1] == "<" else (bound, math.inf)


def _depth(events: Iterable[Any]) -> int:
    """How deep a YAML document nests. The loader in C recurses, and takes the process down past some tens of thousands."""
    depth = deepest = 0
    for event in events:
        kind = type(event).__name__
        depth += kind.endswith(("SequenceStartEvent", "MappingStartEvent"))
        depth -= kind.endswith(("SequenceEndEvent", "MappingEndEvent"))
        deepest = max(deepest, depth)
    return deepest


class CommandLine(arguments.CommandLine):
    """The command line of what works on a sweep: its NAME, and `--output`."""

    def __init__(self, prog: str, description: str) -> None:
        super().__init__(prog=prog, description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
        self.add_argument("name", metavar="NAME", help="the sweep: the name of its folder under OUTPUT/sweeps/")
        self.add_argument("--output", type=Path, default=Path("mlruns"), help="the folder that runs write to (mlruns)")


def shown(overrides: Mapping[str, str], keys: Sequence[str] | None = None) -> str:
    """Overrides as on the command line, one space between them; only `keys`, where given."""
    return " ".join(f"{key}={text}" for key, text in overrides.items() if keys is None or key in keys)
