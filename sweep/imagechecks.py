"""What the official arrays of a data set must be."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from sweep.records import Array, Arrays, ConfigError


def checked(arrays: Arrays, file: Path, shape: tuple[int, int, int], classes: int) -> Arrays:
    """The same arrays as uint8 (n, *shape) and int64 (n,), C-contiguous, in the order of KEYS.

    Raises:
        ConfigError: for another dtype or shape, no image, as many labels as there are not images, or a label that is no class.
    """
    shapes = [shape[:2], shape] if shape[2] == 1 else [shape]
    checked: dict[str, Array] = {}
    for part in ("train", "test"):
        images, labels = arrays[f"x_{part}"], arrays[f"y_{part}"]
        if images.dtype != np.uint8 or images.shape[1:] not in shapes or not len(images):
            expected = f"x_{part} to be uint8 of shape {' or '.join(f'(n, {str(one)[1:]}' for one in shapes)}, n at least 1"
            raise ConfigError("path", expected, f"{file}, where it is {images.dtype} {images.shape}")
        if labels.dtype.kind not in "iu" or labels.shape not in ((len(images),), (len(images), 1)):
            expected = f"y_{part} to be {len(images)} integers, a label for each image"
            raise ConfigError("path", expected, f"{file}, where it is {labels.dtype} {labels.shape}")
        if labels.min() < 0 or labels.max() >= classes:
            expected = f"the labels y_{part} to be in [0, {classes})"
            raise ConfigError("path", expected, f"{file}, where they run from {labels.min()} to {labels.max()}")
        checked[f"x_{part}"] = np.ascontiguousarray(images).reshape(-1, *shape)
        checked[f"y_{part}"] = labels.reshape(-1).astype(np.int64)
    return checked
