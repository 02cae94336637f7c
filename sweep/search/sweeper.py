"""A sweep from its settings to its results: check, open the records of earlier starts, run, report.

`sweep.report` and `sweep.best` read its records (`sweep.json`, and a `trial.json` for each trial).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

from hydra.core.config_loader import ConfigLoader
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from omegaconf import DictConfig

from sweep.config import build
from sweep.search import references
from sweep.search.batches import Batches, Pool
from sweep.search.check import check
from sweep.search.front import Front, margin
from sweep.search.loop import Loop
from sweep.search.parent_run import ParentRun
from sweep.search.recorder import Records
from sweep.search.settings import Settings
from sweep.search.space import Space
from sweep.search.study import Study


def sweep(
    launcher: Launcher, loader: ConfigLoader, config: DictConfig, settings: Settings, arguments: Sequence[str]
) -> list[JobReturn]:
    """Runs the sweep, or the rest of an interrupted one.

    Args:
        launcher: runs the trials.
        loader: composes their configurations.
        config: the configuration of the sweep itself.
        settings: the sweeper's keys.
        arguments: the command line's overrides.

    Returns:
        One JobReturn for each trial that this call ran, in the order in which they ended.

    Raises:
        ConfigError: before anything runs, for settings, an axis, a point or a reference that cannot work; for a sweep of the
            same name over another space or with other objectives.
        SweepFailed: after everything ran, when a trial failed.
    """
    space = Space.parse(loader, config, settings.params, arguments)
    if settings.n_trials is None and settings.timeout is None:
        space.require_finite()
    bounds = settings.bounds
    space.require_at_most(settings.max_points, search=settings.n_trials is not None or not space.finite)
    origin = check(space, settings)
    folder = build.output(config) / "sweeps" / build.sweep_name(config)
    tracker = build.tracker(config)
    build.prepare(tracker)
    records = Records.open(folder, space, settings, arguments, origin)
    beside = references.of(space)
    with records.lock():
        references.keep(folder, beside)
        recorded = records.trials()
        study = Study(
            folder,
            space,
            objectives=settings.objectives,
            constraints=bounds,
            sampler=settings.sampler,
            seed=settings.seed,
            total=settings.n_trials if settings.n_trials is not None or space.finite else sys.maxsize,
            recorded=recorded,
        )
        parent = ParentRun.open(tracker, records, study.total)
        front = Front(settings, margin(settings, space), folder, recorded)
        return Loop(settings, study, _pool(launcher, settings.n_jobs, records), front, parent).run()


def _pool(launcher: Launcher, n_jobs: int, records: Records) -> AbstractContextManager[Pool]:
    """The launcher as a pool of workers."""
    if hasattr(launcher, "pool"):
        pool: AbstractContextManager[Pool] = launcher.pool()
        return pool
    return nullcontext(Batches(launcher, n_jobs, records.folder))
