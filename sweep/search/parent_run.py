"""The parent run of a sweep in MLflow, and the report at its end."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sweep.config import build
from sweep.core.errors import ConfigError
from sweep.core.trial_files import TrialFile
from sweep.core.types import TrialRecord
from sweep.reporting import report
from sweep.results import sweeps
from sweep.search.console import say
from sweep.search.proposals import Proposal
from sweep.search.recorder import Records
from sweep.search.study import Study
from sweep.tracking.tracker import Status, Tracker, TrackingError

_STATES = {"COMPLETE": "complete", "FAIL": "failed", "PRUNED": "pruned"}


@dataclass(frozen=True, eq=False)
class ParentRun:
    """The parent run of a sweep in the tracker.

    Args:
        tracker: logs the run.
        run_id: the id of the run; None without tracking.
        records: the records of the sweep.
    """

    tracker: Tracker
    run_id: str | None
    records: Records

    @staticmethod
    def open(tracker: Tracker, records: Records, total: float) -> ParentRun:
        """Begins the run, or resumes that of an earlier start, and writes its id to the sweep's record.

        Raises:
            TrackingError: when the tracker fails.
        """
        run_id = tracker.open_sweep(
            records.folder.name,
            records.space.text,
            {"mlflow.source.name": "sweep"},
            f"{total:.0f} trials.",
            resume=records.parent_run_id,
        )
        records.begin(run_id)
        return ParentRun(tracker, run_id, records)

    def log_lost_trial(self, proposal: Proposal, began: float, error: str) -> None:
        """Logs a trial whose process died before it could log itself.

        Args:
            proposal: the proposal of the trial.
            began: the time of its submission, in seconds since the epoch.
            error: why it failed.
        """
        folder = self.records.trial_folder(proposal)
        if not self.records.leave_error(proposal, error):
            return
        swept = dict(text.split("=", 1) for text in proposal.point)
        tracker = build.tracker(self.records.space.compose(proposal.point))
        record = TrialRecord(
            folder.name, folder, swept, swept, {}, {}, {}, error, began, time.time(), parent_run_id=self.run_id
        )
        try:
            tracker.log_trial(record)
        except TrackingError as tracking_error:
            say(f"warning: could not log {folder.name} to MLflow: {tracking_error}")

    def close(self, status: Status, study: Study) -> None:
        """Writes the records and the report, and ends the run. A failed write is a warning.

        Args:
            status: how this start of the sweep ended.
            study: the study, for the importances of the axes.
        """
        paths: tuple[Path, ...] = ()
        front: list[str] = []
        metrics: dict[str, int] = {}
        description = "The report could not be written."
        try:
            self.records.end(status, study.importances())
            written = report.write(self.records.folder)
            paths, front = written.paths, self._log_models(written.members)
            # Over all starts of the sweep.
            metrics = {f"trials_{word}": written.trials.get(state, 0) for state, word in _STATES.items()}
            description = f"{metrics['trials_complete']} of {sum(written.trials.values())} trials complete."
            if status == "FINISHED" and metrics["trials_failed"]:
                status = "FAILED"
        except (ConfigError, OSError) as error:  # a full disk, for example; the trials are complete all the same
            say(f"warning: could not write the report: {error}")
        try:
            self.tracker.close_sweep(
                self.run_id, status=status, metrics=metrics, artifacts=paths, description=description, front=front
            )
        except TrackingError as error:
            say(f"warning: could not close the sweep's run in MLflow: {error}")

    def _log_models(self, front: Sequence[sweeps.Trial]) -> list[str]:
        """Logs the files on the front as MLflow models; returns the ids of their runs, best first."""
        for trial in front:
            try:
                self.tracker.log_model(trial.run_id, trial.folder / TrialFile.MODEL)
            except TrackingError as error:
                say(f"warning: {trial.folder.name} is no model in MLflow: {error}")
        return [trial.run_id for trial in front if trial.run_id is not None]
