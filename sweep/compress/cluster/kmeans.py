"""Weight sharing: the weights of a kernel become few different values, which deflate well (Han et al. 2016, arXiv 1510.00149).

A cluster's weights stay equal through every later training and into a full-integer file, and zeros that pruning made stay zero.
A float32 or dynamic-range file has them too, but not where batch normalisation is folded into the kernel, channel by channel.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from sweep.core.errors import require_choice, require_epochs, require_integer, require_learning_rate
from sweep.core.stage import Evidence, Outcome
from sweep.core.types import Array, Checkpoint
from sweep.models import checkpoints
from sweep.train import constraints, loop
from sweep.train.context import Context, required

_ROUNDS = 300


@dataclass(frozen=True)
class NoClustering:
    """Every weight has its own value."""

    does_nothing = True
    levels = None

    def apply(self, network: Checkpoint | None, context: Context) -> Outcome:
        """Hand the network on."""
        return Outcome(required(network))

    def evidence(self, network: Checkpoint) -> Evidence:
        """Nothing."""
        return Evidence()

    def untrained(self) -> NoClustering:
        """Itself."""
        return self


@dataclass(frozen=True)
class KMeans:
    """The values that a kernel's weights err from least in the square, then trained (Han et al. 2016, section 3).

    The search starts from evenly spaced values, which their section 3.2 found best. In training, the weights of a cluster move
    together, by the mean of their steps.

    Args:
        levels: how many values a kernel has at most, zero included where it was pruned, in 2 to 256.
        layers: `conv`, `dense` or `all` (both).
        finetune: epochs of training with shared weights, at least 0.
        learning_rate: their peak rate, above 0.
    """

    levels: int
    layers: str
    finetune: int
    learning_rate: float

    does_nothing = False

    def __post_init__(self) -> None:
        require_integer("levels", self.levels, 2, 256)
        require_choice("layers", self.layers, ("conv", "dense", "all"))
        require_epochs("finetune", self.finetune, 0)
        require_learning_rate("learning_rate", self.learning_rate)

    def apply(self, network: Checkpoint | None, context: Context) -> Outcome:
        """Cluster and fine-tune."""
        network = required(network)
        model = checkpoints.restore(network)
        clusters = dict(network.clusters)
        for name, kernel in checkpoints.kernels(model, self.layers).items():
            values, clusters[name] = self.clusters(kernel.numpy(), network.masks.get(name))
            kernel.assign(values)
        network = replace(network, weights=tuple(model.get_weights()), clusters=clusters)
        held = constraints.Held(checkpoints.kernels(model), network)
        curves = loop.fit(model, context, epochs=self.finetune, learning_rate=self.learning_rate, goal=context.goal, held=held)
        return Outcome(replace(network, weights=tuple(model.get_weights())), curves)

    def evidence(self, network: Checkpoint) -> Evidence:
        """Equal weights where they share a cluster."""
        return Evidence(clusters=network.clusters)

    def untrained(self) -> Self:
        """Clustering without the fine-tuning."""
        return replace(self, finetune=0)

    def clusters(self, kernel: Array, mask: Array | None) -> tuple[Array, Array]:
        """The kernel with few values, and which of them each weight has.

        Args:
            kernel: float32 of any shape.
            mask: bool of its shape; what is False there is zero, and a cluster of its own.

        Returns:
            float32 and int32, of the kernel's shape.
        """
        kept = np.ones(kernel.shape, bool) if mask is None else mask
        pruned = not kept.all()
        weights = kernel[kept].astype(float)
        centres = _centres(weights, self.levels - pruned)
        nearest = np.searchsorted((centres[1:] + centres[:-1]) / 2, weights)
        numbers, values = np.zeros(kernel.shape, np.int32), np.zeros(kernel.shape, np.float32)
        numbers[kept], values[kept] = nearest + pruned, centres[nearest]
        return values, numbers


def _centres(weights: Array, count: int) -> Array:
    """At most `count` values, ascending, that weights (n,) err little from: Lloyd's algorithm, on sorted numbers.

    An empty cluster moves beside the one with the largest error.
    """
    distinct = np.unique(weights)
    if len(distinct) <= count:
        return distinct
    ordered = np.sort(weights)
    sums, squares = (np.concatenate([[0.0], np.cumsum(ordered**power)]) for power in (1, 2))
    centres: Array = np.linspace(ordered[0], ordered[-1], count)
    for _ in range(_ROUNDS):
        ends = np.concatenate([[0], np.searchsorted(ordered, (centres[1:] + centres[:-1]) / 2), [len(ordered)]])
        sizes, totals = np.diff(ends), np.diff(sums[ends])
        means = np.where(sizes > 0, totals / np.maximum(sizes, 1), centres)
        errors = np.diff(squares[ends]) - means * totals
        for empty in np.flatnonzero(sizes == 0):
            worst = int(np.argmax(errors))
            means[empty] = means[worst] + np.sqrt(max(errors[worst], 0.0) / sizes[worst])
            errors[worst] = 0.0
        means.sort()
        if np.array_equal(means, centres):
            break
        centres = means
    return np.unique(centres)
