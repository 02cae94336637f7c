"""What a training minimises, and towards which targets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from sweep.core.types import Array

if TYPE_CHECKING:
    from sweep.train.context import Context


Loss = Callable[[Any, Any], Any]
"""(targets, what the watched model answers) to a scalar, in TensorFlow."""


@dataclass(frozen=True)
class CrossEntropy:
    """Cross-entropy against one-hot targets (batch, classes), with label smoothing."""

    label_smoothing: float = 0.0

    def __call__(self, targets: Any, logits: Any) -> Any:
        """The mean over the batch, in nats."""
        import tensorflow as tf

        smooth = targets * (1.0 - self.label_smoothing) + self.label_smoothing / logits.shape[-1]
        return tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits(smooth, logits))


class Goal(Protocol):
    """What a training works towards: a frozen dataclass, so that it can name a result."""

    def watched(self, model: Any, context: Context) -> Any:
        """The Keras model to run: `model`, or one on its layers and weights that answers with a list, logits first."""

    def loss(self, context: Context) -> Loss:
        """What is minimised."""

    def targets(self, model: Any, context: Context) -> Callable[[int], Array]:
        """Epoch to float32 (n, k), whose first `classes` columns are one-hot labels."""


@dataclass(frozen=True)
class Labels:
    """The labels alone, with the recipe's label smoothing."""

    def watched(self, model: Any, context: Context) -> Any:
        """The logits alone."""
        return model

    def loss(self, context: Context) -> Loss:
        """Cross-entropy."""
        return CrossEntropy(context.recipe.label_smoothing)

    def targets(self, model: Any, context: Context) -> Callable[[int], Array]:
        """The same for every epoch."""
        hot = context.one_hot()
        return lambda epoch: hot
