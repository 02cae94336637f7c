"""The axes of a sweep: listed values, ranges and intervals."""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import overload

from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep

from sweep.core.errors import ConfigError

# A range of more values than the first is not expanded; of it as many steps as the second are checked.
_MAX_EXPANDED, _CHECKED_STEPS = 1000, 10
_MAX_SHUFFLED, _MAX_STEPS = 100_000, 2**53


@dataclass(frozen=True)
class Steps(Sequence[str]):
    """Evenly spaced numbers as override values, computed on access, since there may be more than fit in memory.

    Args:
        start: the first number.
        step: the difference of neighbouring numbers.
        length: the number of numbers.
        integer: whether they are integers.
    """

    start: Decimal
    step: Decimal
    length: int
    integer: bool

    def __len__(self) -> int:
        return self.length

    @overload
    def __getitem__(self, position: int) -> str: ...
    @overload
    def __getitem__(self, position: slice) -> tuple[str, ...]: ...
    def __getitem__(self, position: int | slice) -> str | tuple[str, ...]:
        if isinstance(position, slice):
            return tuple(self[number] for number in range(*position.indices(self.length)))
        number = self.start + self.step * range(self.length)[position]
        return str(int(number)) if self.integer else _short(str(float(number)))

    def index(self, value: str, start: int = 0, stop: int | None = None) -> int:
        """The position of a value, computed from its number."""
        position = round((Decimal(value) - self.start) / self.step)
        if not 0 <= position < self.length or self[position] != value:
            raise ValueError(f"{value} is none of the steps")
        return position


@dataclass(frozen=True)
class Interval:
    """The closed interval [low, high], sampled uniformly, or log-uniformly with `log`."""

    low: float
    high: float
    log: bool
    integer: bool


@dataclass(frozen=True)
class Axis:
    """An override key and its domain.

    Attributes:
        key: the override key, of a config group or a value.
        text: the domain as the user wrote it.
        values: the distinct values in order, as override texts; empty for an interval.
        interval: the interval; None for a list of values.
    """

    key: str
    text: str
    values: Sequence[str]
    interval: Interval | None = None

    @property
    def ordered(self) -> bool:
        """Whether the values are numbers in ascending or descending order."""
        if isinstance(self.values, Steps):
            return len(self.values) > 1
        try:
            numbers = [float(value) for value in self.values]
        except ValueError:
            return False
        return len(numbers) > 1 and numbers in (sorted(numbers), sorted(numbers, reverse=True))

    def samples(self) -> tuple[str, ...]:
        """The values that a check tries: all of a list, the ends of an interval, or evenly spaced ones of a long range."""
        if isinstance(self.values, Steps):
            last = len(self.values) - 1
            return tuple(self.values[last * number // _CHECKED_STEPS] for number in range(_CHECKED_STEPS + 1))
        if self.interval is None:
            return tuple(self.values)
        return tuple(number_text(end, self.interval) for end in (self.interval.low, self.interval.high))


def number_text(number: float, interval: Interval) -> str:
    """A number of an interval as an override value: an integer, or six significant digits."""
    return str(round(number)) if interval.integer else f"{number:.6g}"


Point = tuple[str, ...]
"""The override texts (`key=value`) of a point, for the axes that apply, in the sweep's order."""


def product(axes: Sequence[Axis]) -> Iterator[Point]:
    """Every combination of the axes' override texts."""
    return itertools.product(*([f"{axis.key}={value}" for value in axis.values] for axis in axes))


def parse_axis(override: Override) -> Axis:
    """The axis of a sweep override.

    Raises:
        ConfigError: for a range that is empty or too long to shuffle, or an interval without numbers.
    """
    key, text = override.get_key_element(), str(override.input_line).partition("=")[2]
    value = override.value()
    if isinstance(value, RangeSweep):
        steps = _steps(key, text, value)
        if len(steps) > _MAX_EXPANDED and not value.shuffle:
            return Axis(key, text, steps)
        if len(steps) > _MAX_SHUFFLED:
            raise ConfigError(key, f"at most {_MAX_SHUFFLED:,} values to shuffle", f"{len(steps):,}")
        # Rounded: 0.3, not the 0.30000000000000004 of repeated addition.
        return Axis(key, text, tuple(dict.fromkeys(_short(text) for text in override.sweep_string_iterator())))
    if not isinstance(value, IntervalSweep):
        values = tuple(dict.fromkeys(override.sweep_string_iterator()))
        if not values:
            raise ConfigError(key, "at least one value", f"{text}, which matches nothing")
        return Axis(key, text, values)
    low, high = (math.nan if end is None else end for end in (value.start, value.end))
    if not -math.inf < low < high < math.inf or ("log" in value.tags and low <= 0):
        raise ConfigError(key, "an interval(low, high) with low < high, above 0 for a log scale", text)
    return Axis(key, text, (), Interval(low, high, "log" in value.tags, isinstance(low, int) and isinstance(high, int)))


def _steps(key: str, text: str, value: RangeSweep) -> Steps:
    """The numbers of a range.

    Raises:
        ConfigError: for a range that is empty, has a number that is not finite or a step of 0, or has over 2^53 values.
    """
    numbers = (value.start, value.stop, value.step)
    integer = all(isinstance(number, int) for number in numbers)
    start, stop, step = (Decimal(str(number)) for number in numbers)
    if not all(number.is_finite() for number in (start, stop, step)) or step == 0:
        raise ConfigError(key, "a range of finite numbers whose step is not 0", text)
    try:
        count = math.ceil((stop - start) / step)
    except ArithmeticError:
        count = sys.maxsize
    if count < 1:
        raise ConfigError(key, "at least one value", f"{text}, which is empty")
    if count > _MAX_STEPS:
        raise ConfigError(key, f"at most {_MAX_STEPS:,} values", text)
    return Steps(start, step, count, integer)


def _short(number: str) -> str:
    return repr(float(f"{float(number):.12g}")) if "." in number else number


def axis_size(axis: Axis) -> float:
    """The number of values of the axis; infinite for an interval of real numbers."""
    if axis.interval is None:
        return len(axis.values)
    return math.floor(axis.interval.high) - math.ceil(axis.interval.low) + 1 if axis.interval.integer else math.inf
