"""The state of a sweep after earlier starts: Optuna's journal is brought to agree with the trials' own records.

The records are the truth: what they call finished is told to the study where its journal does not know it, and what the journal
alone calls finished runs again.
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
"""Number to what a trial's own record says."""


@dataclass(frozen=True)
class Recovered:
    """What earlier starts proposed.

    Attributes:
        points: trial number to point.
        unfinished: the numbers of trials that have to run again.
        retold: how many trials the journal did not know to be finished.
    """

    points: Mapping[int, Point]
    unfinished: frozenset[int]
    retold: int


def require_points(space: Space, records: Records) -> None:
    """Refuse a recorded trial of another space.

    Raises:
        ConfigError: with the record's file.
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
    """Bring the study to what the records say. A journal of another sweep is set aside; abandoned trials are failed.

    Args:
        study: as its journal has it.
        records: what the trials' own records say; None trusts the journal.
    """
    recorded = records or {}
    if _contradicts(study, recorded):
        study.begin_anew()
    retold = _tell_the_finished(study, recorded)
    study.fail_abandoned_trials()
    retold += _tell_the_unknown(study, recorded)
    numbered = study.numbered()
    points = {number: tuple(trial.user_attrs["point"]) for number, trial in numbered.items()}
    points |= {number: trial.point for number, trial in recorded.items() if number not in points and trial.point}
    unfinished = {number for number, trial in numbered.items() if "killed" in trial.user_attrs}
    if records is not None:
        unfinished |= {number for number in points if number not in records or not records[number].finished}
    return Recovered(points, frozenset(unfinished), retold)


def _point_of(space: Space, trial: sweeps.Trial) -> Point:
    return space.walk(lambda axis: representative(axis, trial.overrides[axis.key]))


def _contradicts(study: OptunaStudy, records: Records) -> bool:
    """Whether the journal is of other objectives, or has another point for a recorded trial."""
    if not study.has_own_objectives:
        return True
    return any(
        records[number].point != tuple(trial.user_attrs["point"])
        for number, trial in study.numbered().items()
        if number in records and records[number].point
    )


def _tell_the_finished(study: OptunaStudy, records: Records) -> int:
    """Tell the study of trials that ended after its last word: their records were written, and then a kill came."""
    from optuna.trial import TrialState

    retold = 0
    for number, trial in study.numbered().items():
        if trial.state is TrialState.RUNNING and number in records and records[number].finished:
            _tell_recorded(study, study.running(number, records[number].point, trial._trial_id), records[number])
            retold += 1
    return retold


def _tell_the_unknown(study: OptunaStudy, records: Records) -> int:
    """Tell the study of finished trials that it does not have."""
    numbered, retold = study.numbered(), 0
    for number in sorted(records):
        trial = records[number]
        known = number in numbered and "killed" not in numbered[number].user_attrs
        if trial.finished and not known:
            _tell_recorded(study, study.propose(number, trial.point), trial)
            retold += 1
    return retold


def _tell_recorded(study: OptunaStudy, proposal: Proposal, trial: sweeps.Trial) -> None:
    if trial.complete:
        study.complete(proposal, trial.metrics)
    elif trial.state == "PRUNED":
        study.prune(proposal.trial, trial.error or "", trial.known)
    else:
        study.fail(proposal.trial, trial.error or "")
