"""Augmentation of training images, deterministic across machines."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sweep.core.errors import require_choice, require_integer
from sweep.core.types import Array


@dataclass(frozen=True)
class Augment:
    """Random translation and horizontal flip, for training images only.

    Args:
        shift: the largest translation in pixels, vertically and horizontally, uniform in [-shift, shift]; the border is 0.
        flip: whether an image is then flipped horizontally with probability 1/2.

    Raises:
        ConfigError: for a `shift` that is no integer of at least 0, or a `flip` that is no bool.
    """

    shift: int
    flip: bool

    def __post_init__(self) -> None:
        require_integer("shift", self.shift, 0, 10**6)
        require_choice("flip", self.flip, (True, False))

    def __call__(self, images: Array, seed: int, epoch: int) -> Array:
        """Augments the images of an epoch. The transformation of image i depends on seed, epoch and i alone.

        Args:
            images: uint8 (n, height, width, channels), in the same order each epoch; not modified.
            seed: in [0, 2**64).
            epoch: in [0, 2**64).

        Returns:
            uint8, same shape; `images` itself without a shift and a flip.
        """
        if not self.shift and not self.flip:
            return images
        height, width, channels = images.shape[1:]
        moves, words = 2 * self.shift + 1, random_words((seed, epoch), 3 * len(images)).reshape(-1, 3)
        draws = zip((words[:, 0] % moves).tolist(), (words[:, 1] % moves).tolist(), (words[:, 2] % 2).tolist(), strict=True)
        canvas = np.zeros((height + 2 * self.shift, width + 2 * self.shift, channels), np.uint8)
        middle = canvas[self.shift : self.shift + height, self.shift : self.shift + width]
        result = np.empty_like(images)
        for image, out, (top, left, mirror) in zip(images, result, draws, strict=True):
            middle[...] = image
            crop = canvas[top : top + height, left : left + width]
            out[...] = crop[:, ::-1] if self.flip and mirror else crop
        return result


def random_words(key: tuple[int, int], count: int) -> Array:
    """Philox's raw stream under a key: uint64 (count,), stable across numpy versions. A longer stream has the same prefix."""
    return np.random.Philox(key=np.array(key, np.uint64)).random_raw(count)
