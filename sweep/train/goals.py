"""Training goals: a loss and its targets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from sweep.core.types import Array

if TYPE_CHECKING:
    from sweep.train.context import Context


Loss = Callable[[Any, Any], Any]
"""(targets, outputs of the training model) to a scalar, in TensorFlow."""


@dataclass(frozen=True)
class CrossEntropy:
    """Cross-entropy with one-hot targets (batch, classes) and label smoothing (Szegedy et al. 2016, section 7).

    Args:
        label_smoothing: the probability mass spread over all classes, in [0, 1).
    """

    label_smoothing: float = 0.0

    def __call__(self, targets: Any, logits: Any) -> Any:
        """Computes the mean over the batch, a float32 scalar in nats, from logits float32 (batch, classes)."""
        import tensorflow as tf

        smooth = targets * (1.0 - self.label_smoothing) + self.label_smoothing / logits.shape[-1]
        return tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits(smooth, logits))


class Goal(Protocol):
    """A loss and its targets. A goal is a frozen dataclass, so that it can be part of a cache key."""

    def training_model(self, model: Any, context: Context) -> Any:
        """The Keras model whose outputs the loss receives: `model`, or its layers with further outputs after the logits."""

    def loss(self, context: Context) -> Loss:
        """The loss to minimise."""

    def targets(self, model: Any, context: Context) -> Callable[[int], Array]:
        """A function from epoch to targets, float32 (n, k), whose first `classes` columns are the one-hot labels."""


@dataclass(frozen=True)
class Labels:
    """The goal of plain training: cross-entropy with the labels, with the recipe's label smoothing."""

    def training_model(self, model: Any, context: Context) -> Any:
        """The model itself, which returns logits."""
        return model

    def loss(self, context: Context) -> Loss:
        """Cross-entropy with label smoothing."""
        return CrossEntropy(context.recipe.label_smoothing)

    def targets(self, model: Any, context: Context) -> Callable[[int], Array]:
        """The one-hot labels, float32 (n, classes), for every epoch."""
        labels = context.one_hot()
        return lambda epoch: labels
