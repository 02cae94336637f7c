"""The order that splits are cut from, and the hash of the arrays."""

from __future__ import annotations

import hashlib

import numpy as np

from sweep.core.types import Array, Arrays, Split
from sweep.data.augment import random_words


def fair_order(labels: Array) -> Array:
    """A stratified order of the images: every prefix has the classes in proportion (Sainte-Laguë's method).

    Every image gets a word of Philox's raw stream under the key (0, 0). The image with the r-th smallest word (r = 0, 1, …) of
    the n of its class has the sort key (r + 1/2) / n; ties go to the smaller label.

    Args:
        labels: integers (n,), at least 0.

    Returns:
        int64 (n,), a permutation of 0 … n - 1.
    """
    by_class = np.lexsort((random_words((0, 0), len(labels)), labels))
    counts = np.bincount(labels)
    rank = np.arange(len(labels)) - (np.cumsum(counts) - counts)[labels[by_class]]
    return by_class[np.argsort((rank + 0.5) / counts[labels[by_class]], kind="stable")]


def hash_arrays(arrays: Arrays) -> str:
    """The sha256 (hex) of the names, dtypes, shapes and bytes of C-contiguous arrays."""
    digest = hashlib.sha256()
    for key, array in arrays.items():
        digest.update(f"{key} {array.dtype.str} {array.shape}\n".encode())
        digest.update(array.data)
    return digest.hexdigest()


def hash_fractions(images: Array) -> Array:
    """A number in [0, 1) for each image, which depends on its pixels alone: float64 (n,)."""
    digests = (hashlib.sha256(np.ascontiguousarray(image).data).digest() for image in images)
    return np.array([int.from_bytes(digest[:8], "big") for digest in digests], np.float64) / 2.0**64


def taken(images: Array, numbers: Array) -> Array:
    """The images with these ascending numbers: a view where they are contiguous, which leaves a memory-mapped array on disk."""
    if len(numbers) and numbers[-1] - numbers[0] + 1 == len(numbers):
        return np.asarray(images)[numbers[0] : numbers[-1] + 1]
    return images[numbers]


def read_only(images: Array, labels: Array) -> Split:
    """The split of these arrays, which become read-only."""
    images.setflags(write=False)
    labels.setflags(write=False)
    return Split(images, labels)
