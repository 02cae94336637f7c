"""The Optuna study of a sweep, in a journal file, with the ask-and-tell interface."""

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
    """An Optuna study in a journal file.

    A trial's user attributes are its `point`, its `number` in the sweep, and `killed` if a sweep ended while it ran.

    Args:
        path: the journal; created if missing.
        space: the search space.
        objectives: metric to `maximize` or `minimize`.
        constraints: the bounds of a feasible trial.
        sampler: `tpe`, `nsga2`, `nsga3`, `qmc` or `random`.
        seed: the seed of the sampler.

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
        self._study = self._open()

    def _open(self) -> optuna.Study:
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
        """Whether the journal has as many objectives, in the same directions."""
        return [direction.name.lower() for direction in self._study.directions] == list(self._objectives.values())

    def begin_anew(self) -> None:
        """Renames the journal to `study.journal.foreign` and creates an empty one."""
        self._path.replace(self._path.with_name(f"{self._path.name}.foreign"))
        self._study = self._open()

    def numbered(self) -> dict[int, optuna.trial.FrozenTrial]:
        """The last trial of each number; an earlier trial of that number was killed and repeated."""
        return {trial.user_attrs["number"]: trial for trial in self._study.trials if "number" in trial.user_attrs}

    def running(self, number: int, point: Point, trial_id: int) -> Proposal:
        """The proposal of a trial that an earlier start left running."""
        from optuna.trial import Trial

        return Proposal(number, point, Trial(self._study, trial_id))

    def fail_abandoned_trials(self) -> None:
        """Fails the trials that a killed sweep left running, and marks them as killed."""
        from optuna.trial import TrialState

        for trial in self._study.get_trials(states=(TrialState.RUNNING, TrialState.WAITING)):
            started = self._study.ask() if trial.state is TrialState.WAITING else None
            number = trial.number if started is None else started.number
            self._study._storage.set_trial_user_attr(trial._trial_id, "killed", True)
            self._study.tell(number, state=TrialState.FAIL)

    def draw(self, number: int, attempt: int) -> tuple[optuna.Trial, Point]:
        """Draws a point from the sampler; returns Optuna's trial and the point."""
        self._study.sampler = sampler(self._sampler, self._seed, number, attempt)
        trial = self._study.ask()
        return trial, self._suggest(trial)

    def propose(self, number: int, point: Point) -> Proposal:
        """Begins a trial at a point that the sampler did not choose."""
        chosen = dict(text.split("=", 1) for text in point)
        self._study.enqueue_trial({axis.key: encode(axis, chosen[axis.key]) for axis in self._space.axes if axis.key in chosen})
        trial = self._study.ask()
        return self.begin(number, self._suggest(trial), trial)

    def begin(self, number: int, point: Point, trial: optuna.Trial) -> Proposal:
        """Begins a trial that was drawn."""
        trial.set_user_attr("point", list(point))
        trial.set_user_attr("number", number)  # last: after a kill between the two, the trial has no number and is ignored
        return Proposal(number, point, trial)

    def _suggest(self, trial: optuna.Trial) -> Point:
        return self._space.walk(lambda axis: suggested(trial, axis))

    def complete(self, proposal: Proposal, metrics: Mapping[str, float]) -> None:
        """Records a complete trial, whose objectives are finite."""
        from optuna.trial import TrialState

        for constraint in self._constraints:
            proposal.trial.set_constraint(constraint.metric, constraint.violation(metrics))
        values = [float(metrics[name]) for name in self._objectives]
        self._study.tell(proposal.trial, values, TrialState.COMPLETE)

    def prune(self, trial: optuna.Trial, reason: str, known: Mapping[str, float]) -> None:
        """Records a pruned trial. The metrics known before training tell the sampler by how much it violates a constraint."""
        from optuna.trial import TrialState

        for constraint in self._constraints:
            if constraint.metric in known:
                trial.set_constraint(constraint.metric, constraint.violation(known))
        trial.set_user_attr("reason", reason)
        self._study.tell(trial, state=TrialState.PRUNED)

    def fail(self, trial: optuna.Trial, reason: str) -> None:
        """Records a failed trial."""
        from optuna.trial import TrialState

        trial.set_user_attr("reason", reason)
        self._study.tell(trial, state=TrialState.FAIL)

    def importances(self) -> dict[str, dict[str, float]]:
        """Objective to axis to importance in [0, 1] (Optuna's default evaluator); empty where it cannot be computed."""
        return importances(self._study, self._objectives)


def importances(study: optuna.Study, objectives: Mapping[str, str]) -> dict[str, dict[str, float]]:
    """Objective to axis to importance in [0, 1] (Optuna's default evaluator); empty where it cannot be computed."""
    import optuna

    by_objective = {}
    for position, (name, direction) in enumerate(objectives.items()):
        sign = -1.0 if direction == "maximize" else 1.0  # the evaluator measures what makes its target low

        def target(trial: optuna.trial.FrozenTrial, position: int = position, sign: float = sign) -> float:
            return sign * float(trial.values[position])

        try:
            with warnings.catch_warnings():
                # About the direction, which the sign accounts for, and about the small number of trials.
                warnings.simplefilter("ignore", UserWarning)
                by_axis = optuna.importance.get_param_importances(study, target=target)
        except (ValueError, RuntimeError):  # too few trials, or no axis that all of them share
            continue
        by_objective[name] = {axis: float(value) for axis, value in by_axis.items()}
    return by_objective
