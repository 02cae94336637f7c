"""The smallest file of what a network was converted to, which answers as that does."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import numpy as np

from sweep.core import native
from sweep.core.types import Array
from sweep.tflite import flatbuffer, litert
from sweep.tflite.minimize import lossless, sparse

_log = logging.getLogger(__name__)

Runtime = Callable[[bytes, Array], Array]
"""Runs a file on images, float32 (n, height, width, channels) in [0, 1], and returns its answers.

It raises a RuntimeError or a ValueError for a file that it cannot run."""


def with_litert(content: bytes, pixels: Array) -> Array:
    """The logits of LiteRT: a `Runtime`."""
    return litert.Network(content).predict(pixels)


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
        runtimes: where the answers are compared, each if it runs the file at all.

    Returns:
        The file's bytes; those of `content`, after a warning, where no smaller file is as good.
    """
    candidates = []
    for kernels in (content, sparse.stored_sparsely(content)) if sparsely else (content,):
        try:
            candidates.append(lossless.packed(kernels, strip=strip))
        except (flatbuffer.DamagedError, lossless.NotPackedError) as error:
            _log.warning("a packed file was not taken: %s", error)
    for candidate in sorted(candidates, key=len):
        if len(candidate) >= len(content):
            break
        if same_answers(content, candidate, images, runtimes):
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
    pixels = images / np.float32(255)
    with native.caught():
        for runtime in runtimes:
            try:
                expected = runtime(one, pixels)
            except (RuntimeError, ValueError):
                continue
            try:
                found = runtime(other, pixels)
            except (RuntimeError, ValueError) as error:
                _log.warning("the file does not run: %s", " ".join(str(error).split()))
                return False
            if expected.tobytes() != found.tobytes():
                return False
    return True
