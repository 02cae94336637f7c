"""The ranking of a sweep's candidates: means over seeds, the Pareto front and the knee."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from sweep.core.metric import Kind
from sweep.core.metrics import METRICS
from sweep.results import pareto
from sweep.results.sweeps import SEED, Trial

if TYPE_CHECKING:
    from sweep.results.sweeps import Sweep


@dataclass(frozen=True, eq=False)
class Candidate:
    """A complete trial, or all complete trials that differ in their seed alone.

    Attributes:
        trials: at least one, ordered by number.
        mean: metric to mean.
        deviation: metric to sample standard deviation; NaN for a single trial.
        feasible: whether the means of the objectives are known and satisfy the constraints.
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
        """The overrides of its trials, with all of their seeds."""
        seeds = [trial.overrides[SEED] for trial in self.trials if SEED in trial.overrides]
        return {**self.trials[0].overrides, **({SEED: " ".join(seeds)} if seeds else {})}


@dataclass(frozen=True, eq=False)
class Ranking:
    """The candidates of a sweep and the front among them.

    Attributes:
        candidates: the candidates, ordered by number.
        points: float64 (candidates, objectives), all minimised, sizes as base-2 logarithms.
        front: the rows of the feasible, non-dominated candidates, by descending accuracy (without one by the first objective).
        knee: the row of the front's best compromise; None without a front.
    """

    candidates: tuple[Candidate, ...]
    points: pareto.Floats
    front: tuple[int, ...]
    knee: int | None

    @property
    def known(self) -> pareto.Mask:
        """Whether each candidate has a value for every objective: bool (candidates,)."""
        return np.asarray(~np.isnan(self.points).any(axis=1))

    @property
    def repeated(self) -> bool:
        """Whether any candidate has several seeds."""
        return any(len(candidate.trials) > 1 for candidate in self.candidates)

    def on_front(self) -> tuple[Candidate, ...]:
        """The front's candidates."""
        return tuple(self.candidates[row] for row in self.front)


def accuracy_first(objectives: Mapping[str, str]) -> str:
    """The primary objective: the first accuracy, or without one the first objective."""
    return next((name for name in objectives if METRICS[name].kind is Kind.ACCURACY), next(iter(objectives)))


def rank(sweep: Sweep) -> Ranking:
    """Ranks the candidates of a sweep."""
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
        Candidate(tuple(trials), _by_metric(mean), _by_metric(deviation), bool(fits))
        for trials, mean, deviation, fits in zip(members.values(), repeats.mean, repeats.deviation, feasible, strict=True)
    )
    points = objective_points(columns, sweep.objectives)
    rows = np.flatnonzero(feasible)
    rows = rows[pareto.front(pareto.oriented(columns, sweep.objectives)[rows])]
    lead = list(sweep.objectives).index(accuracy_first(sweep.objectives))
    ordered = rows[np.lexsort((rows, *points[rows].T[::-1], points[rows, lead]))]
    knee = pareto.knee(points[ordered]) if len(ordered) else None
    return Ranking(candidates, points, tuple(ordered.tolist()), None if knee is None else int(ordered[knee]))


def objective_points(columns: Mapping[str, npt.ArrayLike], objectives: Mapping[str, str]) -> pareto.Floats:
    """The points for the knee and the hypervolume, all minimised.

    A metric whose ratios matter, such as a size, becomes its base-2 logarithm, with values clipped below at 1e-9.

    Args:
        columns: metric to n numbers.
        objectives: metric to direction.

    Returns:
        float64 (n, objectives), NaN where unknown.
    """
    scaled = {
        name: np.log2(np.maximum(columns[name], 1e-9)) if METRICS[name].logarithmic else columns[name] for name in objectives
    }
    return pareto.oriented(scaled, objectives)


def _by_metric(row: pareto.Floats) -> dict[str, float]:
    return dict(zip(METRICS, row.tolist(), strict=True))
