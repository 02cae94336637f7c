"""The stages that train on labels or under a teacher."""

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
    """The stage that trains on labels: a fresh network, or the one it receives, for the recipe's epochs."""

    does_nothing = False

    def apply(self, network: Checkpoint | None, context: Context) -> Outcome:
        """Train; masks that the network brings are held."""
        return _trained(network, context, context.recipe.epochs, goals.Labels())

    def untrained(self) -> None:
        """Nothing is left of it."""

    def evidence(self, network: Checkpoint) -> Evidence:
        """Nothing."""
        return Evidence()


@dataclass(frozen=True)
class Taught:
    """The labels and the logits of `context.teacher` (Hinton et al. 2015), as what a training works towards.

    Args:
        temperature: T of both softmaxes, above 0.
        alpha: the weight of the labels, in [0, 1]; the teacher has the rest.
    """

    temperature: float
    alpha: float

    def __post_init__(self) -> None:
        require_number("temperature", self.temperature, 1e-3, 1e3)
        require_number("alpha", self.alpha, 0, 1)

    def watched(self, model: Any, context: Context) -> Any:
        """The logits alone."""
        return model

    def loss(self, context: Context) -> goals.Loss:
        """With the recipe's label smoothing."""
        return DistillationLoss(context.data.classes, self.temperature, self.alpha, context.recipe.label_smoothing)

    def targets(self, model: Any, context: Context) -> Callable[[int], Array]:
        """One-hot labels, then the teacher's logits: float32 (n, 2 * classes) of each epoch's view of the images."""
        hot, soft = context.one_hot(), SoftTargets(*_teacher(context), context)
        return lambda epoch: np.concatenate([hot, soft(epoch)], axis=1)


@dataclass(frozen=True)
class Attended(Taught):
    """The same and the teacher's attention: where in the image its activations are large (Zagoruyko and Komodakis 2017).

    Args:
        temperature: see `Taught`.
        alpha: see `Taught`.
        beta: the weight of the attention, at least 0.
        layers: the student's layers to the teacher's, by name; None for the pairs that `pairs` finds.
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

    def watched(self, model: Any, context: Context) -> Any:
        """The logits, then for each pair the student's map."""
        import tf_keras as keras

        places = [(pair.student, pair.size) for pair in self._pairs(model, context)]
        return keras.Model(model.input, [model.output, *attention_maps(model, places)])

    def loss(self, context: Context) -> goals.Loss:
        """Of the logits and of the maps, summed."""
        logits = DistillationLoss(context.data.classes, self.temperature, self.alpha, context.recipe.label_smoothing)
        return AttentionLoss(logits, self.beta)

    def targets(self, model: Any, context: Context) -> Callable[[int], Array]:
        """One-hot labels, the teacher's logits, then for each pair its map: float32 (n, 2 * classes + numbers of all maps)."""
        places = [(pair.teacher, pair.size) for pair in self._pairs(model, context)]
        taught, maps = super().targets(model, context), AttentionMaps(*_teacher(context), context, places)
        return lambda epoch: np.concatenate([taught(epoch), maps(epoch)], axis=1)

    def _pairs(self, model: Any, context: Context) -> list[Pair]:
        return pairs(model, checkpoints.architecture(_teacher(context)[1]), self.layers)


def _teacher(context: Context) -> tuple[str, Checkpoint]:
    if context.teacher is None:
        raise ValueError("distilling takes a teacher")
    return context.teacher


@dataclass(frozen=True)
class Distill:
    """The stage that trains on labels and on a teacher.

    Args:
        goal: what of the teacher counts, and how it is weighed.
        epochs: for a network that is trained already, at least 0; one from scratch takes the recipe's epochs.
    """

    goal: Taught
    epochs: int

    does_nothing = False

    def __post_init__(self) -> None:
        require_epochs("epochs", self.epochs, 0)

    def apply(self, network: Checkpoint | None, context: Context) -> Outcome:
        """Distil; masks that the network brings are held."""
        return _trained(network, context, self.epochs if network else context.recipe.epochs, self.goal)

    def untrained(self) -> None:
        """Nothing is left of it."""

    def evidence(self, network: Checkpoint) -> Evidence:
        """Nothing."""
        return Evidence()


def _trained(network: Checkpoint | None, context: Context, epochs: int, goal: goals.Goal) -> Outcome:
    """The network received, or a fresh one, after that many epochs."""
    model = checkpoints.restore(network) if network else context.model.build(context.data.input_shape, context.data.classes)
    network = network or checkpoints.snapshot(model)
    held = constraints.Held(checkpoints.kernels(model), network)
    curves = loop.fit(model, context, epochs=epochs, learning_rate=context.recipe.learning_rate, goal=goal, held=held)
    return Outcome(replace(network, weights=tuple(model.get_weights())), curves)
