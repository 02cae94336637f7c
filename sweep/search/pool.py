"""Processes that run trials, spawned (a fork after TensorFlow has run hangs) and replaced before they grow or when they die.

What goes through the pipes is pickled by this program for itself; nothing of a user's, a data set's or the cache's is
unpickled.
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

from sweep.core import watched
from sweep.search.worker import failed, run_trial, run_trials

_SPAWN = multiprocessing.get_context("spawn")


class WorkerDied(RuntimeError):
    """The process that ran a trial is gone, and what it was doing with it."""


class WorkerPool:
    """Workers that take one job each at a time.

    Args:
        context: Hydra's.
        task: what runs a job.
        config: the parent's configuration.
        workers: how many processes.
        recycle_after: jobs after which a process is replaced.
        max_gib: resident memory above which it is replaced earlier.
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
        """How many jobs can be submitted now."""
        return self._workers - len(self._busy_workers)

    @property
    def busy(self) -> int:
        """How many jobs are under way."""
        return len(self._busy_workers)

    def submit(self, number: int, overrides: Sequence[str]) -> None:
        """Start a job on a free worker."""
        worker = self._free_workers.pop() if self._free_workers else _Worker(run_trials, self._payload)
        worker.connection.send((number, list(overrides)))
        self._busy_workers[number] = worker

    def wait(self) -> dict[int, JobReturn]:
        """Wait until at least one job ended; job number to what came of it."""
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
    """A task in a process of its own: a launcher whose process runs it outlives it, and keeps nothing of its memory.

    It works in the folder that this object was made in, wherever the launcher's process is.

    Args:
        task: what runs a job. What it raises is raised.

    Raises:
        WorkerDied: when the process dies of it.
    """

    def __init__(self, task: TaskFunction) -> None:
        self._task, self._folder = task, str(Path.cwd())

    def __call__(self, config: DictConfig) -> Any:
        """Run the job that Hydra has composed in this process."""
        # joblib's processes have a start method of their own, which a child of theirs would be given and does not know.
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
        self.connection, theirs = _SPAWN.Pipe()
        self.jobs = 0
        self._temporary = watched.make()
        self._process = _SPAWN.Process(target=target, args=(theirs, payload, self._temporary), daemon=True)
        self._process.start()
        theirs.close()

    def stop(self, *, gently: bool) -> None:
        """End the process: by closing its pipe, or by a signal."""
        self.connection.close()
        if not gently:
            self._process.terminate()
        self._process.join(timeout=10)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        watched.remove(self._temporary)

    def exit_reason(self) -> WorkerDied:
        """The error that says how the process died and what it was doing."""
        self._process.join(timeout=10)
        doing = watched.last(self._temporary)
        watched.remove(self._temporary)
        return WorkerDied(watched.death(self._process.exitcode, doing))
