"""Weight clustering: the weights of a kernel share few values, which deflate well (Han et al. 2016, arXiv 1510.00149).

The weights of a cluster stay equal through every later training and in a full-integer file, and pruned weights stay zero. In a
float32 or dynamic-range file they stay equal except where batch normalisation is folded into the kernel, channel by channel.
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
from sweep.train.unchanged import Unchanged

_MOST_ITERATIONS = 300


@dataclass(frozen=True)
class NoClustering(Unchanged):
    """The choice of no clustering."""

    levels = None


@dataclass(frozen=True)
class KMeans:
    """Replaces the weights of each kernel by the nearest of its k-means centroids, then trains (Han et al. 2016, section 3).

    The initial centroids are evenly spaced, which their section 3.2 finds best. In training, the weights of a cluster move by
    the mean of their updates (in TFMOT by the sum of their gradients).

    Args:
        levels: the most centroids of a kernel, zero included where it was pruned, in 2 to 256.
        layers: `conv`, `dense` or `all` (both).
        finetune: epochs of training with shared weights, at least 0.
        learning_rate: the peak learning rate, above 0.
    """

    levels: int
    layers: str
    finetune: int
    learning_rate: float

    does_nothing = False
    weights_decide_shapes = False

    def __post_init__(self) -> None:
        require_integer("levels", self.levels, 2, 256)
        require_choice("layers", self.layers, ("conv", "dense", "all"))
        require_epochs("finetune", self.finetune, 0)
        require_learning_rate("learning_rate", self.learning_rate)

    def apply(self, network: Checkpoint | None, context: Context) -> Outcome:
        """Clusters and fine-tunes."""
        network = required(network)
        model = checkpoints.restore(network)
        clusters = dict(network.clusters)
        for name, kernel in checkpoints.kernels(model, self.layers).items():
            values, clusters[name] = self.clusters(kernel.numpy(), network.masks.get(name))
            kernel.assign(values)
        network = replace(network, weights=tuple(model.get_weights()), clusters=clusters)
        fixed = constraints.FixedConstraints(checkpoints.kernels(model), network)
        curves = loop.fit(
            model, context, epochs=self.finetune, learning_rate=self.learning_rate, goal=context.goal, constraints=fixed
        )
        return Outcome(replace(network, weights=tuple(model.get_weights())), curves)

    def evidence(self, network: Checkpoint) -> Evidence:
        """Equal weights where they share a cluster."""
        return Evidence(clusters=network.clusters)

    def untrained(self) -> Self:
        """Clustering without the fine-tuning."""
        return replace(self, finetune=0)

    def clusters(self, kernel: Array, mask: Array | None) -> tuple[Array, Array]:
        """Assigns the weights of a kernel to clusters.

        Args:
            kernel: float32 of any shape.
            mask: bool of its shape; False for a pruned weight. Pruned weights are cluster 0, whose centroid is 0.

        Returns:
            The centroid of each weight, float32, and its cluster's number from 0, int32, of the kernel's shape.
        """
        kept = np.ones(kernel.shape, bool) if mask is None else mask
        pruned = not kept.all()
        weights = kernel[kept].astype(float)
        centroids = _centroids(weights, self.levels - pruned)
        nearest = np.searchsorted((centroids[1:] + centroids[:-1]) / 2, weights)
        numbers, values = np.zeros(kernel.shape, np.int32), np.zeros(kernel.shape, np.float32)
        numbers[kept], values[kept] = nearest + pruned, centroids[nearest]
        return values, numbers


def _centroids(weights: Array, count: int) -> Array:
    """At most `count` k-means centroids of weights (n,), ascending, by Lloyd's algorithm on the sorted weights.

    An empty cluster moves beside the cluster with the largest squared error.
    """
    distinct = np.unique(weights)
    if len(distinct) <= count:
        return distinct
    ordered = np.sort(weights)
    sums, squares = (np.concatenate([[0.0], np.cumsum(ordered**power)]) for power in (1, 2))
    centroids: Array = np.linspace(ordered[0], ordered[-1], count)
    for _ in range(_MOST_ITERATIONS):
        ends = np.concatenate([[0], np.searchsorted(ordered, (centroids[1:] + centroids[:-1]) / 2), [len(ordered)]])
        sizes, totals = np.diff(ends), np.diff(sums[ends])
        means = np.where(sizes > 0, totals / np.maximum(sizes, 1), centroids)
        errors = np.diff(squares[ends]) - means * totals
        for empty in np.flatnonzero(sizes == 0):
            worst = int(np.argmax(errors))
            means[empty] = means[worst] + np.sqrt(max(errors[worst], 0.0) / sizes[worst])
            errors[worst] = 0.0
        means.sort()
        if np.array_equal(means, centroids):
            break
        centroids = means
    return np.unique(centroids)
