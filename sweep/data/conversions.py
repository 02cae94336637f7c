"""What a user's arrays may be besides uint8 images and integer labels: floats that are pixels, and one-hot labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from sweep.core.errors import ConfigError
from sweep.core.types import Array

_CHUNK = 1024  # images that are converted at once


def pixels(key: str, images: Array, file: Path) -> tuple[Array, str]:
    """Converts images to uint8.

    Args:
        key: the name of the array.
        images: (n, …), uint8 or floats. Floats of at most 1 are pixels divided by 255, others are pixels.
        file: the file, for the error.

    Returns:
        uint8 (n, …), and what was done in a few words; nothing for uint8.

    Raises:
        ConfigError: at `path`, for floats that are no pixels.
    """
    if images.dtype == np.uint8:
        return images, ""
    largest = max((float(np.max(images[start : start + _CHUNK])) for start in range(0, len(images), _CHUNK)), default=0.0)
    factor, meaning = (255.0, "pixels divided by 255") if largest <= 1 else (1.0, "pixels of 0 to 255")
    tolerance = max(1e-3, 255 * 2 * float(np.finfo(images.dtype).eps))
    converted = np.empty(images.shape, np.uint8)
    for start in range(0, len(images), _CHUNK):
        values = images[start : start + _CHUNK].astype(np.float64) * factor
        whole = np.rint(values)
        with np.errstate(invalid="ignore"):  # infinity less infinity
            wrong = ~((np.abs(values - whole) <= tolerance) & (whole >= 0) & (whole <= 255))
        if wrong.any():
            expected = f"{key} to be uint8, whole multiples of 1/255 in [0, 1], or whole numbers in [0, 255]"
            first = images[start : start + _CHUNK][wrong].flat[0]
            raise ConfigError("path", expected, f"{file}, where it is {images.dtype} with {first:g}")
        converted[start : start + _CHUNK] = whole
    return converted, f"{key} ({images.dtype}) is taken as {meaning}"


def labels(key: str, values: Array, file: Path) -> tuple[Array, str]:
    """Converts one-hot labels to integers.

    Args:
        key: the name of the array.
        values: integers (n,) or (n, 1), or numbers (n, classes).
        file: the file, for the error.

    Returns:
        Integers (n,) or (n, 1), and what was done in a few words; nothing for integers.

    Raises:
        ConfigError: at `path`, for rows that are not a single 1 among zeros.
    """
    if values.ndim == 1 or values.shape[1] == 1:
        return values, ""
    one_hot = ((values == 0) | (values == 1)).all(axis=1) & (values.sum(axis=1) == 1)
    if not one_hot.all():
        row = int(np.argmin(one_hot))
        raise ConfigError(
            "path", f"{key} to be integers, or one-hot rows", f"{file}, where row {row} is {values[row].tolist()[:10]}"
        )
    return values.argmax(axis=1), f"{key} {values.shape} is taken as one-hot labels of {values.shape[1]} classes"
