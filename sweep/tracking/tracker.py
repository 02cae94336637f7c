"""The protocol of trackers, and the tracker that logs nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from sweep.core.types import TrialRecord

Status = Literal["FINISHED", "FAILED", "KILLED"]


class TrackingError(RuntimeError):
    """MLflow failed. The files of the sweep or trial are complete all the same."""


class Tracker(Protocol):
    """Logs sweeps and trials."""

    def prepare(self) -> None:
        """Checks that runs can be logged; called once, by the parent process, before anything trains.

        Raises:
            ConfigError: for a store that cannot be used; its keys are relative to `tracking`.
        """

    def open_sweep(
        self, name: str, params: Mapping[str, str], tags: Mapping[str, str], description: str, *, resume: str | None = None
    ) -> str | None:
        """Begins or resumes the parent run of a sweep.

        Args:
            name: the name of the run.
            params: the axes of the sweep.
            tags: further tags.
            description: Markdown, shown above the run.
            resume: the run id of an earlier start of this sweep; if it was deleted, a new run begins.

        Returns:
            The id of the run, for `TrialRecord.parent_run_id` and `close_sweep`; None without tracking.

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
        """Endpoints the parent run and its running children, and adds a link to the description that compares trials.

        Args:
            run_id: the id that `open_sweep` returned.
            status: how the sweep ended.
            metrics: metric name to value.
            artifacts: files to log with the run.
            description: Markdown, which replaces the first description.
            front: the ids of the runs to compare, best first; with fewer than two, all finished trials are compared.

        Raises:
            TrackingError: when MLflow fails.
        """

    def log_trial(self, record: TrialRecord) -> str | None:
        """Logs an ended trial with every file of its folder, as a child of its `parent_run_id` if it has one.

        Returns:
            The id of the run; None without tracking.

        Raises:
            TrackingError: when MLflow fails.
        """

    def log_model(self, run_id: str | None, file: Path) -> str | None:
        """Logs the `.tflite` of an ended trial as the MLflow model of its run, unless the run has one already.

        Args:
            run_id: the id that `log_trial` returned.
            file: the `.tflite`.

        Returns:
            The id of the model, which `mlflow.pyfunc.load_model` and `mlflow.register_model` accept as `models:/ID` (or
            `runs:/RUN_ID/model`); None without tracking.

        Raises:
            TrackingError: when MLflow fails, and for a file that cannot be read or run.
        """


@dataclass(frozen=True)
class NoTracking:
    """Logs nothing."""

    def prepare(self) -> None:
        """Does nothing."""

    def open_sweep(
        self, name: str, params: Mapping[str, str], tags: Mapping[str, str], description: str, *, resume: str | None = None
    ) -> str | None:
        """Logs nothing and returns None."""
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
        """Does nothing."""

    def log_trial(self, record: TrialRecord) -> str | None:
        """Logs nothing and returns None."""
        return None

    def log_model(self, run_id: str | None, file: Path) -> str | None:
        """Logs nothing and returns None."""
        return None
