"""Magnitude pruning of single weights, global or local, with fine-tuning."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from sweep.compress.prune.weight_pruning import SparsityPruning, largest_scores, magnitudes
from sweep.core.types import Array


@dataclass(frozen=True, kw_only=True)
class GlobalMagnitude(SparsityPruning):
    """Prunes the weights of smallest magnitude over all targeted layers: one threshold for all."""

    def masks(self, weights: Mapping[str, Array], kept: Mapping[str, Array], fraction: float) -> dict[str, Array]:
        """Drops exactly round(sparsity · fraction · n) of the n targeted weights, at most n - 1."""
        scores = {name: magnitudes(kernel, kept.get(name)) for name, kernel in weights.items()}
        stays = largest_scores(np.concatenate([score.ravel() for score in scores.values()]), self.sparsity * fraction)
        parts = np.split(stays, np.cumsum([score.size for score in scores.values()])[:-1])
        return {name: part.reshape(score.shape) for (name, score), part in zip(scores.items(), parts, strict=True)}


@dataclass(frozen=True, kw_only=True)
class LocalMagnitude(SparsityPruning):
    """Prunes the weights of smallest magnitude of each targeted layer: the same fraction in each."""

    def masks(self, weights: Mapping[str, Array], kept: Mapping[str, Array], fraction: float) -> dict[str, Array]:
        """Drops exactly round(sparsity · fraction · n) of the n weights of each layer, at most n - 1."""
        return {
            name: largest_scores(magnitudes(kernel, kept.get(name)).ravel(), self.sparsity * fraction).reshape(kernel.shape)
            for name, kernel in weights.items()
        }
