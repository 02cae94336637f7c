"""The grid: its axes, its points, the check of them all, and their launch one after another.

Every axis is finite here. An axis applies to a point only where its key exists in that point's configuration, so
`quant=none,ptq,qat quant.bits=4,8` has five points. All points are checked before the first one runs.
"""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from omegaconf import DictConfig, OmegaConf

from sweep import build, track
from sweep.records import ConfigError

_MISSING = object()


class SweepFailed(RuntimeError):
    """Some trials failed; the others are complete."""


@dataclass(frozen=True)
class Axis:
    """One override key and the override texts that it takes in turn."""

    key: str
    overrides: tuple[str, ...]


def sweep(
    launcher: Launcher, loader: ConfigLoader, config: DictConfig, params: Mapping[str, Any], arguments: Sequence[str]
) -> list[JobReturn]:
    """Run every point of the grid once.

    Args:
        launcher: runs the trials.
        loader: composes their configurations.
        config: the parent's configuration.
        params: override key to values in Hydra's sweep grammar, out of `hydra.sweeper.params`.
        arguments: the command line's overrides.

    Returns:
        One JobReturn a point, in the grid's order.

    Raises:
        ConfigError: before anything runs, for an axis or a point that cannot work.
        SweepFailed: after everything ran, when a trial failed.
    """
    axes, fixed = parse(loader, params, arguments)
    points = [list(point) for point in _points(loader, config, axes, fixed)]
    name, tracker = build.sweep_name(config), build.tracker(config)
    build.output(config)
    build.prepare(tracker)
    swept = {axis.key: ",".join(text.partition("=")[2] for text in axis.overrides) for axis in axes}
    parent = tracker.open_sweep(name, swept, {}, f"{len(points)} trials.")
    returns: list[JobReturn] = []
    began = time.monotonic()
    status: track.Status = "KILLED"
    try:
        for number, point in enumerate(points):
            _say(f"trial {number + 1} of {len(points)}: {' '.join(point) or 'the defaults'}")
            own = [f"sweep.name={name}", f"hydra.sweep.subdir=trial-{number:03d}"]
            if parent is not None:
                own.append(f"tracking.parent_run_id={parent}")
            returns.extend(launcher.launch([[*point, *own]], initial_job_idx=number))
            if returns[-1].status is not JobStatus.COMPLETED:
                # `return_value` would print a line of Hydra's own and raise.
                _say(f"  failed: {build.explain(returns[-1]._return_value)[1]}")
            left = (time.monotonic() - began) / (number + 1) * (len(points) - number - 1)
            _say(f"  {number + 1} done, {len(points) - number - 1} to go" + (f", about {_clock(left)} left" if left else ""))
        status = "FAILED" if any(job.status is not JobStatus.COMPLETED for job in returns) else "FINISHED"
    finally:
        done = sum(job.status is JobStatus.COMPLETED for job in returns)
        counts = {"trials": len(points), "trials_complete": done, "trials_failed": len(returns) - done}
        try:
            told = f"{done} of {len(points)} trials."
            tracker.close_sweep(parent, status=status, metrics=counts, artifacts=[], description=told)
        except track.TrackingError as error:
            _say(f"warning: could not close the sweep's run in MLflow: {error}")
    _say(f"{done} of {len(points)} trials in {_clock(time.monotonic() - began)}: {build.output(config)}/sweeps/{name}")
    if failed := [number for number, job in enumerate(returns) if job.status is not JobStatus.COMPLETED]:
        where = ", ".join(f"trial-{number:03d}" for number in failed)
        raise SweepFailed(f"{len(failed)} of {len(points)} trials failed ({where}); each holds an error.txt and a log")
    return returns


def parse(loader: ConfigLoader, params: Mapping[str, Any], arguments: Sequence[str]) -> tuple[list[Axis], list[str]]:
    """The axes, and the overrides that hold for every point.

    Raises:
        ConfigError: for an axis without a finite list of values.
    """
    parser = OverridesParser.create(config_loader=loader)
    given = list(parser.parse_overrides(list(arguments)))
    keys = {override.get_key_element() for override in given}
    defaults = parser.parse_overrides([f"{key}={value}" for key, value in params.items()])
    axes, fixed = [], []
    for override in [*(one for one in defaults if one.get_key_element() not in keys), *given]:
        if not override.is_sweep_override():
            fixed.append(str(override.input_line))
        elif override.is_discrete_sweep():
            axes.append(Axis(override.get_key_element(), tuple(dict.fromkeys(_texts(override)))))
        else:
            finite = "a finite axis: a,b,c or range(…) or glob(…)"
            raise ConfigError(override.get_key_element(), finite, str(override.input_line))
    return axes, fixed


def _texts(override: Override) -> list[str]:
    """The override texts that a sweep stands for."""
    key = override.get_key_element()
    return [f"{key}={value}" for value in override.sweep_string_iterator()]


def _points(loader: ConfigLoader, config: DictConfig, axes: Sequence[Axis], fixed: Sequence[str]) -> list[tuple[str, ...]]:
    """Every distinct point that the grid has, each checked.

    Raises:
        ConfigError: for a key that exists for no choice of the groups, and for whatever a point's own run would refuse.
    """
    groups = [axis for axis in axes if loader.get_group_options(axis.key.partition("@")[0])]
    values = [axis for axis in axes if axis not in groups]
    applied: set[str] = set()
    points: dict[tuple[str, ...], None] = {}
    for choice in itertools.product(*(axis.overrides for axis in groups)):
        composed = loader.load_sweep_config(config, [*choice, *fixed])
        here = [
            axis
            for axis in values
            if axis.key.startswith("+") or OmegaConf.select(composed, axis.key, default=_MISSING) is not _MISSING
        ]
        applied.update(axis.key for axis in here)
        for combination in itertools.product(*(axis.overrides for axis in here)):
            chosen = {text.partition("=")[0]: text for text in (*choice, *combination)}
            points[(*(chosen[axis.key] for axis in axes if axis.key in chosen), *fixed)] = None
    if nowhere := [axis.key for axis in values if axis.key not in applied]:
        raise ConfigError(nowhere[0], "a key that exists for at least one choice of the sweep", "a key that exists for none")
    for point in points:
        build.plan(loader.load_sweep_config(config, list(point))).check()
    return list(points)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d}" if minutes >= 60 else f"{minutes}:{seconds:02d}"
