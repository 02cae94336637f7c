"""Shared by the methods that prune single weights: masks that follow a sparsity schedule during fine-tuning."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np

from sweep.compress.prune.schedules import SparsitySchedule
from sweep.core.errors import (
    require_choice,
    require_epochs,
    require_learning_rate,
    require_number,
)
from sweep.core.protocols import require_part
from sweep.core.stage import Evidence, Outcome
from sweep.core.types import Array, Checkpoint, Spec
from sweep.models import checkpoints
from sweep.train import constraints, loop
from sweep.train.context import Context, required

_KINDS = ("conv", "dense", "all")


@dataclass(frozen=True)
class WeightPruning:
    """Weight pruning with masks.

    Args:
        layers: `conv`, `dense` or `all` (both).
        schedule: the sparsity over the course of the fine-tuning.
        finetune: epochs of training under the masks, at least 0.
        learning_rate: the peak learning rate, above 0.
    """

    layers: str
    schedule: SparsitySchedule
    finetune: int
    learning_rate: float

    does_nothing = False
    weights_decide_shapes = False
    removes_filters = False

    def __post_init__(self) -> None:
        require_part("schedule", self.schedule, SparsitySchedule)
        require_choice("layers", self.layers, _KINDS)
        require_epochs("finetune", self.finetune, 0)
        require_learning_rate("learning_rate", self.learning_rate)

    def masks(self, weights: Mapping[str, Array], kept: Mapping[str, Array], fraction: float) -> dict[str, Array]:
        """Returns the masks at a fraction of the final sparsity.

        Args:
            weights: layer name to kernel, float32.
            kept: layer name to an earlier bool mask of the kernel's shape; weights that it drops stay dropped.
            fraction: of the final sparsity, in [0, 1].

        Returns:
            Layer name to bool mask of the kernel's shape, True for kept.
        """
        raise NotImplementedError

    def apply(self, network: Checkpoint | None, context: Context) -> Outcome:
        """Prunes and fine-tunes. Masks of the network on other layers are preserved."""
        network = required(network)
        model = checkpoints.restore(network)
        masks = _ScheduledMasks(self, model, network.masks)
        curves = loop.fit(
            model, context, epochs=self.finetune, learning_rate=self.learning_rate, goal=context.goal, constraints=masks
        )
        masks.update(1.0)  # changes nothing after a fine-tuning
        return Outcome(replace(network, weights=tuple(model.get_weights()), masks=masks.arrays()), curves)

    def require(self, model: Spec, input_shape: tuple[int, int, int], classes: int) -> None:
        """Any network with such layers will do."""

    def untrained(self) -> Self:
        """Pruning without the fine-tuning."""
        return replace(self, finetune=0)

    def evidence(self, network: Checkpoint) -> Evidence:
        """Zeros where the masks hold weights at zero."""
        return Evidence(zeros=network.zeros, layers=self.layers, masks=network.masks)


@dataclass(frozen=True, kw_only=True)
class SparsityPruning(WeightPruning):
    """Weight pruning to a sparsity.

    Args:
        sparsity: the fraction of the targeted layers' weights to set to zero, in [0, 1); 0 does nothing at all.
    """

    sparsity: float

    def __post_init__(self) -> None:
        require_number("sparsity", self.sparsity, 0, 1, open_high=True)
        super().__post_init__()

    @property
    def does_nothing(self) -> bool:  # type: ignore[override]
        """Whether no weight is pruned."""
        return self.sparsity == 0

    def share(self, fraction: float) -> Self:
        """The same pruning to a fraction, in (0, 1], of the sparsity."""
        return replace(self, sparsity=self.sparsity * fraction)


class _ScheduledMasks:
    """The masks of a pruning stage during its fine-tuning."""

    def __init__(self, stage: WeightPruning, model: Any, earlier: Mapping[str, Array]) -> None:
        import tensorflow as tf

        self._stage, self._fraction = stage, 0.0
        self._targets = checkpoints.kernels(model, stage.layers)
        every = checkpoints.kernels(model)
        names = [name for name in every if name in self._targets or name in earlier]
        self._kernels = {name: every[name] for name in names}
        self._masks = {
            name: tf.Variable(tf.cast(earlier.get(name, np.ones(every[name].shape, bool)), tf.float32), trainable=False)
            for name in names
        }

    def update(self, done: float) -> None:
        """Updates the masks to the schedule's sparsity and zeroes the weights that they drop."""
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

    def projections(self) -> list[tuple[Any, constraints.Projection]]:
        """Each kernel times its current mask."""

        def masked(mask: Any) -> constraints.Projection:
            return lambda kernel: kernel * mask

        return [(kernel, masked(self._masks[name])) for name, kernel in self._kernels.items()]

    def arrays(self) -> dict[str, Array]:
        """Layer name to its current mask, bool."""
        return {name: mask.numpy() > 0 for name, mask in self._masks.items()}


def magnitudes(kernel: Array, kept: Array | None) -> Array:
    """Magnitudes of a kernel; -1 where an earlier mask dropped the weight."""
    magnitude = np.abs(kernel)
    return magnitude if kept is None else np.where(kept, magnitude, -1.0)


def largest_scores(scores: Array, sparsity: float) -> Array:
    """Bool (n,): False for exactly round(sparsity * n) of the smallest scores (n,), at most n - 1, ties by position."""
    dropped = min(round(sparsity * scores.size), scores.size - 1)
    keep = np.ones(scores.size, bool)
    if dropped:
        keep[np.argpartition(scores, dropped - 1)[:dropped]] = False
    return keep


def first_indices(scores: Array, count: int) -> Array:
    """Bool of the shape of `scores`: True for the `count` largest along the last axis, ties by position."""
    order = np.argsort(-scores, axis=-1, kind="stable")
    keep = np.zeros(scores.shape, bool)
    np.put_along_axis(keep, order[..., :count], values=True, axis=-1)
    return keep
