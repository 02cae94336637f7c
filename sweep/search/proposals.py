"""Conversion between points of the space and Optuna's parameters."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from sweep.search.axes import Axis, Point, number_text

if TYPE_CHECKING:
    import optuna


@dataclass(frozen=True, eq=False)
class Proposal:
    """A point to run.

    Attributes:
        number: the number of the trial in the sweep, from 0; it names the folder.
        point: the overrides.
        trial: Optuna's trial.
    """

    number: int
    point: Point
    trial: optuna.Trial


def suggested(trial: optuna.Trial, axis: Axis) -> str:
    """The sampler's choice of a value, as text."""
    if (interval := axis.interval) is not None:
        if interval.integer:
            return number_text(trial.suggest_int(axis.key, int(interval.low), int(interval.high), log=interval.log), interval)
        return number_text(trial.suggest_float(axis.key, interval.low, interval.high, log=interval.log), interval)
    if axis.ordered:
        return axis.values[trial.suggest_int(axis.key, 0, len(axis.values) - 1)]
    return str(trial.suggest_categorical(axis.key, tuple(axis.values)))


def draw(random: np.random.Generator, axis: Axis) -> str:
    """A value drawn uniformly, as text."""
    if axis.interval is None:
        return axis.values[int(random.integers(len(axis.values)))]
    number = random.uniform(axis.interval.low, axis.interval.high + axis.interval.integer)
    return number_text(math.floor(number) if axis.interval.integer else number, axis.interval)


def representative(axis: Axis, text: str) -> str:
    """The text itself, if it is a value of the axis.

    Raises:
        ValueError: if it is not.
    """
    interval, encoded = axis.interval, encode(axis, text)
    if interval is None:
        within = text in axis.values
    else:  # an end that is written with six digits may lie outside
        within = interval.low <= encoded <= interval.high or number_text(encoded, interval) in axis.samples()
    if not within:
        raise ValueError(text)
    return text


def encode(axis: Axis, text: str) -> Any:
    """Optuna's parameter value for a text, the inverse of `suggested`: a number, a position, or the text itself."""
    if axis.interval is not None:
        return int(text) if axis.interval.integer else float(text)
    return axis.values.index(text) if axis.ordered else text
