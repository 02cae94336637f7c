"""The space that a sweep covers: its axes in Hydra's grammar, and its points."""

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
from sweep.search.conditions import Conditions, is_brought, is_group

# Choices of the groups that are composed to count the points exactly.
_COMPOSED = 64
# What all trials of a sweep have in common, by its nature or (threads) by that of the processes that they share.
_SHARED = ("output", "sweep.", "tracking", "threads")


@dataclass(frozen=True, eq=False)
class Space:
    """Axes, and overrides that hold for every point.

    Args:
        loader: composes configurations.
        config: the parent's configuration.
        axes: what varies; an axis applies to a point only where its key exists in the point's configuration.
        fixed: override texts that hold everywhere.
        where_known: override texts of one value each that hold, as an axis does, where their key exists.
    """

    loader: ConfigLoader
    config: DictConfig
    axes: tuple[Axis, ...]
    fixed: Point
    where_known: Point = ()

    @staticmethod
    def parse(loader: ConfigLoader, config: DictConfig, params: Mapping[str, Any], arguments: Sequence[str]) -> Space:
        """The space of the sweeper's `params` (override key to text) with the command line's `arguments` on top.

        A single value among the `params` holds where its key exists, as an axis does; on the command line it must exist. null
        takes an axis out.

        Raises:
            ConfigError: for an interval without numbers in it.
        """
        parser = OverridesParser.create(config_loader=loader)
        given = list(parser.parse_overrides(list(arguments)))
        keys = {override.get_key_element() for override in given}
        wanted = {key: value for key, value in params.items() if value is not None and key not in keys}
        defaults = parser.parse_overrides([f"{key}={value}" for key, value in wanted.items()])
        every = [*defaults, *given]
        axes = tuple(parse_axis(override) for override in every if override.is_sweep_override())
        single = [override for override in every if not override.is_sweep_override()]
        known = [override for override in single if override in defaults]
        known = [override for override in known if not _always_there(loader, override.get_key_element())]
        known.sort(key=lambda override: not is_brought(override.get_key_element()))  # a teacher's network, then its width
        fixed = tuple(str(override.input_line) for override in single if override not in known)
        for axis in axes:
            if axis.key.startswith(_SHARED):
                raise ConfigError(axis.key, "one value for the whole sweep", axis.text)
        return Space(loader, config, axes, fixed, tuple(str(override.input_line) for override in known))

    @cached_property
    def conditions(self) -> Conditions:
        """Where each axis applies."""
        groups = [axis for axis in self.axes if is_group(self.loader, axis.key)]
        brought = [axis for axis in groups if is_brought(axis.key)]
        composer = Composer(self.loader, self.config, frozenset(axis.key for axis in groups), self.fixed, self.where_known)
        return Conditions(
            axes=self.axes,
            composer=composer,
            always=tuple(axis for axis in groups if axis not in brought),
            brought=tuple(brought),
            values=tuple(axis for axis in self.axes if axis not in groups),
        )

    @property
    def composer(self) -> Composer:
        """Composes the configurations of the points."""
        return self.conditions.composer

    @property
    def finite(self) -> bool:
        """Whether every axis has a list of values."""
        return not any(axis.interval for axis in self.axes)

    @property
    def text(self) -> dict[str, str]:
        """Axis key to its values as written."""
        return {axis.key: axis.text for axis in self.axes}

    @property
    def size(self) -> float:
        """How many points there are; infinite with an interval of real numbers."""
        conditions = self.conditions
        return sum(_product(conditions.values_under(choices)) for choices in conditions.choices)

    def walk(self, choose: Callable[[Axis], str]) -> Point:
        """One point, chosen axis by axis: the groups first, which decide which of the others apply.

        Args:
            choose: gives the text of a value of the axis.
        """
        return self.conditions.walk(choose)

    def points(self) -> Iterator[Point]:
        """Every point of a finite space, each once."""
        return self.conditions.points()

    def compose(self, overrides: Sequence[str]) -> DictConfig:
        """The configuration of a point, as Hydra composes it for its trial."""
        return self.composer.compose(overrides)

    def constants(self, overrides: Sequence[str]) -> Point:
        """The override texts that a point has in common with all others to which they apply."""
        return self.composer.constants(overrides)

    def require_finite(self) -> None:
        """Refuse an interval, which a grid cannot have.

        Raises:
            ConfigError: naming the axis.
        """
        for axis in self.axes:
            if axis.interval:
                raise ConfigError("hydra.sweeper.n_trials", f"a number of trials, since {axis.key} is an interval", "null")

    def require_at_most(self, points: int, *, search: bool) -> None:
        """Refuse a grid of more points, and a search over more choices of the groups: each of those is composed.

        Raises:
            ConfigError: with their number, within a second.
        """
        groups = _product(self.conditions.group_axes)
        most = _product(self.axes)  # where every axis applies everywhere
        if groups > points or (not search and most > points and groups > _COMPOSED):
            count = groups if search else most
        else:
            count = 0 if search or most <= points else self.size
        if count > points:
            expected = f"at most {points:,} points, or n_trials for a search"
            raise ConfigError("hydra.sweeper.max_points", expected, f"{count:,.0f}")


def _product(axes: Sequence[Axis]) -> float:
    """How many combinations the axes have."""
    return math.prod(axis_size(axis) for axis in axes)


def _always_there(loader: ConfigLoader, key: str) -> bool:
    return is_group(loader, key) and not is_brought(key)
