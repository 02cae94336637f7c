"""Training on labels, and distilling a network from a teacher, directly or through teacher assistants.

The teacher's logits are computed once for each view of the training images and kept in the cache, where every temperature,
alpha and student finds them. Only logits are matched; features are not.
"""

from __future__ import annotations

import bisect
import re
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
_ROLES = re.compile(r"(teacher|train|distill|prune|cluster|quant)(_\d+)?")

Parameters = Callable[[Spec], int]
"""How many parameters a network has."""


class Lesson(NamedTuple):
    """A network that is trained before the student: its role, what it goes through, what it is, and for how long.

    Epochs of None are the recipe's.
    """

    role: str
    stage: Train | Distill
    model: Spec
    epochs: int | None


class Distillation(Protocol):
    """A choice of the `distill` group."""

    def stage(self) -> Train | Distill:
        """What the student goes through."""

    def networks(self) -> Mapping[str, Spec]:
        """Configuration key to network, of those that are named: none for the student's labels alone."""

    def tutors(self, student: Spec, parameters: Parameters) -> tuple[Lesson, ...]:
        """The networks that are trained before the student, each learning from the one before; the last teaches the student."""

    def finetuning(self) -> Taught | None:
        """What the student's fine-tuning in later stages works towards; None for the labels alone."""


@dataclass(frozen=True)
class NoDistillation:
    """The student learns from the labels alone."""

    def stage(self) -> Train:
        """Plain training."""
        return Train()

    def networks(self) -> Mapping[str, Spec]:
        """None."""
        return {}

    def tutors(self, student: Spec, parameters: Parameters) -> tuple[Lesson, ...]:
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
        teacher_epochs: of every network that is trained before the student, at least 1; None for as many as the student's.
    """

    teacher: Spec
    temperature: float
    alpha: float
    epochs: int
    finetune: bool
    teacher_epochs: int | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        require_part("teacher", self.teacher, "check", "build")
        if self.teacher_epochs is not None:
            require_integer("teacher_epochs", self.teacher_epochs, 1)
        self.stage()
        if not isinstance(self.finetune, bool):
            raise ConfigError("finetune", "true or false", repr(self.finetune))

    def stage(self) -> Distill:
        """Distillation with these numbers."""
        return Distill(Taught(self.temperature, self.alpha), self.epochs)

    def networks(self) -> Mapping[str, Spec]:
        """The teacher."""
        return {"distill.teacher": self.teacher}

    def tutors(self, student: Spec, parameters: Parameters) -> tuple[Lesson, ...]:
        """The teacher, trained on labels."""
        return (Lesson("teacher", Train(), self.teacher, self.teacher_epochs),)

    def finetuning(self) -> Taught | None:
        """The same as in distilling, when asked for."""
        return self.stage().goal if self.finetune else None


@dataclass(frozen=True)
class Assistants(KD):
    """Distillation through teacher assistants (Mirzadeh et al. 2020, arXiv 1902.03393): each learns from the one before.

    Args:
        teacher: see `KD`.
        temperature: see `Taught`.
        alpha: see `Taught`.
        epochs: see `Distill`.
        finetune: see `KD`.
        teacher_epochs: see `KD`.
        assistants: the networks between teacher and student, in this order, under names of the user's choice; or how many, at
            least 0: then they are the teacher at smaller widths, with numbers of parameters in even ratios from the teacher's
            to the student's.
    """

    assistants: Mapping[str, Spec] | int

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.assistants, Mapping):
            require_integer("assistants", self.assistants, 0, 9)
            if self.assistants and not isinstance(getattr(self.teacher, "width", None), (int, float)):
                raise ConfigError("assistants", "networks by name, since the teacher has no width to choose", self.assistants)
            return
        for name, model in self.assistants.items():
            if _ROLES.fullmatch(name):
                raise ConfigError("assistants", "names that no stage has", name)
            require_part(f"assistants.{name}", model, "check", "build")

    def networks(self) -> Mapping[str, Spec]:
        """The teacher, and the assistants that have a name."""
        named = self.assistants if isinstance(self.assistants, Mapping) else {}
        return {**super().networks(), **{f"distill.assistants.{name}": model for name, model in named.items()}}

    def tutors(self, student: Spec, parameters: Parameters) -> tuple[Lesson, ...]:
        """The teacher, then the assistants.

        Raises:
            ConfigError: when they are to be chosen and the teacher has no more parameters than the student.
        """
        chain = self.assistants if isinstance(self.assistants, Mapping) else self._between(student, parameters)
        return (
            *super().tutors(student, parameters),
            *(Lesson(name, self.stage(), model, self.teacher_epochs) for name, model in chain.items()),
        )

    def _between(self, student: Spec, parameters: Parameters) -> dict[str, Spec]:
        count = self.assistants
        if not isinstance(count, int) or count == 0:
            return {}
        most, least = parameters(self.teacher), parameters(student)
        if most <= least:
            raise ConfigError("distill.teacher", f"more than the {least:,} parameters of the student", f"{most:,}")
        wanted = [most * (least / most) ** (number / (count + 1)) for number in range(1, count + 1)]
        names = ["assistant"] if count == 1 else [f"assistant_{number}" for number in range(1, count + 1)]
        return {name: self._of_size(size, parameters) for name, size in zip(names, wanted, strict=True)}

    def _of_size(self, wanted: float, parameters: Parameters) -> Spec:
        """The teacher at the width, of hundredths of its own, whose parameters come nearest to a number."""
        teacher: Any = self.teacher
        widths = [round(teacher.width * part / 100, 6) for part in range(1, 101)]
        above = bisect.bisect_left(widths, wanted, key=lambda width: parameters(replace(teacher, width=width)))
        nearest = min(
            widths[max(0, above - 1) : above + 1],
            key=lambda width: abs(parameters(replace(teacher, width=width)) - wanted),
        )
        chosen: Spec = replace(teacher, width=nearest)
        return chosen
