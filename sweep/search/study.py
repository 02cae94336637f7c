"""What a sweep tries next: never a point that is known, first what a killed sweep had under way.

A grid and a search go the same way: a grid's points are put in the queue in their order.
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
from sweep.search.journal import unreadable
from sweep.search.optuna_study import OptunaStudy
from sweep.search.proposals import Proposal, draw
from sweep.search.recovery import recover, require_points
from sweep.search.space import Space

# Up to so many points are gone through for those that are left.
_ENUMERATED = 100_000
# How often a sampler may propose what is known before an unknown point is drawn at random instead.
_REPEATS = 20


class Study:
    """The study in `folder / "study.journal"`.

    Args:
        folder: the sweep's folder; it exists.
        space: what varies.
        objectives: metric to `maximize` or `minimize`.
        constraints: bounds that a trial has to keep to count for the front.
        sampler: `tpe`, `nsga2`, `nsga3`, `qmc` or `random`.
        seed: of the sampler.
        total: how many trials there are to be in all; None for every point of a finite space.
        recorded: what the trials' own records say. They are the truth (see `recovery`); None trusts the journal.

    Attributes:
        total: the number of trials that there are to be.
        retold: how many trials the journal did not know to be finished.

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
            raise unreadable(path, error) from error
        self.retold = earlier.retold
        self._next = 1 + max(earlier.points, default=-1)
        self._interrupted = sorted((number, earlier.points[number]) for number in earlier.unfinished)
        self._known = {point for number, point in earlier.points.items() if number not in earlier.unfinished}

    @property
    def begun(self) -> int:
        """How many points have been proposed, those of earlier starts included."""
        return len(self._known)

    def ask(self) -> Proposal | None:
        """The next point that is neither known nor under way; None when there is none left.

        What a killed sweep had under way comes first, under its old number.
        """
        if self._interrupted:
            return self._propose(*self._interrupted.pop(0))
        if self.begun >= self.total:
            return None
        for point in self._queue:
            if point not in self._known:
                return self._propose(self._next, point)
        for attempt in range(_REPEATS):
            trial, point = self._optuna.draw(self._next, attempt)
            if point not in self._known:
                return self._note(self._optuna.begin(self._next, point, trial))
            self._optuna.fail(trial, "a repeat")
        unknown = self._unknown()
        return None if unknown is None else self._propose(self._next, unknown)

    def tell(self, proposal: Proposal, metrics: Mapping[str, float]) -> None:
        """A trial is complete; its objectives are finite."""
        self._optuna.complete(proposal, metrics)

    def prune(self, proposal: Proposal, reason: str, known: Mapping[str, float]) -> None:
        """A trial was stopped early.

        Args:
            proposal: the trial's.
            reason: why.
            known: metric to value of the file that it would have, where that is why.
        """
        self._optuna.prune(proposal.trial, reason, known)

    def fail(self, proposal: Proposal, reason: str) -> None:
        """A trial failed."""
        self._optuna.fail(proposal.trial, reason)

    def importances(self) -> dict[str, dict[str, float]]:
        """Objective to axis to importance in [0, 1] (Optuna's default evaluator); empty where it cannot be told."""
        return self._optuna.importances()

    def _propose(self, number: int, point: Point) -> Proposal:
        return self._note(self._optuna.propose(number, point))

    def _note(self, proposal: Proposal) -> Proposal:
        """Count the proposal's point as known."""
        self._known.add(proposal.point)
        self._next = max(self._next, proposal.number + 1)
        return proposal

    def _unknown(self) -> Point | None:
        """A point that is not known, drawn evenly; None when none can be found."""
        random = np.random.default_rng([self._seed, self._next])
        if self._space.size <= _ENUMERATED:
            unknown = [point for point in self._space.points() if point not in self._known]
            return unknown[random.integers(len(unknown))] if unknown else None
        for _ in range(50 * _REPEATS):
            if (point := self._space.walk(partial(draw, random))) not in self._known:
                return point
        return None
