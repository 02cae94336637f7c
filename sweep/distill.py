"""Training on labels, and distilling a network from a teacher, directly or through teacher assistants.

The teacher's logits are computed once for each view of the training images and kept in the cache, where every temperature,
alpha and student finds them. Only logits are matched; features are not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Protocol

import numpy as np

from sweep import fit, models
from sweep.records import Array, Arrays, Checkpoint, ConfigError, Spec, require_integer, require_number, require_part


@dataclass(frozen=True)
class Train:
    """The stage that trains on labels: a fresh network, or the one it receives, for the recipe's epochs."""

    def apply(self, network: Checkpoint | None, context: fit.Context) -> fit.Outcome:
        """Train; masks that the network brings are held."""
        return _trained(network, context, context.recipe.epochs, fit.Labels())

    def untrained(self) -> None:
        """Nothing is left of it."""


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
        require_number("temperature", self.temperature, 0, open_low=True)
        require_number("alpha", self.alpha, 0, 1)

    def loss(self, context: fit.Context) -> DistillationLoss:
        """With the recipe's label smoothing."""
        return DistillationLoss(context.data.classes, self.temperature, self.alpha, context.recipe.label_smoothing)

    def targets(self, context: fit.Context) -> Callable[[int], Array]:
        """One-hot labels, then the teacher's logits: float32 (n, 2 * classes) of each epoch's view of the images."""
        if context.teacher is None:
            raise ValueError("distilling takes a teacher")
        hot, soft = context.one_hot(), SoftTargets(*context.teacher, context)
        return lambda epoch: np.concatenate([hot, soft(epoch)], axis=1)


@dataclass(frozen=True)
class Distill:
    """The stage that trains on labels and on a teacher's logits.

    Args:
        goal: how the two are weighed.
        epochs: for a network that is trained already, at least 0; one from scratch takes the recipe's epochs.
    """

    goal: Taught
    epochs: int

    def __post_init__(self) -> None:
        require_integer("epochs", self.epochs, 0)

    def apply(self, network: Checkpoint | None, context: fit.Context) -> fit.Outcome:
        """Distil; masks that the network brings are held."""
        return _trained(network, context, self.epochs if network else context.recipe.epochs, self.goal)

    def untrained(self) -> None:
        """Nothing is left of it."""


def _trained(network: Checkpoint | None, context: fit.Context, epochs: int, goal: fit.Goal) -> fit.Outcome:
    """The network received, or a fresh one, after that many epochs."""
    model = models.restore(network) if network else context.model.build(context.data.input_shape, context.data.classes)
    network = network or models.snapshot(model)
    held = fit.Held(models.kernels(model), network)
    curves = fit.fit(model, context, epochs=epochs, learning_rate=context.recipe.learning_rate, goal=goal, held=held)
    return fit.Outcome(replace(network, weights=tuple(model.get_weights())), curves)


class SoftTargets:
    """A teacher's logits on the training images, one array for each view of them, out of the cache where it has them.

    Args:
        key: the teacher's cache key.
        teacher: the teacher.
        context: the data, its views, and the cache.
    """

    def __init__(self, key: str, teacher: Checkpoint, context: fit.Context) -> None:
        self._key, self._teacher, self._context = key, teacher, context
        self._answers: fit.Answers | None = None

    def __call__(self, epoch: int) -> Array:
        """float32 (n, classes): the teacher's answers to the images of epoch `epoch`."""
        key = {"soft targets of": self._key, **self._context.view_key(epoch)}
        return self._context.remember(key, lambda: self._compute(epoch))["logits"]

    def _compute(self, epoch: int) -> Arrays:
        if self._answers is None:
            self._answers = fit.Answers(models.restore(self._teacher))
        return {"logits": self._answers(self._context.images(epoch))}


@dataclass(frozen=True)
class DistillationLoss:
    """alpha * CE(labels, student) + (1 - alpha) * T^2 * KL(softmax(teacher / T) || softmax(student / T)).

    Hinton, Vinyals and Dean 2015 (arXiv 1503.02531), section 2; T^2 keeps the gradients of both terms on one scale.

    Args:
        classes: how many columns of the targets are one-hot labels; as many columns of teacher logits follow.
        temperature: T, above 0.
        alpha: the weight of the labels, in [0, 1].
        label_smoothing: of the labels, in [0, 1).
    """

    classes: int
    temperature: float
    alpha: float
    label_smoothing: float = 0.0

    def __call__(self, targets: Any, logits: Any) -> Any:
        """The mean over the batch, in nats: targets (batch, 2 * classes) and logits (batch, classes), float32."""
        import tensorflow as tf

        labels, teacher = targets[:, : self.classes], targets[:, self.classes :]
        log_student = tf.nn.log_softmax(logits / self.temperature)
        log_teacher = tf.nn.log_softmax(teacher / self.temperature)
        divergence = tf.reduce_mean(tf.reduce_sum(tf.exp(log_teacher) * (log_teacher - log_student), axis=1))
        hard = fit.CrossEntropy(self.label_smoothing)(labels, logits)
        return self.alpha * hard + (1.0 - self.alpha) * self.temperature**2 * divergence


# Names that the records of a trial have for its other stages.
_ROLES = ("teacher", "assistant", "train", "distill", "prune", "quant")


class Lesson(NamedTuple):
    """A network that is trained before the student: its role, its configuration key, what it goes through, and what it is."""

    role: str
    key: str
    stage: Train | Distill
    model: Spec


class Distillation(Protocol):
    """A choice of the `distill` group."""

    def stage(self) -> Train | Distill:
        """What the student goes through."""

    def tutors(self) -> tuple[Lesson, ...]:
        """The networks that are trained before it, each learning from the one before; the last teaches the student."""

    def finetuning(self) -> Taught | None:
        """What the student's fine-tuning in later stages works towards; None for the labels alone."""


@dataclass(frozen=True)
class NoDistillation:
    """The student learns from the labels alone."""

    def stage(self) -> Train:
        """Plain training."""
        return Train()

    def tutors(self) -> tuple[Lesson, ...]:
        """Nobody."""
        return ()

    def finetuning(self) -> None:
        """The labels."""


@dataclass(frozen=True)
class KD:
    """Distillation straight from a teacher.

    Args:
        teacher: the teacher's network, of the same `model` group as the student.
        temperature: see `Taught`.
        alpha: see `Taught`.
        epochs: see `Distill`.
        finetune: whether the teacher also has its word where a pruned or quantised student is fine-tuned.
    """

    teacher: Spec
    temperature: float
    alpha: float
    epochs: int
    finetune: bool

    def __post_init__(self) -> None:
        require_part("teacher", self.teacher, "check", "build")
        self.stage()
        if not isinstance(self.finetune, bool):
            raise ConfigError("finetune", "true or false", repr(self.finetune))

    def stage(self) -> Distill:
        """Distillation with these numbers."""
        return Distill(Taught(self.temperature, self.alpha), self.epochs)

    def tutors(self) -> tuple[Lesson, ...]:
        """The teacher, trained on labels."""
        return (Lesson("teacher", "distill.teacher", Train(), self.teacher),)

    def finetuning(self) -> Taught | None:
        """The same as in distilling, when asked for."""
        return self.stage().goal if self.finetune else None


@dataclass(frozen=True)
class Assistant(KD):
    """Distillation through teacher assistants (Mirzadeh et al. 2020, arXiv 1902.03393): each learns from the one before.

    Args:
        teacher: see `KD`.
        temperature: see `Taught`.
        alpha: see `Taught`.
        epochs: see `Distill`.
        finetune: see `KD`.
        assistant: the network between teacher and student.
        more_assistants: further ones after it, in this order, under names of the user's choice.
    """

    assistant: Spec
    more_assistants: Mapping[str, Spec] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        require_part("assistant", self.assistant, "check", "build")
        if not isinstance(self.more_assistants, Mapping):
            raise ConfigError("more_assistants", "a mapping of names to models", self.more_assistants)
        for name, model in self.more_assistants.items():
            if name in _ROLES:
                raise ConfigError("more_assistants", f"names besides {', '.join(_ROLES)}", name)
            require_part(f"more_assistants.{name}", model, "check", "build")

    def tutors(self) -> tuple[Lesson, ...]:
        """The teacher, then the assistants."""
        first = Lesson("assistant", "distill.assistant", self.stage(), self.assistant)
        more = (
            Lesson(role, f"distill.more_assistants.{role}", self.stage(), one) for role, one in self.more_assistants.items()
        )
        return (*super().tutors(), first, *more)
