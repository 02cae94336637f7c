"""The proposals of a sweep: first the interrupted trials of an earlier start, then new points, never one twice.

A grid enqueues its points in order; a search asks a sampler.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from sweep.core.errors import ConfigError
from sweep.results import sweeps
from sweep.search.axes import Point
from sweep.search.constraints import Constraint
from sweep.search.journal import unreadable_journal
from sweep.search.optuna_study import OptunaStudy
from sweep.search.proposals import Proposal, draw
from sweep.search.recovery import recover, require_points
from sweep.search.space import Space

# Spaces of up to this many points are enumerated to find the untried ones.
_MAX_ENUMERATED = 100_000
# The number of repeats that a sampler may propose before an untried point is drawn at random instead.
_REPEATS = 20


class Study:
    """The study in `folder / "study.journal"`.

    Args:
        folder: the sweep's folder; it exists.
        space: the search space.
        objectives: metric to `maximize` or `minimize`.
        constraints: the bounds of a feasible trial.
        sampler: `tpe`, `nsga2`, `nsga3`, `qmc` or `random`.
        seed: the seed of the sampler.
        total: the number of trials in all; None for every point of a finite space.
        recorded: the recorded trials, which take precedence over the journal; None to rely on the journal alone.

    Attributes:
        total: the number of trials in all, at most the size of the space.
        restored: the number of finished trials that the journal lacked.

    Raises:
        ConfigError: for an unknown sampler, a journal that cannot be read, or a recorded trial of another space.
    """

    def __init__(
        self,
        folder: Path,
        space: Space,
        *,
        objectives: Mapping[str, str],
        constraints: tuple[Constraint, ...],
        sampler: str,
        seed: int,
        total: int | None,
        recorded: Sequence[sweeps.Trial] | None = None,
    ) -> None:
        self._space, self._seed = space, seed
        self.total = min(total if total is not None else math.inf, space.size)
        self._queue = iter(space.points() if total is None else ())
        records = None if recorded is None else {trial.number: trial for trial in recorded}
        require_points(space, records or {})
        path = folder / "study.journal"
        try:
            self._optuna = OptunaStudy(path, space, objectives=objectives, constraints=constraints, sampler=sampler, seed=seed)
            earlier = recover(self._optuna, records)
        except (KeyError, ValueError, TypeError, AttributeError, AssertionError, IndexError) as error:
            if isinstance(error, ConfigError):
                raise
            raise unreadable_journal(path, error) from error
        self.restored = earlier.restored
        self._next = 1 + max(earlier.points, default=-1)
        self._interrupted = sorted((number, earlier.points[number]) for number in earlier.unfinished)
        self._tried = {point for number, point in earlier.points.items() if number not in earlier.unfinished}

    @property
    def begun(self) -> int:
        """The number of points proposed so far, including earlier starts."""
        return len(self._tried)

    def ask(self) -> Proposal | None:
        """The next untried point; None when there is none left.

        The trials that a killed sweep left running come first, under their old numbers.
        """
        if self._interrupted:
            return self._propose(*self._interrupted.pop(0))
        if self.begun >= self.total:
            return None
        for point in self._queue:
            if point not in self._tried:
                return self._propose(self._next, point)
        for attempt in range(_REPEATS):
            trial, point = self._optuna.draw(self._next, attempt)
            if point not in self._tried:
                return self._mark_tried(self._optuna.begin(self._next, point, trial))
            self._optuna.fail(trial, "a repeat")
        untried = self._untried()
        return None if untried is None else self._propose(self._next, untried)

    def tell(self, proposal: Proposal, metrics: Mapping[str, float]) -> None:
        """Records a complete trial, whose objectives are finite."""
        self._optuna.complete(proposal, metrics)

    def prune(self, proposal: Proposal, reason: str, known: Mapping[str, float]) -> None:
        """Records a pruned trial.

        Args:
            proposal: the proposal of the trial.
            reason: why it was pruned.
            known: metric to value of its file, known before training; empty for a trial that was stopped early.
        """
        self._optuna.prune(proposal.trial, reason, known)

    def fail(self, proposal: Proposal, reason: str) -> None:
        """Records a failed trial."""
        self._optuna.fail(proposal.trial, reason)

    def importances(self) -> dict[str, dict[str, float]]:
        """Objective to axis to importance in [0, 1] (Optuna's default evaluator); empty where it cannot be computed."""
        return self._optuna.importances()

    def _propose(self, number: int, point: Point) -> Proposal:
        return self._mark_tried(self._optuna.propose(number, point))

    def _mark_tried(self, proposal: Proposal) -> Proposal:
        """Counts the proposal's point as tried."""
        self._tried.add(proposal.point)
        self._next = max(self._next, proposal.number + 1)
        return proposal

    def _untried(self) -> Point | None:
        """An untried point, drawn uniformly; None when none is found."""
        random = np.random.default_rng([self._seed, self._next])
        if self._space.size <= _MAX_ENUMERATED:
            untried = [point for point in self._space.points() if point not in self._tried]
            return untried[random.integers(len(untried))] if untried else None
        for _ in range(50 * _REPEATS):
            if (point := self._space.walk(partial(draw, random))) not in self._tried:
                return point
        return None
