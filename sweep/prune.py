"""Magnitude pruning of single weights, global or local, with fine-tuning.

A pruned weight is exactly zero and stays so: its mask travels with the network through every later stage into the file. Weights
are chosen by count, so the realised sparsity is the requested one to the weight, ties included. Depthwise kernels, biases and
batch normalisation are never pruned.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol, Self

import numpy as np

from sweep import fit, models
from sweep.records import Array, Checkpoint, require_choice, require_integer, require_number, require_part


class SparsitySchedule(Protocol):
    """How the sparsity grows during fine-tuning."""

    def fraction(self, done: float) -> float:
        """The part of the final sparsity, in [0, 1], that holds when `done` of the fine-tuning, in [0, 1], is through."""


@dataclass(frozen=True)
class ConstantSparsity:
    """Everything is pruned at once, before the fine-tuning."""

    def fraction(self, done: float) -> float:
        """Always all of it."""
        return 1.0


@dataclass(frozen=True)
class PolynomialSparsity:
    """Gradual pruning from none to all (Zhu and Gupta 2017, arXiv 1710.01878, eq. 1, with an initial sparsity of 0).

    Args:
        power: the exponent, above 0; the paper takes 3.
        end: the fraction of the fine-tuning after which the final sparsity holds, in (0, 1].
    """

    power: float = 3.0
    end: float = 0.75

    def __post_init__(self) -> None:
        require_number("power", self.power, 0, open_low=True)
        require_number("end", self.end, 0, 1, open_low=True)

    def fraction(self, done: float) -> float:
        """1 - (1 - done / end)^power, then 1."""
        return float(1.0 - max(0.0, 1.0 - done / self.end) ** self.power)


@dataclass(frozen=True)
class NoPruning:
    """Every weight stays."""

    sparsity = 0.0
    layers = "all"

    def apply(self, network: Checkpoint | None, context: fit.Context) -> fit.Outcome:
        """Hand the network on."""
        return fit.Outcome(fit.required(network))

    def untrained(self) -> NoPruning:
        """Itself."""
        return self


@dataclass(frozen=True)
class _MagnitudePruning:
    """What global and local pruning share.

    Args:
        sparsity: the fraction of the targeted layers' weights to set to zero, in [0, 1); 0 does nothing at all.
        layers: `conv`, `dense` or `all` (both).
        schedule: how the sparsity grows.
        finetune: epochs of training under the masks, at least 0.
        learning_rate: their peak rate, above 0.
    """

    sparsity: float
    layers: str
    schedule: SparsitySchedule
    finetune: int
    learning_rate: float

    def __post_init__(self) -> None:
        require_number("sparsity", self.sparsity, 0, 1, open_high=True)
        require_part("schedule", self.schedule, "fraction")
        require_choice("layers", self.layers, ("conv", "dense", "all"))
        require_integer("finetune", self.finetune, 0)
        require_number("learning_rate", self.learning_rate, 0, open_low=True)

    def masks(self, weights: Mapping[str, Array], kept: Mapping[str, Array], sparsity: float) -> dict[str, Array]:
        """Which weights stay at `sparsity`.

        Args:
            weights: layer name to kernel.
            kept: layer name to an earlier bool mask of the kernel's shape; what it dropped stays dropped.
            sparsity: fraction to drop, in [0, 1).

        Returns:
            Layer name to bool mask, True for kept.
        """
        raise NotImplementedError

    def apply(self, network: Checkpoint | None, context: fit.Context) -> fit.Outcome:
        """Prune and fine-tune on labels. Masks that the network brings on other layers are held too."""
        network = fit.required(network)
        model = models.restore(network)
        masks = _GrowingMasks(self, model, network.masks)
        curves = fit.on_labels(model, context, epochs=self.finetune, learning_rate=self.learning_rate, masks=masks)
        masks.update(1.0)  # nothing new after a fine-tuning; everything without one
        return fit.Outcome(models.snapshot(model, masks.arrays()), curves)

    def untrained(self) -> Self:
        """Pruning without the fine-tuning."""
        return replace(self, finetune=0)


@dataclass(frozen=True)
class GlobalMagnitude(_MagnitudePruning):
    """One threshold over all targeted layers. See `_MagnitudePruning` for the arguments."""

    def masks(self, weights: Mapping[str, Array], kept: Mapping[str, Array], sparsity: float) -> dict[str, Array]:
        """The weights of smallest magnitude go, wherever they are."""
        scores = {name: _scores(kernel, kept.get(name)) for name, kernel in weights.items()}
        stays = _largest(np.concatenate([score.ravel() for score in scores.values()]), sparsity)
        parts = np.split(stays, np.cumsum([score.size for score in scores.values()])[:-1])
        return {name: part.reshape(score.shape) for (name, score), part in zip(scores.items(), parts, strict=True)}


@dataclass(frozen=True)
class LocalMagnitude(_MagnitudePruning):
    """The same fraction in each targeted layer. See `_MagnitudePruning` for the arguments."""

    def masks(self, weights: Mapping[str, Array], kept: Mapping[str, Array], sparsity: float) -> dict[str, Array]:
        """The weights of smallest magnitude in each layer go."""
        return {
            name: _largest(_scores(kernel, kept.get(name)).ravel(), sparsity).reshape(kernel.shape)
            for name, kernel in weights.items()
        }


class _GrowingMasks:
    """The masks of one pruning stage while it fine-tunes."""

    def __init__(self, stage: _MagnitudePruning, model: Any, earlier: Mapping[str, Array]) -> None:
        import tensorflow as tf

        self._stage, self._sparsity = stage, 0.0
        self._targets = models.kernels(model, stage.layers)
        every = models.kernels(model)
        names = [name for name in every if name in self._targets or name in earlier]
        self._kernels = {name: every[name] for name in names}
        self._masks = {
            name: tf.Variable(tf.cast(earlier.get(name, np.ones(every[name].shape, bool)), tf.float32), trainable=False)
            for name in names
        }

    def update(self, done: float) -> None:
        """Move to the sparsity of the schedule and zero what it drops."""
        sparsity = self._stage.sparsity * self._stage.schedule.fraction(done)
        if sparsity == self._sparsity:
            return
        self._sparsity = sparsity
        weights = {name: kernel.numpy() for name, kernel in self._targets.items()}
        current = {name: mask.numpy() > 0 for name, mask in self._masks.items()}
        for name, chosen in self._stage.masks(weights, current, sparsity).items():
            mask = chosen & current[name]
            self._masks[name].assign(mask.astype(np.float32))
            self._kernels[name].assign(weights[name] * mask)

    def pairs(self) -> list[tuple[Any, Any]]:
        """(kernel variable, mask variable)."""
        return [(kernel, self._masks[name]) for name, kernel in self._kernels.items()]

    def arrays(self) -> dict[str, Array]:
        """Layer name to bool mask as it stands."""
        return {name: mask.numpy() > 0 for name, mask in self._masks.items()}


def _scores(kernel: Array, kept: Array | None) -> Array:
    """Magnitudes, with what an earlier mask dropped below every one of them."""
    magnitude = np.abs(kernel)
    return magnitude if kept is None else np.where(kept, magnitude, -1.0)


def _largest(scores: Array, sparsity: float) -> Array:
    """Bool (n,): False for exactly round(sparsity * n) of the smallest scores (n,), at most n - 1, ties by position."""
    dropped = min(round(sparsity * scores.size), scores.size - 1)
    keep = np.ones(scores.size, bool)
    if dropped:
        keep[np.argpartition(scores, dropped - 1)[:dropped]] = False
    return keep
