"""Pruning by magnitude of single weights, global or local, with fine-tuning."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from sweep.compress.prune.weight_pruning import MagnitudePruning, largest_scores, magnitudes
from sweep.core.types import Array


@dataclass(frozen=True, kw_only=True)
class GlobalMagnitude(MagnitudePruning):
    """One threshold over all targeted layers. See `_MagnitudePruning` and `_WeightPruning` for the arguments."""

    def masks(self, weights: Mapping[str, Array], kept: Mapping[str, Array], fraction: float) -> dict[str, Array]:
        """The weights of smallest magnitude go, wherever they are."""
        scores = {name: magnitudes(kernel, kept.get(name)) for name, kernel in weights.items()}
        stays = largest_scores(np.concatenate([score.ravel() for score in scores.values()]), self.sparsity * fraction)
        parts = np.split(stays, np.cumsum([score.size for score in scores.values()])[:-1])
        return {name: part.reshape(score.shape) for (name, score), part in zip(scores.items(), parts, strict=True)}


@dataclass(frozen=True, kw_only=True)
class LocalMagnitude(MagnitudePruning):
    """The same fraction in each targeted layer. See `_MagnitudePruning` and `_WeightPruning` for the arguments."""

    def masks(self, weights: Mapping[str, Array], kept: Mapping[str, Array], fraction: float) -> dict[str, Array]:
        """The weights of smallest magnitude in each layer go."""
        return {
            name: largest_scores(magnitudes(kernel, kept.get(name)).ravel(), self.sparsity * fraction).reshape(kernel.shape)
            for name, kernel in weights.items()
        }
