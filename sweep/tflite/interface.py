"""How pixels become what the input of a `.tflite` file takes, and its output a class."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from sweep.core.types import Array


@dataclass(frozen=True)
class Interface:
    """From pixels to an input tensor, and from an output tensor to a class.

    Attributes:
        low: the real value that a pixel of 0 enters as.
        high: that of 255; the others lie evenly between.
        threshold: where there is a single output: above it the class is 1, otherwise 0. None: the class is the index of the
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
            dequantised: from raw outputs to real values.

        Returns:
            int64 (n,): of equal outputs the first.
        """
        above = outputs.argmax(axis=1) if self.threshold is None else dequantised(outputs)[:, 0] > self.threshold
        return np.asarray(above, np.int64)


OWN = Interface()
"""That of a file of this project."""
