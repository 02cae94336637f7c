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

# A range of more values than this is never written out; so many of it are checked.
_WRITTEN_OUT, _CHECKED_STEPS = 1000, 10
_MOST_SHUFFLED, _COUNTABLE = 100_000, 2**53


@dataclass(frozen=True)
class Steps(Sequence[str]):
    """The texts of evenly spaced numbers, each made when it is asked for: there may be more than memory holds.

    Args:
        start: the first number.
        step: the difference of neighbouring numbers.
        length: how many there are.
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
        """The position of a text, found by its number."""
        position = round((Decimal(value) - self.start) / self.step)
        if not 0 <= position < self.length or self[position] != value:
            raise ValueError(f"{value} is none of the steps")
        return position


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
    values: Sequence[str]
    interval: Interval | None = None

    @property
    def ordered(self) -> bool:
        """Whether the values are numbers that only grow or only fall, so that near ones are alike."""
        if isinstance(self.values, Steps):
            return len(self.values) > 1
        try:
            numbers = [float(value) for value in self.values]
        except ValueError:
            return False
        return len(numbers) > 1 and numbers in (sorted(numbers), sorted(numbers, reverse=True))

    def samples(self) -> tuple[str, ...]:
        """Values that a check has to try: all of them, an interval's ends, or some of a range of very many and its ends."""
        if isinstance(self.values, Steps):
            last = len(self.values) - 1
            return tuple(self.values[last * number // _CHECKED_STEPS] for number in range(_CHECKED_STEPS + 1))
        if self.interval is None:
            return tuple(self.values)
        return tuple(number_text(end, self.interval) for end in (self.interval.low, self.interval.high))


def number_text(number: float, interval: Interval) -> str:
    """A number of an interval as an override's value: an integer, or six significant digits."""
    return str(round(number)) if interval.integer else f"{number:.6g}"


Point = tuple[str, ...]
"""Override texts (`key=value`), the axes that apply in the sweep's order."""


def product(axes: Sequence[Axis]) -> Iterator[Point]:
    """Every combination of the axes' override texts."""
    return itertools.product(*([f"{axis.key}={value}" for value in axis.values] for axis in axes))


def parse_axis(override: Override) -> Axis:
    """The axis that an override with several values describes.

    Raises:
        ConfigError: for a range that is empty or too long to shuffle, or an interval without numbers.
    """
    key, text = override.get_key_element(), str(override.input_line).partition("=")[2]
    value = override.value()
    if isinstance(value, RangeSweep):
        steps = _steps(key, text, value)
        if len(steps) > _WRITTEN_OUT and not value.shuffle:
            return Axis(key, text, steps)
        if len(steps) > _MOST_SHUFFLED:
            raise ConfigError(key, f"at most {_MOST_SHUFFLED:,} values to shuffle", f"{len(steps):,}")
        # 0.1, 0.2, 0.3: not the 0.30000000000000004 that adding steps comes to.
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
        ConfigError: for a range of none, or of more than can be counted.
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
    if count > _COUNTABLE:
        raise ConfigError(key, f"at most {_COUNTABLE:,} values", text)
    return Steps(start, step, count, integer)


def _short(number: str) -> str:
    return repr(float(f"{float(number):.12g}")) if "." in number else number


def axis_size(axis: Axis) -> float:
    """How many values the axis has; infinite for an interval of real numbers."""
    if axis.interval is None:
        return len(axis.values)
    return math.floor(axis.interval.high) - math.ceil(axis.interval.low) + 1 if axis.interval.integer else math.inf
