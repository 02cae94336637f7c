"""The protocol of trackers, and the tracker that logs nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from sweep.core.types import TrialRecord

Status = Literal["FINISHED", "FAILED", "KILLED"]


class TrackingError(RuntimeError):
    """MLflow failed. What was to be logged is still in its folder."""


class Tracker(Protocol):
    """Where sweeps and trials are logged."""

    def prepare(self) -> None:
        """Make sure that runs can be logged; called once, by the parent process, before anything trains.

        Raises:
            ConfigError: for a place where nothing can be logged; its keys are relative to `tracking`.
        """

    def open_sweep(
        self, name: str, params: Mapping[str, str], tags: Mapping[str, str], description: str, *, resume: str | None = None
    ) -> str | None:
        """Begin the parent run of a sweep.

        Args:
            name: the run's name.
            params: what was swept, and how.
            tags: further facts.
            description: Markdown, shown above the run.
            resume: the run of an earlier start of this sweep, to go on with; if it is gone, a new one begins.

        Returns:
            The run's id, for `TrialRecord.parent_run_id` and `close_sweep`; None when nothing is tracked.

        Raises:
            TrackingError: when MLflow fails.
        """

    def close_sweep(
        self,
        run_id: str | None,
        *,
        status: Status,
        metrics: Mapping[str, float],
        artifacts: Sequence[Path],
        description: str,
        front: Sequence[str] = (),
    ) -> None:
        """End the parent run, and any child of it that is still running; a link that compares trials joins the description.

        Args:
            run_id: what `open_sweep` returned.
            status: how the sweep ended.
            metrics: metric name to value.
            artifacts: files to keep with the run.
            description: Markdown, in place of the first one.
            front: the runs to compare, best first; with fewer than two of them all finished trials are compared.

        Raises:
            TrackingError: when MLflow fails.
        """

    def log_trial(self, record: TrialRecord) -> str | None:
        """Log one ended trial, with every file of its folder, below its `parent_run_id` where there is one.

        Returns:
            The run's id; None when nothing is tracked.

        Raises:
            TrackingError: when MLflow fails.
        """

    def log_model(self, run_id: str | None, file: Path) -> str | None:
        """Make an ended trial's `.tflite` an MLflow model of its run, once: a run that has its model keeps it.

        Args:
            run_id: what `log_trial` returned.
            file: the `.tflite`.

        Returns:
            The model's id, which `mlflow.pyfunc.load_model` and `mlflow.register_model` take as `models:/ID` (or
            `runs:/RUN_ID/model`); None when nothing is tracked.

        Raises:
            TrackingError: when MLflow fails, and for a file that cannot be read or run.
        """


@dataclass(frozen=True)
class NoTracking:
    """Logs nothing."""

    def prepare(self) -> None:
        """Nothing to prepare."""

    def open_sweep(
        self, name: str, params: Mapping[str, str], tags: Mapping[str, str], description: str, *, resume: str | None = None
    ) -> str | None:
        """No run, hence None."""
        return None

    def close_sweep(
        self,
        run_id: str | None,
        *,
        status: Status,
        metrics: Mapping[str, float],
        artifacts: Sequence[Path],
        description: str,
        front: Sequence[str] = (),
    ) -> None:
        """Nothing to close."""

    def log_trial(self, record: TrialRecord) -> str | None:
        """No run, hence None."""
        return None

    def log_model(self, run_id: str | None, file: Path) -> str | None:
        """No model, hence None."""
        return None
