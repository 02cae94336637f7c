"""The search space of a sweep: its axes in Hydra's override grammar, and its points."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig

from sweep.core.errors import ConfigError
from sweep.search.axes import Axis, Point, axis_size, parse_axis
from sweep.search.composer import Composer
from sweep.search.conditions import Conditions, is_group, is_nested

# The most combinations of group choices that are composed to count the points exactly.
_MAX_COMPOSED = 64
# Keys that all trials of a sweep share, `threads` since they share processes.
_SHARED = ("output", "sweep.", "tracking", "threads")


@dataclass(frozen=True, eq=False)
class Space:
    """The axes of a sweep, and the overrides that all points share.

    Args:
        loader: Hydra's config loader.
        config: the configuration of the sweep itself.
        axes: the axes; an axis applies to a point only if its key exists in the point's configuration.
        fixed: the override texts that apply to every point.
        where_known: the override texts that apply, as an axis does, where their key exists.
    """

    loader: ConfigLoader
    config: DictConfig
    axes: tuple[Axis, ...]
    fixed: Point
    where_known: Point = ()

    @staticmethod
    def parse(loader: ConfigLoader, config: DictConfig, params: Mapping[str, Any], arguments: Sequence[str]) -> Space:
        """Parses the sweeper's `params` (override key to text); the command line's `arguments` take precedence.

        A single value among the `params` applies where its key exists, as an axis does; on the command line its key must exist.
        null removes an axis.

        Raises:
            ConfigError: for an interval without numbers in it.
        """
        parser = OverridesParser.create(config_loader=loader)
        overrides = list(parser.parse_overrides(list(arguments)))
        keys = {override.get_key_element() for override in overrides}
        wanted = {key: value for key, value in params.items() if value is not None and key not in keys}
        defaults = parser.parse_overrides([f"{key}={value}" for key, value in wanted.items()])
        every = [*defaults, *overrides]
        axes = tuple(parse_axis(override) for override in every if override.is_sweep_override())
        single = [override for override in every if not override.is_sweep_override()]
        known = [override for override in single if override in defaults]
        known = [override for override in known if not _is_primary_group(loader, override.get_key_element())]
        # Groups before values: a teacher's network, then its width.
        known.sort(key=lambda override: not is_nested(override.get_key_element()))
        fixed = tuple(str(override.input_line) for override in single if override not in known)
        for axis in axes:
            if axis.key.startswith(_SHARED):
                raise ConfigError(axis.key, "one value for the whole sweep", axis.text)
        return Space(loader, config, axes, fixed, tuple(str(override.input_line) for override in known))

    @cached_property
    def conditions(self) -> Conditions:
        """The conditions under which each axis applies."""
        groups = [axis for axis in self.axes if is_group(self.loader, axis.key)]
        nested = [axis for axis in groups if is_nested(axis.key)]
        composer = Composer(self.loader, self.config, frozenset(axis.key for axis in groups), self.fixed, self.where_known)
        return Conditions(
            axes=self.axes,
            composer=composer,
            always=tuple(axis for axis in groups if axis not in nested),
            nested=tuple(nested),
            values=tuple(axis for axis in self.axes if axis not in groups),
        )

    @property
    def composer(self) -> Composer:
        """Composes the configurations of the points."""
        return self.conditions.composer

    @property
    def finite(self) -> bool:
        """Whether no axis is an interval."""
        return not any(axis.interval for axis in self.axes)

    @property
    def text(self) -> dict[str, str]:
        """Axis key to its domain as the user wrote it."""
        return {axis.key: axis.text for axis in self.axes}

    @property
    def size(self) -> float:
        """The number of points; infinite with an interval of real numbers."""
        conditions = self.conditions
        return sum(_product(conditions.values_under(choices)) for choices in conditions.choices)

    def walk(self, choose: Callable[[Axis], str]) -> Point:
        """Chooses a point axis by axis: the groups first, since they decide which other axes apply.

        Args:
            choose: returns a value of the axis as text.
        """
        return self.conditions.walk(choose)

    def points(self) -> Iterator[Point]:
        """The distinct points of a finite space."""
        return self.conditions.points()

    def compose(self, overrides: Sequence[str]) -> DictConfig:
        """The configuration of a point, as Hydra composes it for its trial."""
        return self.composer.compose(overrides)

    def constants(self, overrides: Sequence[str]) -> Point:
        """The override texts besides the axes' that apply to a point."""
        return self.composer.constants(overrides)

    def require_finite(self) -> None:
        """Refuses an interval, which a grid cannot have.

        Raises:
            ConfigError: naming the axis.
        """
        for axis in self.axes:
            if axis.interval:
                raise ConfigError("hydra.sweeper.n_trials", f"a number of trials, since {axis.key} is an interval", "null")

    def require_at_most(self, points: int, *, search: bool) -> None:
        """Refuses a grid of more points, and a search over more combinations of group choices, since each is composed.

        Raises:
            ConfigError: with their number.
        """
        groups = _product(self.conditions.group_axes)
        most = _product(self.axes)  # the number of points if every axis applied everywhere
        if groups > points or (not search and most > points and groups > _MAX_COMPOSED):
            count = groups if search else most
        else:
            count = 0 if search or most <= points else self.size
        if count > points:
            expected = f"at most {points:,} points, or n_trials for a search"
            raise ConfigError("hydra.sweeper.max_points", expected, f"{count:,.0f}")


def _product(axes: Sequence[Axis]) -> float:
    """The number of combinations of the axes' values."""
    return math.prod(axis_size(axis) for axis in axes)


def _is_primary_group(loader: ConfigLoader, key: str) -> bool:
    """Whether every configuration has the group."""
    return is_group(loader, key) and not is_nested(key)
