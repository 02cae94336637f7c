"""Augmentation: what training does to its images, the same on every machine."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sweep.core.errors import require_choice, require_integer
from sweep.core.types import Array


@dataclass(frozen=True)
class Augment:
    """Random crops and mirror images, for training images only.

    Args:
        shift: how many pixels, at most, an image moves up, down, left or right; what it leaves behind is 0.
        flip: whether an image is then mirrored left to right with probability 1/2.

    Raises:
        ConfigError: for a `shift` that is no integer of at least 0, or a `flip` that is no bool.
    """

    shift: int
    flip: bool

    def __post_init__(self) -> None:
        require_integer("shift", self.shift, 0, 10**6)
        require_choice("flip", self.flip, (True, False))

    def __call__(self, images: Array, seed: int, epoch: int) -> Array:
        """The images of one epoch: what happens to image i depends on seed, epoch and i alone, not on the others.

        Args:
            images: uint8 (n, height, width, channels), in an order that is the same each epoch; left as they are.
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
    """uint64 (count,): the raw stream of a counter-based generator, which numpy never changes; a longer one begins alike."""
    return np.random.Philox(key=np.array(key, np.uint64)).random_raw(count)
