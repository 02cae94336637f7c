"""The Optuna study of a sweep: what to try next, what is known already, and what a killed sweep left behind.

A grid and a search go the same way: a grid's points are put in the queue in their order. The study is a journal file (see
`_journal`); where it lacks what the trials' own records say, it is told again.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sweep.core.errors import ConfigError, require_choice
from sweep.results import sweeps
from sweep.search.axes import Point
from sweep.search.constraints import Constraint
from sweep.search.journal import Journal, unreadable
from sweep.search.proposals import Proposal, draw, encode, representative, suggested
from sweep.search.samplers import SAMPLERS
from sweep.search.space import Space

if TYPE_CHECKING:
    import optuna


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
        recorded: what the trials' own records say, by number. They are the truth: what they call finished is told to the study
            where its journal does not know it, and what the journal alone calls finished runs again. None trusts the journal.

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
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        require_choice("hydra.sweeper.sampler", sampler, tuple(SAMPLERS))
        self._space, self._objectives, self._constraints = space, dict(objectives), constraints
        self._sampler, self._seed = sampler, seed
        self.total = min(total if total is not None else math.inf, space.size)
        self._queue = iter(space.points() if total is None else ())
        self._known: set[Point] = set()
        self._next, self.retold = 0, 0
        records = {trial.number: trial for trial in recorded or ()}
        for trial in records.values():
            self._require_point(trial)
        path = folder / "study.journal"
        try:
            self._study = self._opened(path)
            if self._contradicts(records):  # the journal of another sweep
                path.replace(path.with_name("study.journal.foreign"))
                self._study = self._opened(path)
            self._tell_the_finished(records)
            self._bury_the_dead()
            self._tell_the_unknown(records)
            numbered = self._numbered()
            points = {number: tuple(trial.user_attrs["point"]) for number, trial in numbered.items()}
        except (KeyError, ValueError, TypeError, AttributeError, AssertionError, IndexError) as error:
            if isinstance(error, ConfigError):
                raise
            raise unreadable(path, error) from error
        points |= {number: trial.point for number, trial in records.items() if number not in points and trial.point}
        unfinished = {number for number, trial in numbered.items() if "killed" in trial.user_attrs}
        if recorded is not None:
            unfinished |= {number for number in points if number not in records or not records[number].finished}
        self._next = 1 + max(points, default=-1)
        self._interrupted = sorted((number, points[number]) for number in unfinished)
        self._known = {point for number, point in points.items() if number not in unfinished}

    def _opened(self, path: Path) -> optuna.Study:
        import optuna
        from optuna.storages.journal import JournalStorage
        from optuna.study import StudyDirection

        return optuna.create_study(
            storage=JournalStorage(Journal(path)),
            study_name="sweep",
            directions=[StudyDirection[direction.upper()] for direction in self._objectives.values()],
            sampler=self._sampler_for(0, 0),
            load_if_exists=True,
        )

    def _numbered(self) -> dict[int, optuna.trial.FrozenTrial]:
        """The last trial of each number: an earlier one was killed, and this one took its place."""
        return {trial.user_attrs["number"]: trial for trial in self._study.trials if "number" in trial.user_attrs}

    def _require_point(self, trial: sweeps.Trial) -> None:
        """Refuse a recorded trial of another space."""
        try:
            held = (
                not trial.finished
                or self._space.walk(lambda axis: representative(axis, trial.overrides[axis.key])) == trial.point
            )
        except (KeyError, ValueError, OverflowError):
            held = False
        if not held:
            expected = "a point of this sweep, or a new name for the sweep"
            raise ConfigError(str(trial.folder / "trial.json"), expected, " ".join(trial.point) or "none")

    def _contradicts(self, records: Mapping[int, sweeps.Trial]) -> bool:
        """Whether the journal is of other objectives, or has another point for a recorded trial."""
        directions = [direction.name.lower() for direction in self._study.directions]
        if directions != list(self._objectives.values()):
            return True
        return any(
            records[number].point != tuple(trial.user_attrs["point"])
            for number, trial in self._numbered().items()
            if number in records and records[number].point
        )

    def _tell_the_finished(self, records: Mapping[int, sweeps.Trial]) -> None:
        """Tell the study of trials that ended after its last word: their records were written, and then a kill came."""
        from optuna.trial import Trial, TrialState

        for number, trial in self._numbered().items():
            if trial.state is TrialState.RUNNING and number in records and records[number].finished:
                under_way = Proposal(number, records[number].point, Trial(self._study, trial._trial_id))
                self._tell_recorded(under_way, records[number])

    def _tell_the_unknown(self, records: Mapping[int, sweeps.Trial]) -> None:
        """Tell the study of finished trials that it does not have."""
        numbered = self._numbered()
        for number in sorted(records):
            trial = records[number]
            known = number in numbered and "killed" not in numbered[number].user_attrs
            if trial.finished and not known:
                self._tell_recorded(self._propose(number, trial.point), trial)

    def _tell_recorded(self, proposal: Proposal, trial: sweeps.Trial) -> None:
        self.retold += 1
        if trial.complete:
            self.tell(proposal, trial.metrics)
        elif trial.state == "PRUNED":
            self.prune(proposal, trial.error or "")
        else:
            self.fail(proposal, trial.error or "")

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
            self._study.sampler = self._sampler_for(self._next, attempt)
            trial = self._study.ask()
            point = self._suggest(trial)
            if point not in self._known:
                return self._begin(self._next, point, trial)
            self._fail(trial, "a repeat")
        unknown = self._unknown()
        return None if unknown is None else self._propose(self._next, unknown)

    def tell(self, proposal: Proposal, metrics: Mapping[str, float]) -> None:
        """A trial is complete; its objectives are finite."""
        from optuna.trial import TrialState

        for constraint in self._constraints:
            proposal.trial.set_constraint(constraint.metric, constraint.violation(metrics))
        values = [float(metrics[name]) for name in self._objectives]
        self._study.tell(proposal.trial, values, TrialState.COMPLETE)

    def prune(self, proposal: Proposal, reason: str) -> None:
        """A trial was stopped early."""
        from optuna.trial import TrialState

        proposal.trial.set_user_attr("reason", reason)
        self._study.tell(proposal.trial, state=TrialState.PRUNED)

    def fail(self, proposal: Proposal, reason: str) -> None:
        """A trial failed."""
        self._fail(proposal.trial, reason)

    def importances(self) -> dict[str, dict[str, float]]:
        """Objective to axis to importance in [0, 1] (Optuna's default evaluator); empty where it cannot be told."""
        import optuna

        found = {}
        for position, (name, direction) in enumerate(self._objectives.items()):
            sign = -1.0 if direction == "maximize" else 1.0  # the evaluator asks what makes its target low

            def target(trial: optuna.trial.FrozenTrial, position: int = position, sign: float = sign) -> float:
                return sign * float(trial.values[position])

            try:
                with warnings.catch_warnings():
                    # About the direction, which the sign takes care of, and about how little a few trials tell.
                    warnings.simplefilter("ignore", UserWarning)
                    told = optuna.importance.get_param_importances(self._study, target=target)
            except (ValueError, RuntimeError):  # too few trials, or no axis that all of them share
                continue
            found[name] = {axis: float(value) for axis, value in told.items()}
        return found

    def _propose(self, number: int, point: Point) -> Proposal:
        """Have Optuna take a point that is not of its own choice."""
        chosen = dict(text.split("=", 1) for text in point)
        self._study.enqueue_trial({axis.key: encode(axis, chosen[axis.key]) for axis in self._space.axes if axis.key in chosen})
        trial = self._study.ask()
        return self._begin(number, self._suggest(trial), trial)

    def _begin(self, number: int, point: Point, trial: optuna.Trial) -> Proposal:
        trial.set_user_attr("point", list(point))
        trial.set_user_attr("number", number)  # last: a kill between the two leaves a trial without a number, which is none
        self._known.add(point)
        self._next = max(self._next, number + 1)
        return Proposal(number, point, trial)

    def _suggest(self, trial: optuna.Trial) -> Point:
        """Let the sampler choose."""
        return self._space.walk(lambda axis: suggested(trial, axis))

    def _unknown(self) -> Point | None:
        """A point that is not known, drawn evenly; None when none can be found."""
        random = np.random.default_rng([self._seed, self._next])
        if self._space.size <= _ENUMERATED:
            left = [point for point in self._space.points() if point not in self._known]
            return left[random.integers(len(left))] if left else None
        for _ in range(50 * _REPEATS):
            if (point := self._space.walk(partial(draw, random))) not in self._known:
                return point
        return None

    def _sampler_for(self, number: int, attempt: int) -> Any:
        """The sampler that proposes a trial: its draws follow from the seed and the number, not from what was drawn before.

        So a sweep that was killed goes on as if it had not been.
        """
        import optuna

        drawn = np.random.SeedSequence([self._seed, number, attempt]).generate_state(1)[0]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            # The points of a quasi-random sequence belong together; the study counts how far it is.
            return SAMPLERS[self._sampler](self._seed if self._sampler == "qmc" else int(drawn))

    def _fail(self, trial: optuna.Trial, reason: str) -> None:
        from optuna.trial import TrialState

        trial.set_user_attr("reason", reason)
        self._study.tell(trial, state=TrialState.FAIL)

    def _bury_the_dead(self) -> None:
        """End what a killed sweep left running, and mark it."""
        from optuna.trial import TrialState

        for trial in self._study.get_trials(states=(TrialState.RUNNING, TrialState.WAITING)):
            alive = self._study.ask() if trial.state is TrialState.WAITING else None
            number = trial.number if alive is None else alive.number
            storage = self._study._storage
            storage.set_trial_user_attr(trial._trial_id, "killed", True)
            self._study.tell(number, state=TrialState.FAIL)
