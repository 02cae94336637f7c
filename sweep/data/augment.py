"""Augmentation of the training images: deterministic, the same on every machine."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sweep.core.errors import require_choice, require_integer
from sweep.core.types import Array


@dataclass(frozen=True)
class Augment:
    """Random crops and mirror images, for training images only.

    Args:
        shift: the largest shift in pixels, up, down, left or right; the border is filled with 0.
        flip: whether an image is mirrored left to right with probability 1/2, after the shift.

    Raises:
        ConfigError: for a `shift` that is no integer of at least 0, or a `flip` that is no bool.
    """

    shift: int
    flip: bool

    def __post_init__(self) -> None:
        require_integer("shift", self.shift, 0, 10**6)
        require_choice("flip", self.flip, (True, False))

    def __call__(self, images: Array, seed: int, epoch: int) -> Array:
        """Returns the augmented images of one epoch. Image i depends on seed, epoch and i alone, not on the other images.

        Args:
            images: uint8 (n, height, width, channels), in the same order each epoch; they are not changed.
            seed: in [0, 2**64).
            epoch: in [0, 2**64).

        Returns:
            uint8, same shape; `images` itself where there is nothing to do.
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
    """Returns uint64 (count,): a prefix of the raw stream of a counter-based generator, which NumPy keeps stable."""
    return np.random.Philox(key=np.array(key, np.uint64)).random_raw(count)
