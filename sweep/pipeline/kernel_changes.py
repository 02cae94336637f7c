"""Prunes a kernel of a trained network to several sparsities, and rounds it to several bit-widths."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sweep.compress.prune import magnitude, schedules
from sweep.compress.quantize import clipping, rounding
from sweep.core.types import Array, Checkpoint

SPARSITIES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
BITS = (2, 3, 4, 5, 6, 7, 8)


def pruned(name: str, kernel: Array, network: Checkpoint) -> Iterator[tuple[str, float, Array]]:
    """Yields (kind, sparsity, kernel) for each sparsity, pruned by magnitude as `prune=local` does."""
    masks = {name: mask} if (mask := network.masks.get(name)) is not None else {}
    for sparsity in SPARSITIES:
        pruning = magnitude.LocalMagnitude(
            sparsity=sparsity, layers="all", schedule=schedules.ConstantSparsity(), finetune=0, learning_rate=1.0
        )
        yield "sparsity", sparsity, kernel * pruning.masks({name: kernel}, masks, 1.0)[name]


def rounded(
    name: str, kernel: Any, network: Checkpoint, weight_range: clipping.ClippingMethod
) -> Iterator[tuple[str, int, Array]]:
    """Yields (kind, bits, kernel) for each bit-width, rounded as `quant=ptq` does. Zeros stay zero."""
    for bits in BITS:
        yield (
            "bits",
            bits,
            rounding.quantize_kernel(kernel, bits, weight_range, per_tensor=name in network.clusters).values.reshape(
                kernel.shape
            ),
        )
