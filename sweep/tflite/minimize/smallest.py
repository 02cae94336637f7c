"""Minimises the file of a network, and checks that its outputs stay the same."""

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
"""Runs a file on images, uint8 (n, height, width, channels), and returns its outputs. It raises a RuntimeError or a ValueError
for a file that it cannot run."""


def with_litert(content: bytes, images: Array) -> Array:
    """The logits of LiteRT: a `Runtime`."""
    return litert.Network(content).predict(images / np.float32(255))


def with_tflm(content: bytes, images: Array) -> Array:
    """The raw outputs of TFLM for the first two images: a `Runtime`."""
    return tflm.raw_outputs(content, images[:_TFLM_IMAGES])


def smallest(
    content: bytes, images: Array, *, sparsely: bool, strip: bool, runtimes: Sequence[Runtime] = (with_litert,)
) -> bytes:
    """Minimises a file, with dense and with sparse kernels, and returns the smallest one whose outputs are unchanged.

    Sparse kernels add tensors, so the file with dense kernels may be smaller.

    Args:
        content: the bytes of a `.tflite`.
        images: uint8 (n, height, width, channels), on which the outputs are compared.
        sparsely: whether kernels may be stored as sparse tensors.
        strip: whether names are left out.
        runtimes: the runtimes in which the outputs are compared, if they run `content`; LiteRT alone for sparse kernels.

    Returns:
        The bytes of the file; `content`, after a warning, where no smaller file has the same outputs.
    """
    storages = [(content, runtimes)]
    if sparsely:
        storages.append((sparse.compress(content), (with_litert,)))  # TFLM runs no file with sparse kernels
    candidates = []
    for kernels, compared in storages:
        try:
            candidates.append((lossless.packed(kernels, strip=strip), compared))
        except (flatbuffer.DamagedError, lossless.NotPackedError) as error:
            _log.warning("a packed file was not taken: %s", error)
    for candidate, compared in sorted(candidates, key=lambda pair: len(pair[0])):
        if len(candidate) >= len(content):
            break
        if same_outputs(content, candidate, images, compared):
            return candidate
        _log.warning("a packed file was not taken: it would not answer as before")
    return content


def same_outputs(original: bytes, candidate: bytes, images: Array, runtimes: Sequence[Runtime] = (with_litert,)) -> bool:
    """Whether the outputs of two files are equal to the bit.

    Args:
        original: the bytes of a file.
        candidate: the bytes of another file, which may not run.
        images: uint8 (n, height, width, channels).
        runtimes: the runtimes to compare in; one that does not run `original` is left out.
    """
    with native.caught():
        for runtime in runtimes:
            try:
                expected = runtime(original, images)
            except (RuntimeError, ValueError):
                continue
            try:
                outputs = runtime(candidate, images)
            except (RuntimeError, ValueError) as error:
                _log.warning("the file does not run: %s", " ".join(str(error).split()))
                return False
            if expected.tobytes() != outputs.tobytes():
                return False
    return True
