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
        class_weights: the weight of each class; None for 1.
    """

    label_smoothing: float = 0.0
    class_weights: tuple[float, ...] | None = None

    def __call__(self, targets: Any, logits: Any) -> Any:
        """Computes the mean over the batch, a float32 scalar in nats, from logits float32 (batch, classes)."""
        import tensorflow as tf

        smooth = targets * (1.0 - self.label_smoothing) + self.label_smoothing / logits.shape[-1]
        return weighted_mean(tf.nn.softmax_cross_entropy_with_logits(smooth, logits), targets, self.class_weights)


def weighted_mean(losses: Any, labels: Any, class_weights: tuple[float, ...] | None) -> Any:
    """The mean over a batch, each loss times the weight of its class.

    Args:
        losses: float32 (batch,).
        labels: float32 (batch, classes), one-hot.
        class_weights: the weight of each class; None for 1.

    Returns:
        A float32 scalar.
    """
    import tensorflow as tf

    if class_weights is not None:
        losses *= tf.linalg.matvec(labels, tf.constant(class_weights, tf.float32))
    return tf.reduce_mean(losses)


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
        """Cross-entropy with label smoothing and class weights."""
        return CrossEntropy(context.recipe.label_smoothing, context.class_weights())

    def targets(self, model: Any, context: Context) -> Callable[[int], Array]:
        """The one-hot labels, float32 (n, classes), for every epoch."""
        labels = context.one_hot()
        return lambda epoch: labels
