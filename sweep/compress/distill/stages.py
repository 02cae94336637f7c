"""The stages that train on labels, or on labels and the outputs of a teacher."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from sweep.compress.distill.attention import attention_maps, pairs
from sweep.compress.distill.losses import AttentionLoss, DistillationLoss
from sweep.compress.distill.targets import AttentionMaps, SoftTargets
from sweep.core.errors import ConfigError, require_epochs, require_number, require_text
from sweep.core.stage import Evidence, Outcome
from sweep.core.types import Array, Checkpoint
from sweep.models import checkpoints
from sweep.train import constraints, goals, loop
from sweep.train.context import Context

if TYPE_CHECKING:
    from sweep.compress.distill.attention import Pair


@dataclass(frozen=True)
class Train:
    """The stage that trains on labels for the recipe's epochs: the network that it receives, or a fresh one."""

    does_nothing = False
    weights_decide_shapes = False

    def apply(self, network: Checkpoint | None, context: Context) -> Outcome:
        """Trains under the network's masks and clusters."""
        return _trained(network, context, context.recipe.epochs, goals.Labels())

    def untrained(self) -> None:
        """None, since the stage is its training."""

    def evidence(self, network: Checkpoint) -> Evidence:
        """No evidence: training leaves nothing that the file must show."""
        return Evidence()


@dataclass(frozen=True)
class LogitDistillation:
    """The goal of knowledge distillation (Hinton et al. 2015): labels, and the logits of `context.teacher`.

    Args:
        temperature: T of both softmaxes, in [0.001, 1000].
        alpha: the weight of the labels, in [0, 1]; the soft targets have 1 - alpha.
    """

    temperature: float
    alpha: float

    def __post_init__(self) -> None:
        require_number("temperature", self.temperature, 1e-3, 1e3)
        require_number("alpha", self.alpha, 0, 1)

    def training_model(self, model: Any, context: Context) -> Any:
        """The logits alone."""
        return model

    def loss(self, context: Context) -> goals.Loss:
        """The distillation loss, with the recipe's label smoothing and class weights."""
        return self._distillation_loss(context)

    def targets(self, model: Any, context: Context) -> Callable[[int], Array]:
        """Float32 (n, 2 * classes) for an epoch: one-hot labels, then the teacher's logits on the epoch's augmented images."""
        labels, soft_targets = context.one_hot(), SoftTargets(*_teacher(context), context)
        return lambda epoch: np.concatenate([labels, soft_targets(epoch)], axis=1)

    def _distillation_loss(self, context: Context) -> DistillationLoss:
        recipe = context.recipe
        return DistillationLoss(
            context.data.classes, self.temperature, self.alpha, recipe.label_smoothing, context.class_weights()
        )


@dataclass(frozen=True)
class AttentionDistillation(LogitDistillation):
    """The goal of attention transfer (Zagoruyko and Komodakis 2017): labels, the teacher's logits and its attention maps.

    Args:
        temperature: T of both softmaxes, in [0.001, 1000].
        alpha: the weight of the labels, in [0, 1]; the soft targets have 1 - alpha.
        beta: the weight of the attention loss, at least 0.
        layers: the student's layers to the teacher's, by name; None to pair them by height and width.
    """

    beta: float
    layers: Mapping[str, str] | None

    def __post_init__(self) -> None:
        super().__post_init__()
        require_number("beta", self.beta, 0, 1e6)
        layers: object = self.layers
        if layers is not None and (not isinstance(layers, Mapping) or not layers):
            raise ConfigError("layers", "null, or the student's layers with the teacher's, by name", repr(layers))
        for student, teacher in (self.layers or {}).items():
            require_text(f"layers.{student}", teacher)

    def training_model(self, model: Any, context: Context) -> Any:
        """The student's logits, then its map of each pair."""
        import tf_keras as keras

        maps = [(pair.student, pair.size) for pair in self._pairs(model, context)]
        return keras.Model(model.input, [model.output, *attention_maps(model, maps)])

    def loss(self, context: Context) -> goals.Loss:
        """The distillation loss plus the attention loss."""
        return AttentionLoss(self._distillation_loss(context), self.beta)

    def targets(self, model: Any, context: Context) -> Callable[[int], Array]:
        """Float32 (n, 2 * classes + elements of all maps) for an epoch: labels, the teacher's logits, its map of each pair."""
        maps = [(pair.teacher, pair.size) for pair in self._pairs(model, context)]
        logit_targets, teacher_maps = super().targets(model, context), AttentionMaps(*_teacher(context), context, maps)
        return lambda epoch: np.concatenate([logit_targets(epoch), teacher_maps(epoch)], axis=1)

    def _pairs(self, model: Any, context: Context) -> list[Pair]:
        return pairs(model, checkpoints.architecture(_teacher(context)[1]), self.layers)


def _teacher(context: Context) -> tuple[str, Checkpoint]:
    if context.teacher is None:
        raise ValueError("distilling takes a teacher")
    return context.teacher


@dataclass(frozen=True)
class Distill:
    """The stage that trains on labels and the outputs of a teacher.

    Args:
        goal: the distillation loss and its targets.
        epochs: the epochs for a network that is already trained, at least 0; a fresh network trains for the recipe's.
    """

    goal: LogitDistillation
    epochs: int

    does_nothing = False
    weights_decide_shapes = False

    def __post_init__(self) -> None:
        require_epochs("epochs", self.epochs, 0)

    def apply(self, network: Checkpoint | None, context: Context) -> Outcome:
        """Distils under the network's masks and clusters."""
        return _trained(network, context, self.epochs if network else context.recipe.epochs, self.goal)

    def untrained(self) -> None:
        """None, since the stage is its training."""

    def evidence(self, network: Checkpoint) -> Evidence:
        """No evidence: training leaves nothing that the file must show."""
        return Evidence()


def _trained(network: Checkpoint | None, context: Context, epochs: int, goal: goals.Goal) -> Outcome:
    """Trains the network, or a fresh one for None."""
    model = checkpoints.restore(network) if network else context.model.build(context.data.input_shape, context.data.classes)
    network = network or checkpoints.snapshot(model)
    fixed = constraints.FixedConstraints(checkpoints.kernels(model), network)
    curves = loop.fit(model, context, epochs=epochs, learning_rate=context.recipe.learning_rate, goal=goal, constraints=fixed)
    return Outcome(replace(network, weights=tuple(model.get_weights())), curves)
