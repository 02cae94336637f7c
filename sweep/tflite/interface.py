"""The scaling of a `.tflite` file's input, and the meaning of its output."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from sweep.core.types import Array


@dataclass(frozen=True)
class Interface:
    """The scaling from pixels to real input values, and the rule from outputs to a class.

    Attributes:
        low: the real value of pixel 0.
        high: the real value of pixel 255; the scaling is linear.
        threshold: for a single output, the value above which the class is 1, otherwise 0. None: the class is the index of the
            largest output.
    """

    low: float = 0.0
    high: float = 1.0
    threshold: float | None = None

    @property
    def pixels(self) -> Array:
        """The real value of each pixel, float32 (256,)."""
        return (self.low + (self.high - self.low) * np.arange(256) / 255).astype(np.float32)

    def classes(self, outputs: Array, dequantised: Callable[[Array], Array]) -> Array:
        """The class of each image.

        Args:
            outputs: raw outputs, (n, classes), of the output tensor's type.
            dequantised: maps raw outputs to real values.

        Returns:
            int64 (n,); of equal outputs the first counts.
        """
        if self.threshold is None:
            return np.asarray(outputs.argmax(axis=1), np.int64)
        return np.asarray(dequantised(outputs)[:, 0] > self.threshold, np.int64)


OWN = Interface()
"""The interface of the files of this project: pixels divided by 255, one logit per class."""
