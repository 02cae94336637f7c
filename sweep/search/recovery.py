"""Recovery of a sweep from earlier starts: synchronises Optuna's journal with the trials' own records.

The records take precedence: a trial that they have as finished is added to the study if the journal lacks it, and a trial that
only the journal has as finished runs again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sweep.core.errors import ConfigError
from sweep.results import sweeps
from sweep.search.axes import Point
from sweep.search.optuna_study import OptunaStudy
from sweep.search.proposals import Proposal, representative
from sweep.search.space import Space

Records = Mapping[int, sweeps.Trial]
"""Trial number to recorded trial."""


@dataclass(frozen=True)
class Recovered:
    """The proposals of earlier starts.

    Attributes:
        points: trial number to point.
        unfinished: the numbers of the trials that run again.
        restored: the number of finished trials that the journal lacked.
    """

    points: Mapping[int, Point]
    unfinished: frozenset[int]
    restored: int


def require_points(space: Space, records: Records) -> None:
    """Refuses a recorded trial of another space.

    Raises:
        ConfigError: naming the file of the record.
    """
    for trial in records.values():
        try:
            matches = not trial.finished or _point_of(space, trial) == trial.point
        except (KeyError, ValueError, OverflowError):
            matches = False
        if not matches:
            expected = "a point of this sweep, or a new name for the sweep"
            raise ConfigError(str(trial.folder / "trial.json"), expected, " ".join(trial.point) or "none")


def recover(study: OptunaStudy, records: Records | None) -> Recovered:
    """Synchronises the study with the records. A journal of another sweep is set aside; abandoned trials are failed.

    Args:
        study: the study of the journal.
        records: the recorded trials; None to rely on the journal alone.
    """
    recorded = records or {}
    if _contradicts(study, recorded):
        study.begin_anew()
    restored = _complete_running(study, recorded)
    study.fail_abandoned_trials()
    restored += _add_missing(study, recorded)
    numbered = study.numbered()
    points = {number: tuple(trial.user_attrs["point"]) for number, trial in numbered.items()}
    points |= {number: trial.point for number, trial in recorded.items() if number not in points and trial.point}
    unfinished = {number for number, trial in numbered.items() if "killed" in trial.user_attrs}
    if records is not None:
        unfinished |= {number for number in points if number not in records or not records[number].finished}
    return Recovered(points, frozenset(unfinished), restored)


def _point_of(space: Space, trial: sweeps.Trial) -> Point:
    return space.walk(lambda axis: representative(axis, trial.overrides[axis.key]))


def _contradicts(study: OptunaStudy, records: Records) -> bool:
    """Whether the journal has other objectives, or another point for a recorded trial."""
    if not study.has_own_objectives:
        return True
    return any(
        records[number].point != tuple(trial.user_attrs["point"])
        for number, trial in study.numbered().items()
        if number in records and records[number].point
    )


def _complete_running(study: OptunaStudy, records: Records) -> int:
    """Adds the results of trials that the journal has as running: a kill came after their records were written."""
    from optuna.trial import TrialState

    restored = 0
    for number, trial in study.numbered().items():
        if trial.state is TrialState.RUNNING and number in records and records[number].finished:
            _add_result(study, study.running(number, records[number].point, trial._trial_id), records[number])
            restored += 1
    return restored


def _add_missing(study: OptunaStudy, records: Records) -> int:
    """Adds finished trials that the journal lacks."""
    numbered, restored = study.numbered(), 0
    for number in sorted(records):
        trial = records[number]
        known = number in numbered and "killed" not in numbered[number].user_attrs
        if trial.finished and not known:
            _add_result(study, study.propose(number, trial.point), trial)
            restored += 1
    return restored


def _add_result(study: OptunaStudy, proposal: Proposal, trial: sweeps.Trial) -> None:
    if trial.complete:
        study.complete(proposal, trial.metrics)
    elif trial.state == "PRUNED":
        study.prune(proposal.trial, trial.error or "", trial.known)
    else:
        study.fail(proposal.trial, trial.error or "")
