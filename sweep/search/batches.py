"""Another launcher of Hydra's as a pool of workers."""

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
    """What runs jobs: the default launcher's processes, or another launcher in batches."""

    @property
    def free(self) -> int:
        """How many jobs can be submitted now."""

    @property
    def busy(self) -> int:
        """How many are under way."""

    def submit(self, number: int, overrides: Sequence[str]) -> None:
        """Start a job."""

    def wait(self) -> Mapping[int, JobReturn]:
        """Wait until at least one job ended; job number to what came of it."""


class Batches:
    """Another launcher as a pool: what was submitted goes out as one batch, which blocks.

    Every trial runs in a process of its own below the launcher's, so one that takes its process down is a failure like any
    other. A launcher that gives up a whole batch all the same (a node dies, a job runs into its time limit) tells nothing of
    its trials: those whose metrics are in their folders are complete, without a link to their run in MLflow, and the others
    have failed for the launcher's reason. Where none of them had begun, the launcher runs nothing at all, and its error ends
    the sweep; the next start begins with these trials.

    Args:
        launcher: any of Hydra's; they all keep their `task_function`.
        size: the most trials of a batch.
        folder: of the sweep.
    """

    def __init__(self, launcher: Any, size: int, folder: Path) -> None:
        launcher.task_function = Isolated(launcher.task_function)
        self._launcher, self._size, self._folder = launcher, size, folder.absolute()
        self._batch: dict[int, list[str]] = {}

    @property
    def free(self) -> int:
        """How many jobs the batch still takes."""
        return self._size - len(self._batch)

    @property
    def busy(self) -> int:
        """How many jobs the batch has."""
        return len(self._batch)

    def submit(self, number: int, overrides: Sequence[str]) -> None:
        """Add a job to the batch."""
        # A launcher's processes may work in another folder, where a relative one would name another place.
        self._batch[number] = [*overrides, f"hydra.sweep.dir={quoted(self._folder)}"]

    def wait(self) -> Mapping[int, JobReturn]:
        """Launch the batch; returns when all of it ended."""
        batch, self._batch = self._batch, {}
        try:
            ended = self._launcher.launch(list(batch.values()), initial_job_idx=min(batch))
        except Exception as error:
            if not any((self._trial(number) / TrialFile.CONFIG).exists() for number in batch):
                raise
            return {number: self._found(number, error) for number in batch}
        return dict(zip(batch, ended, strict=True))

    def _trial(self, number: int) -> Path:
        return self._folder / reader.trial_name(number)

    def _found(self, number: int, error: Exception) -> JobReturn:
        """What the folder of a trial tells that the launcher does not."""
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
    """A path as an override's value, whatever is in it."""
    escaped = str(path).replace("'", "\\'")
    return f"'{escaped}'"
