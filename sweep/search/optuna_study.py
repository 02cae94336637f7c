"""Optuna's side of a sweep: its study in a journal file, with ask and tell."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sweep.core.errors import require_choice
from sweep.search.axes import Point
from sweep.search.constraints import Constraint
from sweep.search.journal import Journal
from sweep.search.proposals import Proposal, encode, suggested
from sweep.search.samplers import SAMPLERS, sampler
from sweep.search.space import Space

if TYPE_CHECKING:
    import optuna


class OptunaStudy:
    """The study in a journal file.

    A trial's user attributes are its `point`, its `number` in the sweep, and `killed` where a sweep left it running.

    Args:
        path: the journal; made where there is none.
        space: what varies.
        objectives: metric to `maximize` or `minimize`.
        constraints: bounds that a trial has to keep to count for the front.
        sampler: a key of `SAMPLERS`.
        seed: of the sampler.

    Raises:
        ConfigError: for an unknown sampler, or a journal that cannot be read.
    """

    def __init__(
        self,
        path: Path,
        space: Space,
        *,
        objectives: Mapping[str, str],
        constraints: Sequence[Constraint],
        sampler: str,
        seed: int,
    ) -> None:
        require_choice("hydra.sweeper.sampler", sampler, tuple(SAMPLERS))
        self._path, self._space, self._objectives, self._constraints = path, space, dict(objectives), tuple(constraints)
        self._sampler, self._seed = sampler, seed
        self._study = self._opened()

    def _opened(self) -> optuna.Study:
        import optuna
        from optuna.storages.journal import JournalStorage
        from optuna.study import StudyDirection

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        return optuna.create_study(
            storage=JournalStorage(Journal(self._path)),
            study_name="sweep",
            directions=[StudyDirection[direction.upper()] for direction in self._objectives.values()],
            sampler=sampler(self._sampler, self._seed, 0, 0),
            load_if_exists=True,
        )

    @property
    def has_own_objectives(self) -> bool:
        """Whether the journal is of as many objectives, in the same directions."""
        return [direction.name.lower() for direction in self._study.directions] == list(self._objectives.values())

    def begin_anew(self) -> None:
        """Set the journal aside as `study.journal.foreign` and begin an empty one."""
        self._path.replace(self._path.with_name(f"{self._path.name}.foreign"))
        self._study = self._opened()

    def numbered(self) -> dict[int, optuna.trial.FrozenTrial]:
        """The last trial of each number: an earlier one was killed, and this one took its place."""
        return {trial.user_attrs["number"]: trial for trial in self._study.trials if "number" in trial.user_attrs}

    def running(self, number: int, point: Point, trial_id: int) -> Proposal:
        """The proposal of a trial that an earlier start left running."""
        from optuna.trial import Trial

        return Proposal(number, point, Trial(self._study, trial_id))

    def fail_abandoned_trials(self) -> None:
        """End what a killed sweep left running, and mark it as killed."""
        from optuna.trial import TrialState

        for trial in self._study.get_trials(states=(TrialState.RUNNING, TrialState.WAITING)):
            taken = self._study.ask() if trial.state is TrialState.WAITING else None
            number = trial.number if taken is None else taken.number
            self._study._storage.set_trial_user_attr(trial._trial_id, "killed", True)
            self._study.tell(number, state=TrialState.FAIL)

    def draw(self, number: int, attempt: int) -> tuple[optuna.Trial, Point]:
        """A point of the sampler's choice, and the trial that it becomes where it is begun."""
        self._study.sampler = sampler(self._sampler, self._seed, number, attempt)
        trial = self._study.ask()
        return trial, self._suggest(trial)

    def propose(self, number: int, point: Point) -> Proposal:
        """Begin a trial at a point that is not of the sampler's choice."""
        chosen = dict(text.split("=", 1) for text in point)
        self._study.enqueue_trial({axis.key: encode(axis, chosen[axis.key]) for axis in self._space.axes if axis.key in chosen})
        trial = self._study.ask()
        return self.begin(number, self._suggest(trial), trial)

    def begin(self, number: int, point: Point, trial: optuna.Trial) -> Proposal:
        """Begin a trial that was drawn."""
        trial.set_user_attr("point", list(point))
        trial.set_user_attr("number", number)  # last: a kill between the two leaves a trial without a number, which is none
        return Proposal(number, point, trial)

    def _suggest(self, trial: optuna.Trial) -> Point:
        return self._space.walk(lambda axis: suggested(trial, axis))

    def complete(self, proposal: Proposal, metrics: Mapping[str, float]) -> None:
        """A trial is complete; its objectives are finite."""
        from optuna.trial import TrialState

        for constraint in self._constraints:
            proposal.trial.set_constraint(constraint.metric, constraint.violation(metrics))
        values = [float(metrics[name]) for name in self._objectives]
        self._study.tell(proposal.trial, values, TrialState.COMPLETE)

    def prune(self, trial: optuna.Trial, reason: str, known: Mapping[str, float]) -> None:
        """A trial was stopped early. What is known of its file tells the sampler by how much it breaks a constraint."""
        from optuna.trial import TrialState

        for constraint in self._constraints:
            if constraint.metric in known:
                trial.set_constraint(constraint.metric, constraint.violation(known))
        trial.set_user_attr("reason", reason)
        self._study.tell(trial, state=TrialState.PRUNED)

    def fail(self, trial: optuna.Trial, reason: str) -> None:
        """A trial failed."""
        from optuna.trial import TrialState

        trial.set_user_attr("reason", reason)
        self._study.tell(trial, state=TrialState.FAIL)

    def importances(self) -> dict[str, dict[str, float]]:
        """Objective to axis to importance in [0, 1] (Optuna's default evaluator); empty where it cannot be told."""
        return importances(self._study, self._objectives)


def importances(study: optuna.Study, objectives: Mapping[str, str]) -> dict[str, dict[str, float]]:
    """Objective to axis to importance in [0, 1] (Optuna's default evaluator); empty where it cannot be told."""
    import optuna

    by_objective = {}
    for position, (name, direction) in enumerate(objectives.items()):
        sign = -1.0 if direction == "maximize" else 1.0  # the evaluator asks what makes its target low

        def target(trial: optuna.trial.FrozenTrial, position: int = position, sign: float = sign) -> float:
            return sign * float(trial.values[position])

        try:
            with warnings.catch_warnings():
                # About the direction, which the sign takes care of, and about how little a few trials tell.
                warnings.simplefilter("ignore", UserWarning)
                by_axis = optuna.importance.get_param_importances(study, target=target)
        except (ValueError, RuntimeError):  # too few trials, or no axis that all of them share
            continue
        by_objective[name] = {axis: float(value) for axis, value in by_axis.items()}
    return by_objective
