"""The smallest file of what a network was converted to, which answers as that does."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import numpy as np

from sweep.core import native
from sweep.core.types import Array
from sweep.tflite import flatbuffer, litert, tflm
from sweep.tflite.minimize import lossless, sparse

_log = logging.getLogger(__name__)

_TFLM_IMAGES = 2  # its reference kernels take a tenth of a second for a large network
Runtime = Callable[[bytes, Array], Array]
"""Runs a file on images, uint8 (n, height, width, channels), and returns its outputs.

It raises a RuntimeError or a ValueError for a file that it cannot run."""


def with_litert(content: bytes, images: Array) -> Array:
    """The logits of LiteRT: a `Runtime`."""
    return litert.Network(content).predict(images / np.float32(255))


def with_tflm(content: bytes, images: Array) -> Array:
    """The raw outputs of TFLM for the first two images: a `Runtime`."""
    return tflm.raw_outputs(content, images[:_TFLM_IMAGES])


def smallest(
    content: bytes, images: Array, *, sparsely: bool, strip: bool, runtimes: Sequence[Runtime] = (with_litert,)
) -> bytes:
    """Applies what makes the file smaller, and takes the smallest that answers as before.

    Kernels go first, since what they are stored as is then shared. Sparse kernels bring tensors of their own, so the file with
    dense ones may end up smaller.

    Args:
        content: the bytes of a `.tflite`.
        images: uint8 (n, height, width, channels), to compare the answers on.
        sparsely: whether kernels may be stored sparsely.
        strip: whether names may be left out.
        runtimes: where the answers are compared, each if it runs the file at all; LiteRT alone for sparse kernels.

    Returns:
        The file's bytes; those of `content`, after a warning, where no smaller file is as good.
    """
    storages = [(content, runtimes)]
    if sparsely:
        storages.append((sparse.stored_sparsely(content), (with_litert,)))  # TFLM runs no file with sparse kernels
    candidates = []
    for kernels, compared in storages:
        try:
            candidates.append((lossless.packed(kernels, strip=strip), compared))
        except (flatbuffer.DamagedError, lossless.NotPackedError) as error:
            _log.warning("a packed file was not taken: %s", error)
    for candidate, compared in sorted(candidates, key=lambda pair: len(pair[0])):
        if len(candidate) >= len(content):
            break
        if same_answers(content, candidate, images, compared):
            return candidate
        _log.warning("a packed file was not taken: it would not answer as before")
    return content


def same_answers(one: bytes, other: bytes, images: Array, runtimes: Sequence[Runtime] = (with_litert,)) -> bool:
    """Whether two files give answers that are equal to the bit.

    Args:
        one: the bytes of a file.
        other: the bytes of another, which may not run.
        images: uint8 (n, height, width, channels).
        runtimes: those that count, if they run `one`.
    """
    with native.caught():
        for runtime in runtimes:
            try:
                expected = runtime(one, images)
            except (RuntimeError, ValueError):
                continue
            try:
                found = runtime(other, images)
            except (RuntimeError, ValueError) as error:
                _log.warning("the file does not run: %s", " ".join(str(error).split()))
                return False
            if expected.tobytes() != found.tobytes():
                return False
    return True
