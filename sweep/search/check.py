"""The check of a sweep's points before any trial runs."""

from __future__ import annotations

from collections.abc import Iterator

from sweep.config import build
from sweep.core.errors import ConfigError
from sweep.pipeline.origin import Origin
from sweep.pipeline.plan import Plan
from sweep.search.axes import Point
from sweep.search.space import Space

# Up to this size every point is checked; in a larger space every value of every axis, once.
_MAX_FULL_CHECK = 256


def check(space: Space) -> Origin:
    """Refuses, before anything runs, every point that its own run would refuse.

    Returns:
        The data, code, configuration and versions that all points share.

    Raises:
        ConfigError: for an invalid configuration of a point; for a key that exists under no choice of the groups; for a point
            with another output folder than the sweep.
        ConfigCompositionException: Hydra's own, for an override that it refuses.
    """
    return Origin.of((plan, plan.check()) for plan in _plans(space))


def first_plan(space: Space) -> Plan:
    """The plan of one point.

    Raises:
        ConfigError: as `check`.
    """
    return next(_plans(space))


def _plans(space: Space) -> Iterator[Plan]:
    """The plans of the points that are checked.

    Raises:
        ConfigError: for an invalid configuration or another output folder.
    """
    folder = space.config.hydra.sweep.dir  # resolved first, so that all points share a timestamp in it
    for point in _samples(space):
        composed = space.composer.compose_quickly(point)
        own = space.composer.sweep_folder(point)
        for key, value, shared in (("output", composed.output, space.config.output), ("hydra.sweep.dir", own, folder)):
            if value != shared:
                raise ConfigError(key, "one value for the whole sweep", str(value))
        yield build.plan(composed)


def _samples(space: Space) -> Iterator[Point]:
    """All points of a small space; of a large one every value of every axis, with the other axes at their first value."""
    if space.finite and space.size <= _MAX_FULL_CHECK:
        yield from space.points()
        return
    conditions = space.conditions
    for choices in conditions.choices:
        axes = conditions.values_under(choices)
        first = {axis.key: axis.samples()[0] for axis in axes}
        yield conditions.ordered([*choices, *(f"{key}={value}" for key, value in first.items())])
        for axis in axes:
            for value in axis.samples()[1:]:
                changed = first | {axis.key: value}
                yield conditions.ordered([*choices, *(f"{key}={text}" for key, text in changed.items())])
