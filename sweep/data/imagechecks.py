"""Validation of the official arrays of a data set, and warnings about likely mistakes.

Arrays that cannot be used are refused, where possible before they are read, by what the file declares. Arrays that can be used
but are likely a mistake give a warning.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np

from sweep.core.errors import ConfigError
from sweep.core.types import Array, Arrays
from sweep.data.datafiles import Declared, Source, listed

_AXES = ("image", "row", "column", "channel")
_FEW = 4  # channels of a usual image, at most
_DARK = 31  # of 255: no image is as dark as this throughout
_AT_ONCE = 256  # images that are hashed at once
_GIB = 1 << 30


def require_form(source: Source, file: Path, shape: tuple[int, int, int] | None, channels: int | None = None) -> None:
    """Refuses arrays that are not images with a label each, by their types and shapes.

    Args:
        source: what the file declares.
        file: its path, for the error.
        shape: the required (height, width, channels); None for that of x_train.
        channels: the number of channels that the user declares; None where it is not declared.

    Raises:
        ConfigError: at `path`, with the array and how to convert it; at `channels`, where x_train has another number.
    """
    for part in ("train", "test"):
        images, labels = source.arrays[f"x_{part}"], source.arrays[f"y_{part}"]
        _require_images(f"x_{part}", images, file, shape)
        _require_labels(f"y_{part}", labels, images, file)
        if shape is None:
            shape = image_shape(images.shape)
            _require_sound_axes(images, file, shape, channels)


def require_room(source: Source, file: Path, max_gib: float) -> None:
    """Refuses arrays that take more than `max_gib` GiB of memory.

    Raises:
        ConfigError: at `max_gib`.
    """
    needed = sum(array.nbytes for array in source.arrays.values()) / _GIB
    if needed > max_gib:
        largest = max(source.arrays, key=lambda key: source.arrays[key].nbytes)
        expected = f"at least {math.ceil(needed * 100) / 100:g}, the GiB of the arrays in {file} ({largest} is"
        raise ConfigError("max_gib", f"{expected} {source.arrays[largest]})", max_gib)


def image_shape(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Returns (height, width, channels) of images (n, height, width) or (n, height, width, channels)."""
    height, width = shape[1], shape[2]
    return height, width, shape[3] if len(shape) == 4 else 1


def checked(arrays: Arrays, file: Path, classes: int | None) -> tuple[Arrays, int]:
    """Returns the arrays as uint8 (n, height, width, channels) and int64 (n,), C-contiguous, in the order of KEYS.

    Args:
        arrays: that passed `require_form`.
        file: their path, for the error.
        classes: the number of classes; None for the number of different labels in y_train.

    Returns:
        The arrays and the number of classes.

    Raises:
        ConfigError: at `path`, for a label outside [0, classes), or fewer than two classes.
    """
    if classes is None:
        classes = len(np.unique(arrays["y_train"]))
        if classes < 2:
            only = f"{file}, with {classes}: every label is {arrays['y_train'].flat[0]}"
            raise ConfigError("path", "labels y_train of at least two classes", only)
    shape = image_shape(arrays["x_train"].shape)
    result: dict[str, Array] = {}
    for part in ("train", "test"):
        labels = arrays[f"y_{part}"].reshape(-1)
        if labels.min() < 0 or labels.max() >= classes:
            expected = f"the labels y_{part} to be in [0, {classes}), the classes numbered from 0 without a gap"
            received = f"{file}, where they run from {labels.min()} to {labels.max()}{_gap(labels, arrays['y_train'])}"
            raise ConfigError("path", expected, received)
        result[f"x_{part}"] = np.ascontiguousarray(arrays[f"x_{part}"]).reshape(-1, *shape)
        result[f"y_{part}"] = labels.astype(np.int64)
    return result, classes


def oddities(arrays: Arrays, classes: int, unread: tuple[str, ...], channels: int | None = None) -> Iterator[str]:
    """Yields a sentence for each likely mistake, with how to correct it.

    Args:
        arrays: as `checked` returns them.
        classes: the number of classes.
        unread: the names of further arrays in the file.
        channels: as in `require_form`.
    """
    if unread:
        yield f"{listed(list(unread))} in it is not read: it takes x_train, y_train, x_test and y_test only"
    height, width, found = arrays["x_train"].shape[1:]
    if channels is None and found == 1 and min(height, width) <= _FEW < max(height, width):
        yield (
            f"its images are read as {height}×{width} grey pixels (flat ones become images by x.reshape(-1, height, width);"
            " dataset.channels=1 says that these are right)"
        )
    hashes = {key: _hashes(arrays[key]) for key in ("x_train", "x_test")}
    for key, words in hashes.items():
        brightest = int(arrays[key].max())
        if len(words) > 1 and len(np.unique(words)) == 1:
            yield f"every image of {key} is the same"
        elif brightest <= _DARK:
            yield f"the brightest pixel of {key} is {brightest} of 255; pixels of 0 to {brightest} are to be multiplied first"
    for part in ("train", "test"):
        if absent := np.setdiff1d(np.arange(classes), arrays[f"y_{part}"]).tolist():
            yield f"y_{part} has no image of class {listed(list(map(str, absent)))}"
    yield from _repeated(hashes["x_train"], hashes["x_test"])


def _repeated(train: Array, test: Array) -> Iterator[str]:
    """Yields what duplicate images mean for the accuracies; nothing where all images are equal."""
    different = len(np.unique(train))
    if different == 1:
        return
    if leaked := int(np.isin(test, train).sum()):
        yield f"{leaked} of the {len(test)} images of x_test are in x_train too: test_accuracy is not of unseen images alone"
    if again := len(train) - different:
        yield f"{again} of the {len(train)} images of x_train come again, perhaps held out: val_accuracy may flatter"


def _require_images(key: str, images: Declared, file: Path, shape: tuple[int, int, int] | None) -> None:
    if shape is None:
        wanted, fits = "(n, height, width) or (n, height, width, channels)", len(images.shape) in (3, 4)
    else:
        shapes = [shape[:2], shape] if shape[2] == 1 else [shape]
        wanted = " or ".join(f"(n, {', '.join(map(str, one))})" for one in shapes)
        fits = images.shape[1:] in shapes
    if images.dtype == np.uint8 and fits and all(images.shape):
        return
    least = "n at least 1" if shape else "all at least 1"
    expected = f"{key} to be uint8 of shape {wanted}, {least}{_image_mend(images, shape)}"
    empty = [name for name, size in zip(_AXES, images.shape, strict=False) if size == 0]
    lacks = f", without a single {empty[0]}" if empty and fits else ""
    raise ConfigError("path", expected, f"{file}, where it is {images}{lacks}")


def _image_mend(images: Declared, shape: tuple[int, int, int] | None) -> str:
    """Returns how to convert an array to images, where its type and shape suggest it."""
    mends: list[str] = []
    match images.dtype.kind:
        case "f":
            mends.append("np.rint(x * 255).astype('uint8') for pixels of 0 to 1")
        case "b":
            mends.append("x.astype('uint8') * 255")
        case "i" | "u" if images.dtype != np.uint8:
            mends.append("x.astype('uint8') for pixels of 0 to 255")
    if shape is None and len(images.shape) == 2:
        mends.append("x.reshape(-1, height, width) for flat ones")
    elif shape is not None and images.shape[1:] == (shape[2], *shape[:2]):
        mends.append("x.transpose(0, 2, 3, 1) for channels that come first")
    elif shape is not None and len(images.shape) == 2 and images.shape[1] == math.prod(shape):
        mends.append(f"x.reshape(-1, {', '.join(map(str, shape))}) for flat ones")
    return f" (by {', '.join(mends)})" if mends else ""


def _require_sound_axes(images: Declared, file: Path, shape: tuple[int, int, int], channels: int | None) -> None:
    """Refuses axes that are unlikely to be height, width and channels, unless the user declares the number of channels."""
    if channels is not None:
        if channels != shape[2]:
            raise ConfigError("channels", f"null or {shape[2]}, the channels of x_train {images} in {file}", channels)
        return
    height, width, found = shape
    if (height <= _FEW) != (width <= _FEW) and found > _FEW:
        order = "0, 2, 3, 1" if height <= _FEW else "0, 1, 3, 2"
        expected = f"x_train of shape (n, height, width, channels): x.transpose({order}) where the channels come before"
        received = f"{file}, where it is {images}, {height}×{width} pixels with {found} channels"
        raise ConfigError("path", f"{expected}, or dataset.channels={found} if they do not", received)


def _require_labels(key: str, labels: Declared, images: Declared, file: Path) -> None:
    count = images.shape[0]
    if labels.dtype.kind in "iu" and labels.shape in ((count,), (count, 1)):
        return
    mend = ""
    if labels.dtype.kind in "fb" and labels.shape in ((count,), (count, 1)):
        mend = " (by y.astype(int))"
    elif labels.dtype.kind in "SU":
        mend = " (by np.unique(y, return_inverse=True)[1] over both splits)"
    elif len(labels.shape) == 2 and labels.shape[0] == count:
        mend = " (by y.argmax(axis=1) for one-hot ones)"
    elif labels.shape and labels.shape[0] in images.shape[1:]:
        axis = images.shape.index(labels.shape[0])
        mend = f" (by np.moveaxis(x, {axis}, 0) for images along the last axes)"
    expected = f"{key} to be {count} integers, a label for each image{mend}"
    raise ConfigError("path", expected, f"{file}, where it is {labels}")


def _gap(labels: Array, train: Array) -> str:
    """Returns which classes are missing below the largest label."""
    numbers = np.unique(train)
    if labels.min() < 0:
        return ""
    if strange := np.setdiff1d(labels, numbers).tolist():
        return f", where class {listed(list(map(str, strange)))} has no training image"
    missing = [str(int(low) + 1) for low, high in pairwise(numbers) if high - low > 1]
    missing = (["0"] if numbers[0] > 0 else []) + missing
    return f", without class {listed(missing)}{' (by y - 1)' if missing == ['0'] and numbers[0] == 1 else ''}"


def _hashes(images: Array) -> Array:
    """Returns uint64 (n,): equal for equal images, and for different ones with a probability of at most 2⁻⁴⁰.

    A hash is the sum of the image's 32-bit words, each multiplied by an odd random factor of its position.
    """
    flat = images.reshape(len(images), -1)
    words = -(-flat.shape[1] // 4)
    factors = np.random.Philox(key=np.zeros(2, np.uint64)).random_raw(words) | np.uint64(1)
    hashes = np.empty(len(flat), np.uint64)
    for start in range(0, len(flat), _AT_ONCE):
        part = flat[start : start + _AT_ONCE]
        if part.shape[1] % 4:
            part = np.pad(part, ((0, 0), (0, words * 4 - part.shape[1])))
        hashes[start : start + len(part)] = part.view(np.uint32).astype(np.uint64) @ factors
    return hashes
