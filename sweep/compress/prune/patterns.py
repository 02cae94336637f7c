"""Pruning of patterns of weights: N of M, and blocks."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from sweep.compress.prune.weight_pruning import MagnitudePruning, WeightPruning, first_indices, largest_scores, magnitudes
from sweep.core.errors import (
    MOST_CHANNELS,
    require_choice,
    require_integer,
)
from sweep.core.types import Array


@dataclass(frozen=True, kw_only=True)
class NM(WeightPruning):
    """Of every m weights in a row at most n stay (Mishra et al. 2021, arXiv 2104.08378, have 2 of 4).

    A row runs along the input channels, as weights lie in the file. Where m does not divide them, the last k weights of a row
    keep ceil(n k / m). A gradual schedule drops one weight of each m after the other.

    Args:
        n: how many of them stay, at least 1 and below m.
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
        """What goes of a full group, in (0, 1)."""
        return 1.0 - self.n / self.m

    def share(self, fraction: float) -> Self:
        """The pruning of a fraction, in (0, 1], of what goes of each group."""
        return replace(self, n=self.m - math.ceil((self.m - self.n) * fraction))

    def masks(self, weights: Mapping[str, Array], kept: Mapping[str, Array], fraction: float) -> dict[str, Array]:
        """The weights of smallest magnitude in each group go."""
        stay = self.m - round((self.m - self.n) * fraction)
        return {name: self._mask(magnitudes(kernel, kept.get(name)), stay) for name, kernel in weights.items()}

    def _mask(self, scores: Array, stay: int) -> Array:
        rows = np.moveaxis(scores, -2, -1)  # (..., units, input channels)
        parts = [rows[..., at : at + self.m] for at in range(0, rows.shape[-1], self.m)]
        keeps = [first_indices(part, math.ceil(stay * part.shape[-1] / self.m)) for part in parts]
        return np.moveaxis(np.concatenate(keeps, axis=-1), -1, -2)


@dataclass(frozen=True, kw_only=True)
class Block(MagnitudePruning):
    """Blocks of a dense layer's weights, the same fraction of them in each layer, by mean magnitude (Narang et al. 2017).

    arXiv 1711.02782, but by the mean in place of the largest magnitude, so that a block cut off by the kernel's edge counts
    fairly. The sparsity is the fraction of the blocks. See `_MagnitudePruning` and `_WeightPruning` for the other arguments.

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
        """The blocks of smallest mean magnitude in each layer go."""
        sparsity = self.sparsity * fraction
        return {name: self._mask(magnitudes(kernel, kept.get(name)), sparsity) for name, kernel in weights.items()}

    def _mask(self, scores: Array, sparsity: float) -> Array:
        starts = [np.arange(0, length, size) for length, size in zip(scores.shape, (self.height, self.width), strict=True)]
        sums, sizes = (
            np.add.reduceat(np.add.reduceat(values, starts[0], axis=0), starts[1], axis=1)
            for values in (scores, np.ones(scores.shape))
        )
        stays = largest_scores((sums / sizes).ravel(), sparsity).reshape(sums.shape)
        spread = np.repeat(np.repeat(stays, self.height, axis=0), self.width, axis=1)
        return spread[: scores.shape[0], : scores.shape[1]]
