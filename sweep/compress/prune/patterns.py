"""Structured pruning of weights: N:M sparsity, and blocks."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from sweep.compress.prune.weight_pruning import SparsityPruning, WeightPruning, first_indices, largest_scores, magnitudes
from sweep.core.errors import (
    MOST_CHANNELS,
    require_choice,
    require_integer,
)
from sweep.core.types import Array


@dataclass(frozen=True, kw_only=True)
class NM(WeightPruning):
    """N:M sparsity: of every m consecutive weights at most n are kept (Mishra et al. 2021, arXiv 2104.08378: 2:4).

    The weights are consecutive along the input channels, as in the file. Where m does not divide them, the last k weights of a
    row keep ceil(n k / m). A gradual schedule drops one weight of each group after the other.

    Args:
        n: how many weights of a group are kept, at least 1 and below m.
        m: the length of a group, in 2 to 64.
    """

    n: int
    m: int

    def __post_init__(self) -> None:
        require_integer("m", self.m, 2, 64)
        require_integer("n", self.n, 1, self.m - 1)
        super().__post_init__()

    @property
    def sparsity(self) -> float:
        """The pruned fraction of a full group, in (0, 1)."""
        return 1.0 - self.n / self.m

    def share(self, fraction: float) -> Self:
        """The same pruning with a fraction, in (0, 1], of the weights dropped from each group."""
        return replace(self, n=self.m - math.ceil((self.m - self.n) * fraction))

    def masks(self, weights: Mapping[str, Array], kept: Mapping[str, Array], fraction: float) -> dict[str, Array]:
        """Drops the weights of smallest magnitude of each group, ties by position."""
        keep = self.m - round((self.m - self.n) * fraction)
        return {name: self._mask(magnitudes(kernel, kept.get(name)), keep) for name, kernel in weights.items()}

    def _mask(self, scores: Array, keep: int) -> Array:
        rows = np.moveaxis(scores, -2, -1)  # (..., units, input channels)
        parts = [rows[..., at : at + self.m] for at in range(0, rows.shape[-1], self.m)]
        keeps = [first_indices(part, math.ceil(keep * part.shape[-1] / self.m)) for part in parts]
        return np.moveaxis(np.concatenate(keeps, axis=-1), -1, -2)


@dataclass(frozen=True, kw_only=True)
class Block(SparsityPruning):
    """Block sparsity of dense layers (Narang et al. 2017, arXiv 1711.02782): the same fraction of blocks in each layer.

    Blocks are ranked by mean magnitude; the paper takes the largest. The mean treats a block at the kernel's edge, which is
    smaller, like the others. The sparsity is the fraction of the blocks.

    Args:
        height: input channels of a block, at least 1.
        width: units of a block, at least 1.
    """

    height: int
    width: int

    def __post_init__(self) -> None:
        super().__post_init__()
        require_choice("layers", self.layers, ("dense",))
        require_integer("height", self.height, 1, MOST_CHANNELS)
        require_integer("width", self.width, 1, MOST_CHANNELS)

    def masks(self, weights: Mapping[str, Array], kept: Mapping[str, Array], fraction: float) -> dict[str, Array]:
        """Drops exactly round(sparsity · fraction · b) of the b blocks of each layer, at most b - 1."""
        sparsity = self.sparsity * fraction
        return {name: self._mask(magnitudes(kernel, kept.get(name)), sparsity) for name, kernel in weights.items()}

    def _mask(self, scores: Array, sparsity: float) -> Array:
        starts = [np.arange(0, length, size) for length, size in zip(scores.shape, (self.height, self.width), strict=True)]
        sums, sizes = (
            np.add.reduceat(np.add.reduceat(values, starts[0], axis=0), starts[1], axis=1)
            for values in (scores, np.ones(scores.shape))
        )
        kept = largest_scores((sums / sizes).ravel(), sparsity).reshape(sums.shape)
        spread = np.repeat(np.repeat(kept, self.height, axis=0), self.width, axis=1)
        return spread[: scores.shape[0], : scores.shape[1]]
