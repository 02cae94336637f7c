"""Random pruning of single weights: the control that every criterion has to beat."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from sweep.compress.prune.weight_pruning import SparsityPruning, largest_scores
from sweep.core.errors import require_integer
from sweep.core.types import Array


@dataclass(frozen=True, kw_only=True)
class Random(SparsityPruning):
    """Prunes weights of each targeted layer at random: the same fraction in each.

    A weight has one score in [0, 1), drawn from the seed and the layer's name: what a lower sparsity drops, a higher one drops.

    Args:
        seed: of the scores, at least 0.
    """

    seed: int

    def __post_init__(self) -> None:
        super().__post_init__()
        require_integer("seed", self.seed, 0, 2**31 - 1)

    def masks(self, weights: Mapping[str, Array], kept: Mapping[str, Array], fraction: float) -> dict[str, Array]:
        """Drops exactly round(sparsity · fraction · n) of the n weights of each layer, at most n - 1."""
        return {
            name: largest_scores(self._scores(name, kernel, kept.get(name)).ravel(), self.sparsity * fraction).reshape(
                kernel.shape
            )
            for name, kernel in weights.items()
        }

    def _scores(self, name: str, kernel: Array, kept: Array | None) -> Array:
        """The scores of a kernel; -1 where an earlier mask dropped the weight."""
        scores = np.random.default_rng([self.seed, zlib.crc32(name.encode())]).random(kernel.shape)
        return scores if kept is None else np.where(kept, scores, -1.0)
