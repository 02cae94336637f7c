"""Constraints on weights during training: pruned weights stay zero, the weights of a cluster stay equal."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from sweep.core.types import Array, Checkpoint

Projection = Callable[[Any], Any]
"""Projects a kernel's tensor onto a constraint, in TensorFlow: the nearest tensor of its shape that satisfies it."""


class Constraints(Protocol):
    """Constraints on the kernels of a network in training."""

    def update(self, done: float) -> None:
        """Updates the constraints to those after the fraction `done` of the training, in [0, 1]."""

    def projections(self) -> list[tuple[Any, Projection]]:
        """(kernel variable, its projection after every step)."""


class FixedConstraints:
    """The masks and clusters of a network, constant over the training.

    Args:
        kernels: layer name to kernel variable of the network in training.
        network: the network, with its masks and clusters.
    """

    def __init__(self, kernels: Mapping[str, Any], network: Checkpoint) -> None:
        self._projections = [(kernels[name], _masked(mask)) for name, mask in network.masks.items()]
        self._projections += [(kernels[name], _shared(indices)) for name, indices in network.clusters.items()]

    def update(self, done: float) -> None:
        """Does nothing, since the constraints are constant."""

    def projections(self) -> list[tuple[Any, Projection]]:
        """The projections of the masks, then those of the clusters."""
        return self._projections


def _masked(mask: Array) -> Projection:
    """Sets pruned weights to zero."""
    import tensorflow as tf

    mask_values = tf.constant(mask, tf.float32)
    return lambda kernel: kernel * mask_values


def _shared(indices: Array) -> Projection:
    """Replaces each weight by the mean of its cluster."""
    import tensorflow as tf

    flat, count = tf.constant(indices.ravel(), tf.int32), int(indices.max()) + 1

    def share(kernel: Any) -> Any:
        means = tf.math.unsorted_segment_mean(tf.reshape(kernel, [-1]), flat, count)
        return tf.reshape(tf.gather(means, flat), indices.shape)

    return share
