"""What a sweep's front is to be shown beside: refused before anything trains, measured once, written to the sweep's folder."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from multiprocessing import get_context
from pathlib import Path

from sweep.config import build
from sweep.core.errors import ConfigError
from sweep.core.types import Progress
from sweep.devices.fitness import Unfit
from sweep.devices.litert import LiteRT
from sweep.pipeline import foreign
from sweep.pipeline.cache import Cache
from sweep.pipeline.memo import Memo
from sweep.pipeline.plan import Plan
from sweep.results import references
from sweep.results.references import Reference
from sweep.search.check import first_plan
from sweep.search.console import say
from sweep.search.space import Space


def of(space: Space) -> tuple[Reference, ...]:
    """The references that a sweep names, in the order given.

    A file may be anybody's, so it is run in a process of its own: one that dies takes the sweep down with a line, no more.

    Raises:
        ConfigError: for a file that the sweep's data set does not fit, that LiteRT cannot run, or that cannot be read; for a
            sweep over several data sets.
    """
    paths = build.references(space.config)
    if not paths:
        return ()
    if varied := [axis.key for axis in space.axes if axis.key.partition(".")[0] == "dataset"]:
        raise ConfigError("sweep.references", "a sweep over one data set", f"an axis {varied[0]}")
    points = {path: references.published(path) for path in paths if path.suffix.lower() == ".csv"}
    measured = [path for path in paths if path not in points]
    points |= dict(zip(measured, _measured(measured, space), strict=True))
    return tuple(reference for path in paths for reference in points[path])


def keep(folder: Path, beside: Sequence[Reference]) -> None:
    """Write the references of a sweep to its folder, in the place of those of an earlier start."""
    if beside or (folder / references.RECORD).exists():
        references.write(folder, beside)


def _measured(paths: Sequence[Path], space: Space) -> list[tuple[Reference]]:
    if not paths:
        return []
    plan = first_plan(space)
    data = plan.check()
    for path in paths:
        foreign.opened(path, data)
    say(f"measuring {', '.join(map(str, paths))}")
    measure = partial(_measure, plan, build.output(space.config) / "cache")
    found, stems = [], [path.stem for path in paths]
    with ProcessPoolExecutor(1, get_context("spawn"), signal.signal, (signal.SIGINT, signal.SIG_IGN)) as pool:
        for path in paths:
            try:
                name = path.stem if stems.count(path.stem) == 1 else str(path.with_suffix(""))
                found.append((pool.submit(measure, path, name).result(),))
            except BrokenProcessPool as error:
                raise ConfigError(str(path), "a file that LiteRT runs", "the process that ran it died") from error
    return found


def _measure(plan: Plan, store: Path, path: Path, name: str) -> Reference:
    """In the process of its own. A file that does not run on the target is shown with what LiteRT tells."""
    data = plan.dataset.load()
    file = foreign.opened(path, data)
    measured = partial(file.metrics, data, memo=Memo(Cache(store)), threads=plan.threads, progress=_Quiet())
    source = f"{path}; {file.scaling}"
    try:
        metrics = measured(plan.target)
    except Unfit as error:
        metrics, source = measured(LiteRT()), f"{source}; it does not run on {plan.target.name}: {error}"
    return Reference(name, source, measured=True, metrics=dict(metrics))


class _Quiet(Progress):
    """Progress that nobody watches."""

    def stage(self, name: str, unit: str = "epoch") -> None:
        return None

    def advance(self, done: float, total: float, note: str) -> None:
        return None

    def finish(self, name: str, seconds: float, reused: bool) -> None:
        return None
