"""Any other Hydra launcher as a pool of workers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from hydra.core.utils import JobReturn, JobStatus

from sweep.core import jsonfiles
from sweep.core.trial_files import TrialFile
from sweep.results import reader
from sweep.search.pool import Isolated


class Pool(Protocol):
    """Runs jobs: the worker processes of the default launcher, or another launcher in batches."""

    @property
    def free(self) -> int:
        """The number of jobs that can be submitted now."""

    @property
    def busy(self) -> int:
        """The number of running jobs."""

    def submit(self, number: int, overrides: Sequence[str]) -> None:
        """Starts a job."""

    def wait(self) -> Mapping[int, JobReturn]:
        """Waits until at least one job ends; returns job number to result."""


class Batches:
    """A launcher as a pool: the submitted jobs run as one batch, and `wait` blocks until all of it has ended.

    Every trial runs in a child process of the launcher's process, so that a crash fails that trial alone. When the launcher
    fails for a whole batch (a node dies, a job exceeds its time limit), the trials whose folders have metrics are complete,
    without a link to their run in MLflow, and the others have failed with the launcher's error. When no trial had begun, the
    launcher's error ends the sweep; the next start runs these trials first.

    Args:
        launcher: a Hydra launcher with a `task_function`.
        size: the largest number of trials in a batch.
        folder: the folder of the sweep.
    """

    def __init__(self, launcher: Any, size: int, folder: Path) -> None:
        launcher.task_function = Isolated(launcher.task_function)
        self._launcher, self._size, self._folder = launcher, size, folder.absolute()
        self._batch: dict[int, list[str]] = {}

    @property
    def free(self) -> int:
        """The number of jobs that still fit in the batch."""
        return self._size - len(self._batch)

    @property
    def busy(self) -> int:
        """The number of jobs in the batch."""
        return len(self._batch)

    def submit(self, number: int, overrides: Sequence[str]) -> None:
        """Adds a job to the batch."""
        # Absolute, since the launcher's processes may have another working directory.
        self._batch[number] = [*overrides, f"hydra.sweep.dir={quoted(self._folder)}"]

    def wait(self) -> Mapping[int, JobReturn]:
        """Launches the batch and returns when all of it has ended."""
        batch, self._batch = self._batch, {}
        try:
            ended = self._launcher.launch(list(batch.values()), initial_job_idx=min(batch))
        except Exception as error:
            if not any((self._trial(number) / TrialFile.CONFIG).exists() for number in batch):
                raise
            return {number: self._result_from_files(number, error) for number in batch}
        return dict(zip(batch, ended, strict=True))

    def _trial(self, number: int) -> Path:
        return self._folder / reader.trial_name(number)

    def _result_from_files(self, number: int, error: Exception) -> JobReturn:
        """The result of a trial from the files in its folder, after the launcher failed."""
        folder, returned = self._trial(number), JobReturn(status=JobStatus.COMPLETED)
        if (folder / TrialFile.METRICS).exists():
            returned.return_value = {**jsonfiles.read(folder / TrialFile.METRICS), "run_id": None}
        elif (folder / TrialFile.PRUNED).exists():
            known = jsonfiles.read(folder / TrialFile.KNOWN) if (folder / TrialFile.KNOWN).exists() else {}
            returned.return_value = {"pruned": (folder / TrialFile.PRUNED).read_text().strip(), **known}
        else:
            returned.status, returned.return_value = JobStatus.FAILED, error
        return returned


def quoted(path: Path) -> str:
    """A path as a quoted override value."""
    escaped = str(path).replace("'", "\\'")
    return f"'{escaped}'"
