"""Clipping thresholds of the weights of a kernel: the largest magnitude, a percentile, MSE-optimal by search, and OCTAV."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from sweep.core.errors import require_number
from sweep.core.types import Array
from sweep.tflite.weight_storage import largest


class ClippingMethod(Protocol):
    """Chooses the clipping threshold of each channel: the magnitude at which its symmetric grid ends."""

    def thresholds(self, weights: Array, bits: int) -> Array:
        """Returns the clipping threshold of each channel.

        Args:
            weights: float (n, channels).
            bits: of the grid, 2 to 8.

        Returns:
            float (channels,), in [0, the channel's largest magnitude].
        """


@dataclass(frozen=True)
class MinMax:
    """Sets the threshold to the largest magnitude, so that nothing is clipped."""

    def thresholds(self, weights: Array, bits: int) -> Array:
        """Returns the largest magnitude of each channel, float (channels,)."""
        largest_magnitudes: Array = np.abs(weights).max(axis=0)
        return largest_magnitudes


@dataclass(frozen=True)
class Percentile:
    """Sets the threshold to a percentile of the channel's magnitudes, interpolated linearly between them.

    Args:
        percent: which one, in (0, 100]; 100 is the largest magnitude.
    """

    percent: float

    def __post_init__(self) -> None:
        require_number("percent", self.percent, 0, 100, open_low=True)

    def thresholds(self, weights: Array, bits: int) -> Array:
        """Returns the percentile of each channel, float (channels,).

        Where it is 0, since most of the channel was pruned, the largest magnitude takes its place.
        """
        magnitudes = np.abs(weights)
        chosen = np.percentile(magnitudes, self.percent, axis=0)
        return np.where(chosen > 0, chosen, magnitudes.max(axis=0))


@dataclass(frozen=True)
class MSE:
    """Searches the MSE-optimal threshold among 100 even fractions of the channel's largest magnitude."""

    def thresholds(self, weights: Array, bits: int) -> Array:
        """Returns the threshold of each channel with the least squared quantisation error, float (channels,).

        Of equal errors the largest threshold is taken.
        """
        magnitudes, grid = np.abs(weights).max(axis=0), largest(bits)
        best, least_error = magnitudes.copy(), np.full(magnitudes.shape, np.inf)
        buffer = np.empty_like(weights)  # allocating an array for each fraction takes longer than filling it
        for fraction in np.linspace(1.0, 0.01, 100):
            threshold = magnitudes * fraction
            scale = (np.where(threshold > 0, threshold, 1.0) / grid).astype(weights.dtype)
            np.clip(np.rint(np.divide(weights, scale, out=buffer), out=buffer), -grid, grid, out=buffer)
            np.subtract(np.multiply(buffer, scale, out=buffer), weights, out=buffer)
            error = np.square(buffer, out=buffer).sum(axis=0)
            best = np.where(error < least_error, threshold, best)
            least_error = np.minimum(error, least_error)
        return np.asarray(best)


@dataclass(frozen=True)
class OCTAV:
    """Finds the MSE-optimal threshold by Newton's method (OCTAV; Sakr et al. 2022, arXiv 2206.06501, eq. 6).

    From the mean of the non-zero magnitudes on, the threshold c becomes

        sum(|w| where |w| > c) / (4^-bits / 3 * count(0 < |w| <= c) + count(|w| > c)),

    at most 50 times, until it changes by less than a millionth. It is limited to the channel's largest magnitude.
    """

    def thresholds(self, weights: Array, bits: int) -> Array:
        """Returns the threshold of each channel, float64 (channels,)."""
        magnitude = np.abs(weights).astype(float)
        largest_magnitudes = magnitude.max(axis=0)
        threshold = magnitude.sum(axis=0) / np.maximum(1, np.count_nonzero(magnitude, axis=0))
        for _ in range(50):
            clipped = magnitude > threshold
            rounded = np.count_nonzero((magnitude > 0) & ~clipped, axis=0)
            denominator = 4.0**-bits / 3.0 * rounded + np.count_nonzero(clipped, axis=0)
            positive = denominator > 0
            numerator = (magnitude * clipped).sum(axis=0)
            update = np.where(positive, numerator / np.where(positive, denominator, 1.0), threshold)
            update = np.minimum(np.where(update > 0, update, threshold), largest_magnitudes)
            if np.allclose(update, threshold, rtol=1e-6):
                break
            threshold = update
        return np.asarray(threshold)
