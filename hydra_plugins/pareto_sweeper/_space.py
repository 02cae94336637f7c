"""The space that a sweep covers: its axes in Hydra's grammar, where each applies, its points, and the check of them all."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from sweep import build
from sweep.records import ConfigError

# Up to here every single point is checked; in a larger space every value of every axis, each once.
_CHECKED_WHOLE = 256


@dataclass(frozen=True)
class Interval:
    """A range of numbers, both ends included; `log` spreads them evenly over the orders of magnitude."""

    low: float
    high: float
    log: bool
    integer: bool


@dataclass(frozen=True)
class Axis:
    """One override key and what it can be.

    Attributes:
        key: the override key, a config group's or a value's.
        text: the values as they were written.
        values: the text of each value, in order, each once; empty for an interval.
        interval: the interval, where the axis is one.
    """

    key: str
    text: str
    values: tuple[str, ...]
    interval: Interval | None = None

    @property
    def ordered(self) -> bool:
        """Whether the values are numbers that only grow or only fall, so that near ones are alike."""
        try:
            numbers = [float(value) for value in self.values]
        except ValueError:
            return False
        return len(numbers) > 1 and numbers in (sorted(numbers), sorted(numbers, reverse=True))

    def samples(self) -> tuple[str, ...]:
        """Values that a check has to try: all of them, or an interval's ends."""
        if self.interval is None:
            return self.values
        return tuple(number_text(end, self.interval) for end in (self.interval.low, self.interval.high))


def number_text(number: float, interval: Interval) -> str:
    """A number of an interval as an override's value: an integer, or six significant digits."""
    return str(round(number)) if interval.integer else f"{number:.6g}"


Point = tuple[str, ...]
"""Override texts (`key=value`), the axes that apply in the sweep's order."""


@dataclass(frozen=True)
class Space:
    """Axes, and overrides that hold for every point.

    Args:
        loader: composes configurations.
        config: the parent's configuration.
        axes: what varies; an axis applies to a point only where its key exists in the point's configuration.
        fixed: override texts that hold everywhere.
    """

    loader: ConfigLoader
    config: DictConfig
    axes: tuple[Axis, ...]
    fixed: tuple[str, ...]

    @staticmethod
    def parse(loader: ConfigLoader, config: DictConfig, params: Mapping[str, Any], arguments: Sequence[str]) -> Space:
        """The space of the sweeper's `params` (override key to text) with the command line's `arguments` on top.

        Raises:
            ConfigError: for an interval without numbers in it.
        """
        parser = OverridesParser.create(config_loader=loader)
        given = list(parser.parse_overrides(list(arguments)))
        keys = {override.get_key_element() for override in given}
        defaults = parser.parse_overrides([f"{key}={value}" for key, value in params.items() if key not in keys])
        every = [*defaults, *given]
        axes = tuple(_axis(override) for override in every if override.is_sweep_override())
        fixed = tuple(str(override.input_line) for override in every if not override.is_sweep_override())
        return Space(loader, config, axes, fixed)

    @cached_property
    def groups(self) -> tuple[Axis, ...]:
        """The axes over config groups' choices, which decide which of the others apply."""
        return tuple(axis for axis in self.axes if self.loader.get_group_options(axis.key.partition("@")[0].lstrip("+")))

    @property
    def finite(self) -> bool:
        """Whether every axis has a list of values."""
        return not any(axis.interval for axis in self.axes)

    @property
    def text(self) -> dict[str, str]:
        """Axis key to its values as written."""
        return {axis.key: axis.text for axis in self.axes}

    def applying(self, choices: Sequence[str]) -> tuple[Axis, ...]:
        """The axes besides the groups that exist under these choices (override texts of every group axis)."""
        return self._applying[tuple(choices)]

    @cached_property
    def _applying(self) -> dict[tuple[str, ...], tuple[Axis, ...]]:
        values = [axis for axis in self.axes if axis not in self.groups]
        found = {}
        for choices in itertools.product(*([f"{axis.key}={value}" for value in axis.values] for axis in self.groups)):
            composed = self.compose(choices)
            found[choices] = tuple(axis for axis in values if axis.key.startswith("+") or _exists(composed, axis.key))
        applied = {axis.key for axes in found.values() for axis in axes}
        for axis in values:
            if axis.key not in applied:
                for choices in found:  # Hydra's own refusal names the near keys
                    self.compose((*choices, f"{axis.key}={axis.samples()[0]}"))
                raise ConfigError(axis.key, "a key that exists for at least one choice of the sweep", axis.text)
        return found

    def points(self) -> Iterator[Point]:
        """Every point of a finite space, each once."""
        seen = set()
        for choices, axes in self._applying.items():
            for combination in itertools.product(*([f"{axis.key}={value}" for value in axis.values] for axis in axes)):
                point = self.ordered((*choices, *combination))
                if point not in seen:
                    seen.add(point)
                    yield point

    @property
    def size(self) -> float:
        """How many points there are; infinite with an interval of real numbers."""
        total = 0.0
        for axes in self._applying.values():
            total += math.prod(_count(axis) for axis in axes)
        return total

    def ordered(self, overrides: Sequence[str]) -> Point:
        """The overrides in the order of the axes."""
        rank = {axis.key: number for number, axis in enumerate(self.axes)}
        return tuple(sorted(overrides, key=lambda text: rank[text.partition("=")[0]]))

    def compose(self, overrides: Sequence[str]) -> DictConfig:
        """The configuration of a point."""
        return self.loader.load_sweep_config(self.config, [*overrides, *self.fixed])

    def check(self) -> None:
        """Refuse, before anything runs, what any point's own run would refuse.

        Raises:
            ConfigError: as `build.plan` and `Plan.check`; for a key that exists for no choice of the groups.
        """
        for point in self._samples():
            build.plan(self.compose(point)).check()

    def _samples(self) -> Iterator[Point]:
        if self.finite and self.size <= _CHECKED_WHOLE:
            yield from self.points()
            return
        for choices, axes in self._applying.items():
            first = {axis.key: axis.samples()[0] for axis in axes}
            yield self.ordered((*choices, *(f"{key}={value}" for key, value in first.items())))
            for axis in axes:
                for value in axis.samples()[1:]:
                    yield self.ordered((*choices, *(f"{key}={text}" for key, text in {**first, axis.key: value}.items())))


def _axis(override: Override) -> Axis:
    key, text = override.get_key_element(), str(override.input_line).partition("=")[2]
    value = override.value()
    if isinstance(value, RangeSweep):
        # 0.1, 0.2, 0.3: not the 0.30000000000000004 that adding steps comes to.
        return Axis(key, text, tuple(dict.fromkeys(_short(one) for one in override.sweep_string_iterator())))
    if not isinstance(value, IntervalSweep):
        return Axis(key, text, tuple(dict.fromkeys(override.sweep_string_iterator())))
    low, high = value.start, value.end
    if low is None or high is None or low >= high or ("log" in value.tags and low <= 0):
        raise ConfigError(key, "an interval(low, high) with low < high, above 0 for a log scale", text)
    return Axis(key, text, (), Interval(low, high, "log" in value.tags, isinstance(low, int) and isinstance(high, int)))


def _short(number: str) -> str:
    return f"{float(number):.12g}" if "." in number else number


def _count(axis: Axis) -> float:
    if axis.interval is None:
        return len(axis.values)
    return math.floor(axis.interval.high) - math.ceil(axis.interval.low) + 1 if axis.interval.integer else math.inf


def _exists(config: DictConfig, key: str) -> bool:
    """Whether `key` is in the configuration, null values included."""
    *path, name = key.split(".")
    node: Any = config
    try:
        for step in path:
            node = node[step]
        return isinstance(node, DictConfig) and name in node.keys()  # noqa: SIM118 - `in node` is False for null
    except OmegaConfBaseException:
        return False
