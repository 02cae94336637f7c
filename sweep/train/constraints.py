"""What holds while a network trains: pruned weights stay zero, shared weights equal."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from sweep.core.types import Array, Checkpoint

Projection = Callable[[Any], Any]
"""A kernel's tensor to the nearest of its shape that keeps a constraint, in TensorFlow."""


class Constraints(Protocol):
    """Keeps pruned weights at zero, and shared weights equal, while a network trains."""

    def update(self, done: float) -> None:
        """Move to what holds when the fraction `done` of the training, in [0, 1], is through."""

    def projections(self) -> list[tuple[Any, Projection]]:
        """(kernel variable, what brings its value back after a step)."""


class Held:
    """Constraints that stay as they are.

    Args:
        kernels: layer name to kernel variable of the network in training.
        network: the network, for the masks and the clusters that it brings.
    """

    def __init__(self, kernels: Mapping[str, Any], network: Checkpoint) -> None:
        self._projections = [(kernels[name], _masked(mask)) for name, mask in network.masks.items()]
        self._projections += [(kernels[name], _shared(numbers)) for name, numbers in network.clusters.items()]

    def update(self, done: float) -> None:
        """Nothing moves."""

    def projections(self) -> list[tuple[Any, Projection]]:
        """Masks first, then clusters."""
        return self._projections


def _masked(mask: Array) -> Projection:
    import tensorflow as tf

    kept = tf.constant(mask, tf.float32)
    return lambda kernel: kernel * kept


def _shared(numbers: Array) -> Projection:
    """Each weight becomes the mean of its cluster."""
    import tensorflow as tf

    flat, count = tf.constant(numbers.ravel(), tf.int32), int(numbers.max()) + 1

    def share(kernel: Any) -> Any:
        means = tf.math.unsorted_segment_mean(tf.reshape(kernel, [-1]), flat, count)
        return tf.reshape(tf.gather(means, flat), numbers.shape)

    return share
