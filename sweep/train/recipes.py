"""Training recipes: optimizer, learning rate schedule, epochs and batch size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from sweep.core.errors import ConfigError, require_epochs, require_integer, require_learning_rate, require_number
from sweep.core.protocols import require_part
from sweep.core.types import Array


class Optimizer(Protocol):
    """Builds a Keras optimizer."""

    def build(self) -> Any:
        """A fresh Keras optimizer; its learning rate is set at every step."""


@dataclass(frozen=True)
class Adam:
    """Adam (Kingma and Ba 2015), with decoupled weight decay (Loshchilov and Hutter 2019) when asked for.

    Args:
        weight_decay: per step and unit of learning rate, at least 0.
    """

    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        require_number("weight_decay", self.weight_decay, 0, 1e6)

    def build(self) -> Any:
        """The Keras optimizer."""
        import tf_keras as keras

        return keras.optimizers.Adam(weight_decay=self.weight_decay or None)


@dataclass(frozen=True)
class SGD:
    """Stochastic gradient descent with Nesterov momentum.

    Args:
        momentum: in [0, 1).
        weight_decay: per step and unit of learning rate, at least 0.
    """

    momentum: float = 0.9
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        require_number("momentum", self.momentum, 0, 1, open_high=True)
        require_number("weight_decay", self.weight_decay, 0, 1e6)

    def build(self) -> Any:
        """The Keras optimizer."""
        import tf_keras as keras

        return keras.optimizers.SGD(momentum=self.momentum, nesterov=True, weight_decay=self.weight_decay or None)


class Schedule(Protocol):
    """A learning rate schedule."""

    def factors(self, steps: int) -> Array:
        """The factor of the peak learning rate at each step: float32 (steps,) in [0, 1]."""


@dataclass(frozen=True)
class Constant:
    """A constant learning rate."""

    def factors(self, steps: int) -> Array:
        """Ones."""
        return np.ones(steps, np.float32)


@dataclass(frozen=True)
class WarmupCosine:
    """Linear warm-up, then cosine decay to zero (Loshchilov and Hutter 2017, eq. 5, without restarts).

    Args:
        warmup: the fraction of the steps in the warm-up, in [0, 1).
    """

    warmup: float

    def __post_init__(self) -> None:
        require_number("warmup", self.warmup, 0, 1, open_high=True)

    def factors(self, steps: int) -> Array:
        """From 1 / (warm-up steps) up to 1, then down to just above 0."""
        ramp = round(self.warmup * steps)
        down = np.arange(steps - ramp) / max(1, steps - ramp)
        return np.concatenate([np.arange(1, ramp + 1) / max(1, ramp), (1 + np.cos(np.pi * down)) / 2]).astype(np.float32)


@dataclass(frozen=True)
class Recipe:
    """The hyperparameters of training.

    Args:
        epochs: passes over the training images for a network from scratch, at least 1.
        batch_size: images a step, at least 1.
        learning_rate: the peak learning rate, above 0.
        optimizer: the optimizer.
        schedule: the learning rate schedule.
        label_smoothing: the probability mass spread over all classes (Szegedy et al. 2016, section 7), in [0, 1).
        augment: whether the training images are augmented, as the data set defines it.
        class_weight: `balanced` weights the loss of each image by n / (classes * n_c), for n training images and n_c of its
            class (King and Zeng 2001), so that every class has the same total weight; None for equal weights.
    """

    epochs: int
    batch_size: int
    learning_rate: float
    optimizer: Optimizer
    schedule: Schedule
    label_smoothing: float = 0.0
    augment: bool = False
    class_weight: str | None = None

    def __post_init__(self) -> None:
        require_part("optimizer", self.optimizer, Optimizer)
        require_part("schedule", self.schedule, Schedule)
        require_epochs("epochs", self.epochs, 1)
        require_integer("batch_size", self.batch_size, 1, 2**20)
        require_learning_rate("learning_rate", self.learning_rate)
        require_number("label_smoothing", self.label_smoothing, 0, 1, open_high=True)
        if not isinstance(self.augment, bool):
            raise ConfigError("augment", "true or false", self.augment)
        if self.class_weight not in (None, "balanced"):
            raise ConfigError("class_weight", "balanced or null", self.class_weight)
