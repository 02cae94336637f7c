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
    """Cross-entropy against one-hot targets (batch, classes), with label smoothing."""

    label_smoothing: float = 0.0

    def __call__(self, targets: Any, logits: Any) -> Any:
        """Computes the mean over the batch, in nats, of logits (batch, classes)."""
        import tensorflow as tf

        smooth = targets * (1.0 - self.label_smoothing) + self.label_smoothing / logits.shape[-1]
        return tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits(smooth, logits))


class Goal(Protocol):
    """The loss of a training and its targets. A goal is a frozen dataclass, so that it can be part of a cache key."""

    def training_model(self, model: Any, context: Context) -> Any:
        """Returns the Keras model that the loss is of: `model`, or one on its layers with several outputs, logits first."""

    def loss(self, context: Context) -> Loss:
        """Returns the loss to minimise."""

    def targets(self, model: Any, context: Context) -> Callable[[int], Array]:
        """Returns a function of the epoch to the targets, float32 (n, k), whose first `classes` columns are one-hot labels."""


@dataclass(frozen=True)
class Labels:
    """The goal of plain training: cross-entropy with the labels, with the recipe's label smoothing."""

    def training_model(self, model: Any, context: Context) -> Any:
        """The logits alone."""
        return model

    def loss(self, context: Context) -> Loss:
        """Cross-entropy."""
        return CrossEntropy(context.recipe.label_smoothing)

    def targets(self, model: Any, context: Context) -> Callable[[int], Array]:
        """Epoch to the one-hot labels, float32 (n, classes), the same for every epoch."""
        labels = context.one_hot()
        return lambda epoch: labels
