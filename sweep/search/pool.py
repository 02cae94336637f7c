"""Worker processes that run trials. They are spawned, since a fork after TensorFlow has run hangs.

A worker is replaced after a number of jobs, above a memory limit, and when it dies. The pipes carry only pickles that this
program writes; no file of a user, a data set or the cache is unpickled.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any

import cloudpickle
from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from sweep.core import process_status
from sweep.search.worker import failed, run_trial, run_trials

_SPAWN = multiprocessing.get_context("spawn")


class WorkerDied(RuntimeError):
    """The process of a trial died. The message says how, and at which stage."""


class WorkerPool:
    """A pool of worker processes, each with one job at a time.

    Args:
        context: Hydra's context.
        task: the function that runs a job.
        config: the configuration of the sweep itself.
        workers: the number of processes.
        recycle_after: the number of jobs after which a process is replaced.
        max_gib: the resident memory, in GiB, above which it is replaced earlier.
    """

    def __init__(
        self,
        context: HydraContext,
        task: TaskFunction,
        config: DictConfig,
        *,
        workers: int,
        recycle_after: int,
        max_gib: float,
    ) -> None:
        self._payload = cloudpickle.dumps((context, task, config, Singleton.get_state()))
        self._workers, self._recycle_after, self._max_bytes = workers, recycle_after, max_gib * 2**30
        self._free_workers: list[_Worker] = []
        self._busy_workers: dict[int, _Worker] = {}

    def __enter__(self) -> WorkerPool:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for worker in (*self._free_workers, *self._busy_workers.values()):
            worker.stop(gently=kind is None)

    @property
    def free(self) -> int:
        """The number of jobs that can be submitted now."""
        return self._workers - len(self._busy_workers)

    @property
    def busy(self) -> int:
        """The number of running jobs."""
        return len(self._busy_workers)

    def submit(self, number: int, overrides: Sequence[str]) -> None:
        """Starts a job on a free worker."""
        worker = self._free_workers.pop() if self._free_workers else _Worker(run_trials, self._payload)
        worker.connection.send((number, list(overrides)))
        self._busy_workers[number] = worker

    def wait(self) -> dict[int, JobReturn]:
        """Waits until at least one job ends; returns job number to result."""
        ready = multiprocessing.connection.wait([worker.connection for worker in self._busy_workers.values()])
        ended = {}
        for number, worker in list(self._busy_workers.items()):
            if worker.connection not in ready:
                continue
            del self._busy_workers[number]
            try:
                ended[number], resident = worker.connection.recv()
            except (EOFError, OSError):
                ended[number] = failed(worker.exit_reason())
                continue
            worker.jobs += 1
            if worker.jobs >= self._recycle_after or resident > self._max_bytes:
                worker.stop(gently=True)
            else:
                self._free_workers.append(worker)
        return ended


class Isolated:
    """Runs a task in a child process, so that a crash or a leak does not affect the launcher's process.

    The child's working directory is that of the process that made this object.

    Args:
        task: the function that runs a job; its exceptions are raised in the caller.

    Raises:
        WorkerDied: when the child process dies.
    """

    def __init__(self, task: TaskFunction) -> None:
        self._task, self._folder = task, str(Path.cwd())

    def __call__(self, config: DictConfig) -> Any:
        """Runs the job of a composed configuration."""
        # joblib's processes have their own start method, which a child would inherit without knowing it.
        multiprocessing.set_start_method("spawn", force=True)
        worker = _Worker(run_trial, cloudpickle.dumps((self._task, self._folder, config, Singleton.get_state())))
        try:
            value = worker.connection.recv()
        except (EOFError, OSError):
            raise worker.exit_reason() from None
        except BaseException:
            worker.stop(gently=False)
            raise
        worker.stop(gently=True)
        if isinstance(value, Exception):
            raise value
        return value


class _Worker:
    """One process and the parent's end of its pipe."""

    def __init__(self, target: Callable[[Connection, bytes, Path], None], payload: bytes) -> None:
        self.connection, child_end = _SPAWN.Pipe()
        self.jobs = 0
        self._temporary = process_status.make_folder()
        self._process = _SPAWN.Process(target=target, args=(child_end, payload, self._temporary), daemon=True)
        self._process.start()
        child_end.close()

    def stop(self, *, gently: bool) -> None:
        """Endpoints the process, by closing its pipe or by a signal."""
        self.connection.close()
        if not gently:
            self._process.terminate()
        self._process.join(timeout=10)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        process_status.remove_folder(self._temporary)

    def exit_reason(self) -> WorkerDied:
        """The error for a process that died: how, and at which stage."""
        self._process.join(timeout=10)
        status = process_status.last_status(self._temporary)
        process_status.remove_folder(self._temporary)
        return WorkerDied(process_status.death_message(self._process.exitcode, status))
