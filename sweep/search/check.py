"""The check of a sweep's points before any of them runs."""

from __future__ import annotations

from collections.abc import Iterator

from sweep.config import build
from sweep.core.errors import ConfigError
from sweep.pipeline.origin import Origin
from sweep.pipeline.plan import Plan
from sweep.search.axes import Point
from sweep.search.space import Space

# Up to here every single point is checked; in a larger space every value of every axis, each once.
_CHECKED_WHOLE = 256


def check(space: Space) -> Origin:
    """Refuse, before anything runs, what any point's own run would refuse.

    Returns:
        What the points stand on.

    Raises:
        ConfigError: as `build.plan` and `Plan.check`; for a key that exists for no choice of the groups; for a point that would
            be written to another place than the sweep.
        ConfigCompositionException: Hydra's own, for an override that it does not take.
    """
    return Origin.of((plan, plan.check()) for plan in _plans(space))


def first_plan(space: Space) -> Plan:
    """The plan of one point.

    Raises:
        ConfigError: as `check`.
    """
    return next(_plans(space))


def _plans(space: Space) -> Iterator[Plan]:
    """The plans of the points that a check has to try.

    Raises:
        ConfigError: as `check`.
    """
    folder = space.config.hydra.sweep.dir  # first, so that a time in it is the same in what is composed
    for point in _samples(space):
        composed = space.composer.compose_quickly(point)
        own = space.composer.sweep_folder(point)
        for key, value, shared in (("output", composed.output, space.config.output), ("hydra.sweep.dir", own, folder)):
            if value != shared:
                raise ConfigError(key, "one value for the whole sweep", str(value))
        yield build.plan(composed)


def _samples(space: Space) -> Iterator[Point]:
    """All points of a small space; of a large one every value of every axis, the others at their first value."""
    if space.finite and space.size <= _CHECKED_WHOLE:
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
