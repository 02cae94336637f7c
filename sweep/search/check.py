"""The check of a sweep's points before any trial runs."""

from __future__ import annotations

from collections.abc import Iterator

from sweep.config import build
from sweep.core.errors import ConfigError
from sweep.core.metrics import METRICS, OF_TARGETS
from sweep.core.types import Data
from sweep.pipeline.origin import Origin
from sweep.pipeline.plan import Plan
from sweep.search.axes import Point
from sweep.search.settings import Settings
from sweep.search.space import Space

# Up to this size every point is checked; in a larger space every value of every axis, once.
_MAX_FULL_CHECK = 256


def check(space: Space, settings: Settings) -> Origin:
    """Refuses, before anything runs, every point that its own run would refuse, or that lacks a metric of the search.

    Args:
        space: the points.
        settings: name the objectives and the constraints.

    Returns:
        The data, code, configuration and versions that all points share.

    Raises:
        ConfigError: for an invalid configuration of a point; for a key that exists under no choice of the groups; for a point
            with another output folder than the sweep; for an objective or a constraint that a target does not measure.
        ConfigCompositionException: Hydra's own, for an override that it refuses.
    """
    return Origin.of((plan, _checked(plan, settings)) for plan in _plans(space))


def _checked(plan: Plan, settings: Settings) -> Data:
    """The data of a plan that can work."""
    data = plan.check()
    for key, names in (("objectives", settings.objectives), ("constraints", settings.constraints)):
        for name in names:
            if name in OF_TARGETS and name not in plan.target.metrics(plan.quant):
                expected = f"it where every file has it, that is {METRICS[name].only}"
                received = f"a point with target={plan.target.name} and files of the form {plan.quant.storage.value}"
                raise ConfigError(f"hydra.sweeper.{key}.{name}", expected, received)
    return data


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
