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

_TFLM_IMAGES = 2  # TFLM's reference kernels take a tenth of a second for an image of a large network
Runtime = Callable[[bytes, Array], Array]
"""Runs a file on images, uint8 (n, height, width, channels), and returns its outputs; raises a RuntimeError or a ValueError for
a file that it cannot run."""


def with_litert(content: bytes, images: Array) -> Array:
    """The logits of LiteRT: a `Runtime`."""
    return litert.Network(content).predict(images / np.float32(255))


def with_tflm(content: bytes, images: Array) -> Array:
    """The raw outputs of TFLM for the first two images: a `Runtime`."""
    return tflm.raw_outputs(content, images[:_TFLM_IMAGES])


def smallest(
    content: bytes, images: Array, *, allow_sparse: bool, strip: bool, runtimes: Sequence[Runtime] = (with_litert,)
) -> bytes:
    """Minimises a file, with dense and with sparse kernels, and returns the smallest one whose outputs are unchanged.

    Sparse kernels add tensors, so the file with dense kernels may be smaller.

    Args:
        content: the bytes of a `.tflite`.
        images: uint8 (n, height, width, channels), on which the outputs are compared.
        allow_sparse: whether kernels may be stored as sparse tensors.
        strip: whether names are removed.
        runtimes: the runtimes in which the outputs are compared, if they run `content`; only LiteRT for sparse kernels.

    Returns:
        The bytes of the file; `content`, after a warning, where no smaller file has the same outputs.
    """
    variants = [(content, runtimes)]
    if allow_sparse:
        variants.append((sparse.compress(content), (with_litert,)))  # TFLM has no DENSIFY
    candidates = []
    for variant, variant_runtimes in variants:
        try:
            candidates.append((lossless.packed(variant, strip=strip), variant_runtimes))
        except (flatbuffer.DamagedError, lossless.NotPackedError) as error:
            _log.warning("a packed file is discarded: %s", error)
    for candidate, candidate_runtimes in sorted(candidates, key=lambda pair: len(pair[0])):
        if len(candidate) >= len(content):
            break
        if same_outputs(content, candidate, images, candidate_runtimes):
            return candidate
        _log.warning("a packed file is discarded: its outputs differ")
    return content


def same_outputs(original: bytes, candidate: bytes, images: Array, runtimes: Sequence[Runtime] = (with_litert,)) -> bool:
    """Whether the outputs of two files are bit-identical.

    Args:
        original: the bytes of a file.
        candidate: the bytes of another file, which may not run.
        images: uint8 (n, height, width, channels).
        runtimes: the runtimes in which the outputs are compared; a runtime that does not run `original` is skipped.
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
