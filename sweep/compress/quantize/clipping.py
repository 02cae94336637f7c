"""The clipping threshold of a kernel's grid, for each channel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from sweep.core.types import Array
from sweep.tflite.weight_storage import largest


class Range(Protocol):
    """Where the grid of a kernel's channel ends: what is larger is cut off."""

    def ends(self, weights: Array, bits: int) -> Array:
        """The largest magnitude that each channel keeps.

        Args:
            weights: float (n, channels).
            bits: of the grid.

        Returns:
            float (channels,), at most the channel's largest magnitude.
        """


@dataclass(frozen=True)
class MinMax:
    """The grid reaches to the largest magnitude."""

    def ends(self, weights: Array, bits: int) -> Array:
        """Nothing is cut off."""
        most: Array = np.abs(weights).max(axis=0)
        return most


@dataclass(frozen=True)
class MSE:
    """Of a hundred even fractions of the largest magnitude, the end at which rounding and cutting err least in the square."""

    def ends(self, weights: Array, bits: int) -> Array:
        """See `Range`."""
        most, grid = np.abs(weights).max(axis=0), largest(bits)
        best, least = most.copy(), np.full(most.shape, np.inf)
        off = np.empty_like(weights)  # one array for all of them: making a hundred takes longer than filling them
        for fraction in np.linspace(1.0, 0.01, 100):
            end = most * fraction
            step = (np.where(end > 0, end, 1.0) / grid).astype(weights.dtype)
            np.clip(np.rint(np.divide(weights, step, out=off), out=off), -grid, grid, out=off)
            error = np.square(np.subtract(np.multiply(off, step, out=off), weights, out=off), out=off).sum(axis=0)
            best, least = np.where(error < least, end, best), np.minimum(error, least)
        return np.asarray(best)


@dataclass(frozen=True)
class OCTAV:
    """The end that Newton's method finds for the least mean square error of a grid (Sakr et al. 2022, arXiv 2206.06501, eq. 6).

    c becomes sum(|w| where |w| > c) / (4^-bits / 3 * count(0 < |w| <= c) + count(|w| > c)), from the mean magnitude on.
    """

    def ends(self, weights: Array, bits: int) -> Array:
        """See `Range`."""
        magnitude = np.abs(weights).astype(float)
        most = magnitude.max(axis=0)
        end = magnitude.sum(axis=0) / np.maximum(1, np.count_nonzero(magnitude, axis=0))
        for _ in range(50):
            beyond = magnitude > end
            within = np.count_nonzero((magnitude > 0) & ~beyond, axis=0)
            below = 4.0**-bits / 3.0 * within + np.count_nonzero(beyond, axis=0)
            moved = np.where(below > 0, (magnitude * beyond).sum(axis=0) / np.where(below > 0, below, 1.0), end)
            # Past the largest magnitude there is nothing to cut.
            moved = np.minimum(np.where(moved > 0, moved, end), most)
            if np.allclose(moved, end, rtol=1e-6):
                break
            end = moved
        return np.asarray(end)
