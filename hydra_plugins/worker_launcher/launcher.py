"""The plugin's face. Hydra imports this module at every start, so the work is in `sweep.search.pool`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import II, DictConfig


@dataclass
class WorkerLauncherConfig:
    """Keys of the launcher.

    Attributes:
        n_jobs: processes that run trials side by side; the sweeper's own key by default.
        recycle_after: trials after which a process is replaced by a fresh one, since TensorFlow never gives all memory back.
        max_gib: resident memory, in GiB, above which a process is replaced earlier.
    """

    _target_: str = "hydra_plugins.worker_launcher.launcher.WorkerLauncher"
    n_jobs: int = II("hydra.sweeper.n_jobs")
    recycle_after: int = 25
    max_gib: float = 4.0


ConfigStore.instance().store(group="hydra/launcher", name="workers", node=WorkerLauncherConfig, provider="worker_launcher")


class WorkerLauncher(Launcher):
    """Runs trials in processes of their own, so that none can take the sweep down with it.

    Args:
        n_jobs: as in `WorkerLauncherConfig`, at least 1.
        recycle_after: at least 1.
        max_gib: above 0.

    Raises:
        ConfigError: for a value out of its range.
    """

    def __init__(self, n_jobs: int, recycle_after: int, max_gib: float) -> None:
        from sweep.core.errors import (
            require_integer,
            require_number,  # it imports numpy, which `--help` does without
        )

        require_integer("hydra.launcher.n_jobs", n_jobs, 1, 1024)
        require_integer("hydra.launcher.recycle_after", recycle_after, 1, 10**9)
        require_number("hydra.launcher.max_gib", max_gib, 0, 10**6, open_low=True)
        self._workers, self._recycle_after, self._max_gib = n_jobs, recycle_after, max_gib

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keep what a worker needs."""
        self._context, self._task, self._config = hydra_context, task_function, config

    def pool(self) -> Any:
        """The processes, as a context manager that takes jobs one by one (see `sweep.search.pool.WorkerPool`)."""
        from sweep.search.pool import WorkerPool

        return WorkerPool(
            self._context,
            self._task,
            self._config,
            workers=self._workers,
            recycle_after=self._recycle_after,
            max_gib=self._max_gib,
        )

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run a batch; returns when all of it is through, in its order."""
        done: dict[int, JobReturn] = {}
        waiting = [(initial_job_idx + offset, list(overrides)) for offset, overrides in enumerate(job_overrides)]
        with self.pool() as pool:
            while waiting or pool.busy:
                while waiting and pool.free:
                    pool.submit(*waiting.pop(0))
                done |= pool.wait()
        return [done[number] for number in sorted(done)]
