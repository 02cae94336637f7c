"""Random images to probe a network with, and a comparison of outputs up to rounding."""

from __future__ import annotations

from typing import Any

import numpy as np

from sweep.core.types import Array

_IMAGES = 3
_CLOSE = 1e-4  # relative tolerance: float32 sums in another order


def random_images(input_shape: tuple[int, int, int]) -> Array:
    """float32 (3, height, width, channels) in [0, 1), the same at every call."""
    images: Array = np.random.default_rng(0).random((_IMAGES, *input_shape), np.float32)
    return images


def close(first: Any, second: Any) -> bool:
    """Whether two arrays are equal up to the rounding of float32 sums in another order."""
    a, b = np.asarray(first), np.asarray(second)
    largest = max(float(np.abs(a).max(initial=0)), 1e-6)
    return a.shape == b.shape and bool((np.abs(a - b) <= _CLOSE * largest).all() or np.array_equal(a, b))


def flat(value: Any) -> list[Any]:
    """The tensors of a nested structure, in its order."""
    import tensorflow as tf

    parts: list[Any] = tf.nest.flatten(value)
    return parts


def first_line(error: BaseException) -> str:
    """The first sentence of an error's message, at most 300 characters; the name of its class for an empty one."""
    text = " ".join(str(error).split())
    return text.partition(". ")[0][:300] or type(error).__name__
