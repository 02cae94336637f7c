"""Pruning by magnitude of single weights, global or local, and of patterns of them, with fine-tuning.

A pruned weight is exactly zero and stays so: its mask travels with the network through every later stage into the file. Weights
are chosen by count, so the realised sparsity is the requested one to the weight, ties included. Depthwise kernels, biases and
batch normalisation are never pruned. Whole filters are the business of `filters`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol, Self

import numpy as np

from sweep import fit, models
from sweep.parts import require_part
from sweep.records import (
    MOST_CHANNELS,
    Array,
    Checkpoint,
    Spec,
    require_choice,
    require_epochs,
    require_integer,
    require_learning_rate,
    require_number,
)

_KINDS = ("conv", "dense", "all")


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
        require_number("power", self.power, 0, 1e3, open_low=True)
        require_number("end", self.end, 1e-6, 1)

    def fraction(self, done: float) -> float:
        """1 - (1 - done / end)^power, then 1."""
        return float(1.0 - max(0.0, 1.0 - done / self.end) ** self.power)


@dataclass(frozen=True)
class NoPruning:
    """Every weight stays."""

    sparsity = 0.0
    layers = "all"
    removes_filters = False

    def apply(self, network: Checkpoint | None, context: fit.Context) -> fit.Outcome:
        """Hand the network on."""
        return fit.Outcome(fit.required(network))

    def untrained(self) -> NoPruning:
        """Itself."""
        return self

    def share(self, fraction: float) -> NoPruning:
        """Itself."""
        return self

    def require(self, model: Spec, input_shape: tuple[int, int, int], classes: int) -> None:
        """Any network will do."""


@dataclass(frozen=True)
class _WeightPruning:
    """What the prunings of weights share.

    Args:
        layers: `conv`, `dense` or `all` (both).
        schedule: how the sparsity grows.
        finetune: epochs of training under the masks, at least 0.
        learning_rate: their peak rate, above 0.
    """

    layers: str
    schedule: SparsitySchedule
    finetune: int
    learning_rate: float

    removes_filters = False

    def __post_init__(self) -> None:
        require_part("schedule", self.schedule, SparsitySchedule)
        require_choice("layers", self.layers, _KINDS)
        require_epochs("finetune", self.finetune, 0)
        require_learning_rate("learning_rate", self.learning_rate)

    def masks(self, weights: Mapping[str, Array], kept: Mapping[str, Array], fraction: float) -> dict[str, Array]:
        """Which weights stay when a fraction of the final sparsity holds.

        Args:
            weights: layer name to kernel.
            kept: layer name to an earlier bool mask of the kernel's shape; what it dropped stays dropped.
            fraction: of the final sparsity, in [0, 1].

        Returns:
            Layer name to bool mask, True for kept.
        """
        raise NotImplementedError

    def apply(self, network: Checkpoint | None, context: fit.Context) -> fit.Outcome:
        """Prune and fine-tune. Masks that the network brings on other layers are held too."""
        network = fit.required(network)
        model = models.restore(network)
        masks = _GrowingMasks(self, model, network.masks)
        curves = fit.fit(model, context, epochs=self.finetune, learning_rate=self.learning_rate, goal=context.goal, held=masks)
        masks.update(1.0)  # nothing new after a fine-tuning; everything without one
        return fit.Outcome(replace(network, weights=tuple(model.get_weights()), masks=masks.arrays()), curves)

    def require(self, model: Spec, input_shape: tuple[int, int, int], classes: int) -> None:
        """Any network with such layers will do."""

    def untrained(self) -> Self:
        """Pruning without the fine-tuning."""
        return replace(self, finetune=0)


@dataclass(frozen=True, kw_only=True)
class _MagnitudePruning(_WeightPruning):
    """What global and local pruning share.

    Args:
        sparsity: the fraction of the targeted layers' weights to set to zero, in [0, 1); 0 does nothing at all.
    """

    sparsity: float

    def __post_init__(self) -> None:
        require_number("sparsity", self.sparsity, 0, 1, open_high=True)
        super().__post_init__()

    def share(self, fraction: float) -> Self:
        """The pruning to a fraction, in (0, 1], of the sparsity."""
        return replace(self, sparsity=self.sparsity * fraction)


@dataclass(frozen=True, kw_only=True)
class GlobalMagnitude(_MagnitudePruning):
    """One threshold over all targeted layers. See `_MagnitudePruning` and `_WeightPruning` for the arguments."""

    def masks(self, weights: Mapping[str, Array], kept: Mapping[str, Array], fraction: float) -> dict[str, Array]:
        """The weights of smallest magnitude go, wherever they are."""
        scores = {name: _scores(kernel, kept.get(name)) for name, kernel in weights.items()}
        stays = _largest(np.concatenate([score.ravel() for score in scores.values()]), self.sparsity * fraction)
        parts = np.split(stays, np.cumsum([score.size for score in scores.values()])[:-1])
        return {name: part.reshape(score.shape) for (name, score), part in zip(scores.items(), parts, strict=True)}


@dataclass(frozen=True, kw_only=True)
class LocalMagnitude(_MagnitudePruning):
    """The same fraction in each targeted layer. See `_MagnitudePruning` and `_WeightPruning` for the arguments."""

    def masks(self, weights: Mapping[str, Array], kept: Mapping[str, Array], fraction: float) -> dict[str, Array]:
        """The weights of smallest magnitude in each layer go."""
        return {
            name: _largest(_scores(kernel, kept.get(name)).ravel(), self.sparsity * fraction).reshape(kernel.shape)
            for name, kernel in weights.items()
        }


@dataclass(frozen=True, kw_only=True)
class NM(_WeightPruning):
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
        return {name: self._mask(_scores(kernel, kept.get(name)), stay) for name, kernel in weights.items()}

    def _mask(self, scores: Array, stay: int) -> Array:
        rows = np.moveaxis(scores, -2, -1)  # (..., units, input channels)
        parts = [rows[..., at : at + self.m] for at in range(0, rows.shape[-1], self.m)]
        keeps = [_first(part, math.ceil(stay * part.shape[-1] / self.m)) for part in parts]
        return np.moveaxis(np.concatenate(keeps, axis=-1), -1, -2)


@dataclass(frozen=True, kw_only=True)
class Block(_MagnitudePruning):
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
        return {name: self._mask(_scores(kernel, kept.get(name)), sparsity) for name, kernel in weights.items()}

    def _mask(self, scores: Array, sparsity: float) -> Array:
        starts = [np.arange(0, length, size) for length, size in zip(scores.shape, (self.height, self.width), strict=True)]
        sums, sizes = (
            np.add.reduceat(np.add.reduceat(values, starts[0], axis=0), starts[1], axis=1)
            for values in (scores, np.ones(scores.shape))
        )
        stays = _largest((sums / sizes).ravel(), sparsity).reshape(sums.shape)
        spread = np.repeat(np.repeat(stays, self.height, axis=0), self.width, axis=1)
        return spread[: scores.shape[0], : scores.shape[1]]


class _GrowingMasks:
    """The masks of one pruning stage while it fine-tunes."""

    def __init__(self, stage: _WeightPruning, model: Any, earlier: Mapping[str, Array]) -> None:
        import tensorflow as tf

        self._stage, self._fraction = stage, 0.0
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
        fraction = self._stage.schedule.fraction(done)
        if fraction == self._fraction:
            return
        self._fraction = fraction
        weights = {name: kernel.numpy() for name, kernel in self._targets.items()}
        current = {name: mask.numpy() > 0 for name, mask in self._masks.items()}
        for name, chosen in self._stage.masks(weights, current, fraction).items():
            mask = chosen & current[name]
            self._masks[name].assign(mask.astype(np.float32))
            self._kernels[name].assign(weights[name] * mask)

    def projections(self) -> list[tuple[Any, fit.Projection]]:
        """Each kernel times its mask of the moment."""

        def masked(mask: Any) -> fit.Projection:
            return lambda kernel: kernel * mask

        return [(kernel, masked(self._masks[name])) for name, kernel in self._kernels.items()]

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


def _first(scores: Array, count: int) -> Array:
    """Bool of the shape of `scores`: True for the `count` largest along the last axis, ties by position."""
    order = np.argsort(-scores, axis=-1, kind="stable")
    keep = np.zeros(scores.shape, bool)
    np.put_along_axis(keep, order[..., :count], values=True, axis=-1)
    return keep
