"""Validation of the official arrays of a data set.

Arrays that cannot be used are refused, by their headers where possible, before their content is read. Arrays that are usable
but probably a mistake cause a warning.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from sweep.core.errors import ConfigError
from sweep.core.types import Array, Arrays
from sweep.data.datafiles import ArraySource, DeclaredArray, summarize

_AXES = ("image", "row", "column", "channel")
_FEW_CHANNELS = 4  # the most channels that an image usually has
_DARK = 31  # of 255; a data set whose brightest pixel is at most this is probably scaled wrongly
_HASH_BATCH = 256  # images that are hashed at once
_GIB = 1 << 30


def require_layout(
    source: ArraySource, file: Path, shape: tuple[int, int, int] | None, channels: int | None = None, *, lenient: bool = False
) -> None:
    """Refuses arrays whose dtypes and shapes are not those of images with a label each.

    Args:
        source: the headers of the arrays.
        file: the file, for the error.
        shape: (height, width, channels) of every image; None for the shape of x_train.
        channels: the number of channels that the user states; None to infer it.
        lenient: whether images may be floats, and labels one-hot.

    Raises:
        ConfigError: at `path`, with the array and how to convert it; at `channels`, when the images have another number.
    """
    for part in _parts(source.arrays):
        images, labels = source.arrays[f"x_{part}"], source.arrays[f"y_{part}"]
        if not (lenient and images.dtype.kind == "f" and len(images.shape) in (3, 4) and all(images.shape)):
            _require_images(f"x_{part}", images, file, shape)
        elif shape is not None and image_shape(images.shape) != shape:
            _require_images(f"x_{part}", replace(images, dtype=np.dtype(np.uint8)), file, shape)
        if not (lenient and labels.dtype.kind in "iufb" and len(labels.shape) == 2 and labels.shape[0] == images.shape[0]):
            _require_labels(f"y_{part}", labels, images, file)
        if shape is None:
            shape = image_shape(images.shape)
            _require_plausible_axes(images, file, shape, channels)


def require_memory(source: ArraySource, file: Path, max_gib: float) -> None:
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
    """(height, width, channels) of images (n, height, width) or (n, height, width, channels)."""
    height, width = shape[1], shape[2]
    return height, width, shape[3] if len(shape) == 4 else 1


def normalize(arrays: Arrays, file: Path, classes: int | None) -> tuple[Arrays, int]:
    """Converts images to uint8 (n, height, width, channels) and labels to int64 (n,), C-contiguous, in the order of KEYS.

    Args:
        arrays: name to array, of dtypes and shapes that `require_layout` accepts.
        file: the file, for the error.
        classes: the number of classes; None for the number of distinct labels in y_train.

    Returns:
        The arrays and the number of classes.

    Raises:
        ConfigError: at `path`, for a label outside [0, classes), and for a single class.
    """
    if classes is None:
        classes = len(np.unique(arrays["y_train"]))
        if classes < 2:
            only = f"{file}, with {classes}: every label is {arrays['y_train'].flat[0]}"
            raise ConfigError("path", "labels y_train of at least two classes", only)
    shape = image_shape(arrays["x_train"].shape)
    result: dict[str, Array] = {}
    for part in _parts(arrays):
        labels = arrays[f"y_{part}"].reshape(-1)
        if labels.min() < 0 or labels.max() >= classes:
            expected = f"the labels y_{part} to be in [0, {classes}), the classes numbered from 0 without a gap"
            received = (
                f"{file}, where they run from {labels.min()} to {labels.max()}{_missing_classes(labels, arrays['y_train'])}"
            )
            raise ConfigError("path", expected, received)
        result[f"x_{part}"] = np.ascontiguousarray(arrays[f"x_{part}"]).reshape(-1, *shape)
        result[f"y_{part}"] = labels.astype(np.int64)
    return result, classes


def suspicions(arrays: Arrays, classes: int, unread: tuple[str, ...], channels: int | None = None) -> Iterator[str]:
    """Yields a warning for each property of the arrays that is probably a mistake.

    Args:
        arrays: as `normalize` returns them.
        classes: the number of classes.
        unread: names of further arrays in the file.
        channels: the number of channels that the user states; None where it was inferred.
    """
    if unread:
        yield f"{summarize(list(unread))} in it is not read: it takes x_train, y_train, x_test and y_test only"
    height, width, depth = arrays["x_train"].shape[1:]
    if channels is None and depth == 1 and min(height, width) <= _FEW_CHANNELS < max(height, width):
        yield (
            f"its images are read as {height}×{width} grey pixels (flat ones become images by x.reshape(-1, height, width);"
            " dataset.channels=1 says that these are right)"
        )
    hashes = {f"x_{part}": image_hashes(arrays[f"x_{part}"]) for part in _parts(arrays)}
    for key, words in hashes.items():
        brightest = int(arrays[key].max())
        if len(words) > 1 and len(np.unique(words)) == 1:
            yield f"every image of {key} is the same"
        elif brightest <= _DARK:
            yield f"the brightest pixel of {key} is {brightest} of 255; pixels of 0 to {brightest} are to be multiplied first"
    for part in _parts(arrays):
        if missing := np.setdiff1d(np.arange(classes), arrays[f"y_{part}"]).tolist():
            yield f"y_{part} has no image of class {summarize(list(map(str, missing)))}"
    yield from _duplicates(hashes["x_train"], hashes.get("x_test", np.empty(0, np.uint64)))


def _parts(arrays: Mapping[str, object]) -> tuple[str, ...]:
    """The splits of a file."""
    return ("train", "test") if "x_test" in arrays else ("train",)


def _duplicates(train: Array, test: Array) -> Iterator[str]:
    """Warnings about duplicate images, which bias the accuracies; none where all images are equal."""
    different = len(np.unique(train))
    if different == 1:
        return
    if leaked := int(np.isin(test, train).sum()):
        yield f"{leaked} of the {len(test)} images of x_test are in x_train too: test_accuracy is not of unseen images alone"
    if repeats := len(train) - different:
        yield f"{repeats} of the {len(train)} images of x_train come again, perhaps held out: val_accuracy may flatter"


def _require_images(key: str, images: DeclaredArray, file: Path, shape: tuple[int, int, int] | None) -> None:
    if shape is None:
        wanted, fits = "(n, height, width) or (n, height, width, channels)", len(images.shape) in (3, 4)
    else:
        shapes = [shape[:2], shape] if shape[2] == 1 else [shape]
        wanted = " or ".join(f"(n, {', '.join(map(str, accepted))})" for accepted in shapes)
        fits = images.shape[1:] in shapes
    if images.dtype == np.uint8 and fits and all(images.shape):
        return
    least = "n at least 1" if shape else "all at least 1"
    expected = f"{key} to be uint8 of shape {wanted}, {least}{_image_fix(images, shape)}"
    empty = [name for name, size in zip(_AXES, images.shape, strict=False) if size == 0]
    lacks = f", without a single {empty[0]}" if empty and fits else ""
    raise ConfigError("path", expected, f"{file}, where it is {images}{lacks}")


def _image_fix(images: DeclaredArray, shape: tuple[int, int, int] | None) -> str:
    """The conversion to usable images, where it can be guessed."""
    fixes: list[str] = []
    match images.dtype.kind:
        case "f":
            fixes.append("np.rint(x * 255).astype('uint8') for pixels of 0 to 1")
        case "b":
            fixes.append("x.astype('uint8') * 255")
        case "i" | "u" if images.dtype != np.uint8:
            fixes.append("x.astype('uint8') for pixels of 0 to 255")
    if shape is None and len(images.shape) == 2:
        fixes.append("x.reshape(-1, height, width) for flat ones")
    elif shape is not None and images.shape[1:] == (shape[2], *shape[:2]):
        fixes.append("x.transpose(0, 2, 3, 1) for channels that come first")
    elif shape is not None and len(images.shape) == 2 and images.shape[1] == math.prod(shape):
        fixes.append(f"x.reshape(-1, {', '.join(map(str, shape))}) for flat ones")
    return f" (by {', '.join(fixes)})" if fixes else ""


def _require_plausible_axes(images: DeclaredArray, file: Path, shape: tuple[int, int, int], channels: int | None) -> None:
    """Refuses axes that are probably not height, width and channels, unless the user states the number of channels."""
    if channels is not None:
        if channels != shape[2]:
            raise ConfigError("channels", f"null or {shape[2]}, the channels of x_train {images} in {file}", channels)
        return
    height, width, depth = shape
    if (height <= _FEW_CHANNELS) != (width <= _FEW_CHANNELS) and depth > _FEW_CHANNELS:
        order = "0, 2, 3, 1" if height <= _FEW_CHANNELS else "0, 1, 3, 2"
        expected = f"x_train of shape (n, height, width, channels): x.transpose({order}) where the channels come before"
        received = f"{file}, where it is {images}, {height}×{width} pixels with {depth} channels"
        raise ConfigError("path", f"{expected}, or dataset.channels={depth} if they do not", received)


def _require_labels(key: str, labels: DeclaredArray, images: DeclaredArray, file: Path) -> None:
    count = images.shape[0]
    if labels.dtype.kind in "iu" and labels.shape in ((count,), (count, 1)):
        return
    fix = ""
    if labels.dtype.kind in "fb" and labels.shape in ((count,), (count, 1)):
        fix = " (by y.astype(int))"
    elif labels.dtype.kind in "SU":
        fix = " (by np.unique(y, return_inverse=True)[1] over both splits)"
    elif len(labels.shape) == 2 and labels.shape[0] == count:
        fix = " (by y.argmax(axis=1) for one-hot ones)"
    elif labels.shape and labels.shape[0] in images.shape[1:]:
        axis = images.shape.index(labels.shape[0])
        fix = f" (by np.moveaxis(x, {axis}, 0) for images along the last axes)"
    expected = f"{key} to be {count} integers, a label for each image{fix}"
    raise ConfigError("path", expected, f"{file}, where it is {labels}")


def _missing_classes(labels: Array, train: Array) -> str:
    """The classes below the largest label that have no training image, as a clause of the error."""
    numbers = np.unique(train)
    if labels.min() < 0:
        return ""
    if untrained := np.setdiff1d(labels, numbers).tolist():
        return f", where class {summarize(list(map(str, untrained)))} has no training image"
    missing = [str(int(low) + 1) for low, high in pairwise(numbers) if high - low > 1]
    missing = (["0"] if numbers[0] > 0 else []) + missing
    return f", without class {summarize(missing)}{' (by y - 1)' if missing == ['0'] and numbers[0] == 1 else ''}"


def image_hashes(images: Array) -> Array:
    """Hashes images: uint64 (n,), with a collision probability of at most 2⁻⁴⁰ for two different images.

    Multilinear hashing: the sum of the image's 32-bit words, each times a random odd factor, modulo 2⁶⁴.
    """
    flat = images.reshape(len(images), -1)
    words = -(-flat.shape[1] // 4)
    factors = np.random.Philox(key=np.zeros(2, np.uint64)).random_raw(words) | np.uint64(1)
    hashes = np.empty(len(flat), np.uint64)
    for start in range(0, len(flat), _HASH_BATCH):
        part = flat[start : start + _HASH_BATCH]
        if part.shape[1] % 4:
            part = np.pad(part, ((0, 0), (0, words * 4 - part.shape[1])))
        hashes[start : start + len(part)] = part.view(np.uint32).astype(np.uint64) @ factors
    return hashes
