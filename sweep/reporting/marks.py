"""The points of a plot, and the spans of its axes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, eq=False)
class Mark:
    """A point of a plot, in the units of its axes.

    Attributes:
        x: the horizontal coordinate.
        y: the vertical coordinate.
        spread: the standard deviations of x and y; 0 if unknown.
        group: the value of the category that colours it.
        shade: the third objective; NaN without one.
        label: a short label.
        hover: the lines of its tooltip.
    """

    x: float
    y: float
    spread: tuple[float, float] = (0.0, 0.0)
    group: str = ""
    shade: float = math.nan
    label: str = ""
    hover: tuple[str, ...] = ()


@dataclass(frozen=True)
class Span:
    """An interval of an axis."""

    low: float
    high: float
    logarithmic: bool

    @staticmethod
    def of(reaches: Sequence[tuple[float, float]], logarithmic: bool) -> Span:
        """The union of intervals: at least an octave on a logarithmic axis, else 2 % of its position."""
        low, high = min(low for low, _ in reaches), max(high for _, high in reaches)
        if not logarithmic:
            least = 0 if high > low else max(abs(high) * 0.02, 1e-3)
            return Span(low - least / 2, high + least / 2, logarithmic)
        wider = 2 ** max(0.0, (1 - math.log2(high / low)) / 2)
        return Span(low / wider, high * wider, logarithmic)

    @property
    def extent(self) -> float:
        """Its length; in octaves on a logarithmic axis."""
        return math.log2(self.high / self.low) if self.logarithmic else self.high - self.low

    def joined(self, reaches: Iterable[tuple[float, float]]) -> Span:
        """With some stretches besides."""
        return Span.of([(self.low, self.high), *reaches], self.logarithmic)

    def growth(self, value: float) -> float:
        """How many times as long it is with a value."""
        return self.joined([(value, value)]).extent / self.extent

    def including(self, values: Iterable[float]) -> Span:
        """The span extended to each value that lengthens it by at most a third."""
        span = self
        for value in values:
            if value > 0 or not self.logarithmic:
                wider = Span(min(span.low, value), max(span.high, value), self.logarithmic)
                span = wider if wider.extent <= self.extent * 4 / 3 else span
        return span

    def padded(self, before: float, after: float) -> tuple[float, float]:
        """Its ends with padding before and after, as fractions of its extent."""
        if self.logarithmic:
            return self.low / 2 ** (before * self.extent), self.high * 2 ** (after * self.extent)
        return self.low - before * self.extent, self.high + after * self.extent


def reach(value: float, spread: float, logarithmic: bool) -> tuple[float, float]:
    """The ends of an error bar."""
    return value if logarithmic and spread >= value else value - spread, value + spread


def front_line(points: Sequence[tuple[float, float]], *, ascending: bool) -> list[tuple[float, float]]:
    """The corners of the attainment staircase of the points on a front."""
    ordered = sorted(set(points), reverse=not ascending)
    corners = ordered[:1]
    for x, y in ordered[1:]:
        corners += [(x, corners[-1][1]), (x, y)]
    return corners


def running(points: Sequence[tuple[float, float]], more_is_better: bool) -> list[tuple[float, float]]:
    """The corners of the running best value over the trials."""
    if not points:
        return []
    best = list(itertools.accumulate((y for _, y in points), max if more_is_better else min))
    return [*front_line([(x, y) for (x, _), y in zip(points, best, strict=True)], ascending=True)]
