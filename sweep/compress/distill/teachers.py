"""The choices of the `distill` group: none, logits, logits and attention maps, or a chain of teacher assistants."""

from __future__ import annotations

import bisect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Protocol

from sweep.compress.distill.attention import pairs
from sweep.compress.distill.stages import AttentionDistillation, Distill, LogitDistillation, Train
from sweep.core.errors import ConfigError, require_epochs, require_integer
from sweep.core.protocols import require_part
from sweep.core.types import Spec

# Reserved: the roles of a trial's other stages.
_ROLES = re.compile(r"(teacher|train|distill|prune|cluster|quant)(_\d+)?")
Parameters = Callable[[Spec], int]
"""A function from a network to its number of parameters."""


class TeacherStep(NamedTuple):
    """A network that is trained before the student.

    Attributes:
        role: the name of the step among the trial's stages.
        stage: the stage that trains the network.
        model: the network.
        epochs: the epochs of its training; None for the recipe's.
    """

    role: str
    stage: Train | Distill
    model: Spec
    epochs: int | None


class Distillation(Protocol):
    """A choice of the `distill` group."""

    @property
    def does_nothing(self) -> bool:
        """Whether the student learns from the labels alone."""

    def stage(self) -> Train | Distill:
        """The stage that trains the student."""

    def networks(self) -> Mapping[str, Spec]:
        """Configuration key to network, of the networks that the configuration names."""

    def teacher_chain(self, student: Spec, parameters: Parameters) -> tuple[TeacherStep, ...]:
        """The networks that are trained before the student. Each is distilled from the previous one, the student from the last.

        Args:
            student: the student's network.
            parameters: counts the parameters of a network.
        """

    def finetuning(self) -> LogitDistillation | None:
        """The goal of the student's fine-tuning in later stages; None for the labels alone."""

    def require(self, student: Spec, input_shape: tuple[int, int, int], classes: int) -> None:
        """Refuses a student that cannot be distilled from this teacher.

        Raises:
            ConfigError: naming the reason.
        """


@dataclass(frozen=True)
class NoDistillation:
    """No distillation: the student trains on labels alone."""

    does_nothing = True

    def stage(self) -> Train:
        """Plain training."""
        return Train()

    def networks(self) -> Mapping[str, Spec]:
        """None."""
        return {}

    def teacher_chain(self, student: Spec, parameters: Parameters) -> tuple[TeacherStep, ...]:
        """Empty."""
        return ()

    def finetuning(self) -> None:
        """None: the labels alone."""

    def require(self, student: Spec, input_shape: tuple[int, int, int], classes: int) -> None:
        """Accepts every student."""


@dataclass(frozen=True)
class KD:
    """Knowledge distillation from a teacher's logits (Hinton et al. 2015, arXiv 1503.02531).

    Args:
        teacher: the teacher's network, of the same `model` group as the student.
        temperature: T of both softmaxes, in [0.001, 1000].
        alpha: the weight of the labels, in [0, 1]; the soft targets have 1 - alpha.
        epochs: the epochs for a student that is already trained, at least 0; a fresh one trains for the recipe's.
        finetune: whether fine-tuning after pruning or under quantisation uses the teacher too.
        teacher_epochs: the epochs of every network that is trained before the student, at least 1; None for the recipe's.
    """

    teacher: Spec
    temperature: float
    alpha: float
    epochs: int
    finetune: bool
    teacher_epochs: int | None = field(default=None, kw_only=True)

    does_nothing = False

    def __post_init__(self) -> None:
        require_part("teacher", self.teacher, Spec)
        if self.teacher_epochs is not None:
            require_epochs("teacher_epochs", self.teacher_epochs, 1)
        self.stage()
        if not isinstance(self.finetune, bool):
            raise ConfigError("finetune", "true or false", repr(self.finetune))

    def stage(self) -> Distill:
        """Distillation from the logits."""
        return Distill(LogitDistillation(self.temperature, self.alpha), self.epochs)

    def networks(self) -> Mapping[str, Spec]:
        """The teacher."""
        return {"distill.teacher": self.teacher}

    def teacher_chain(self, student: Spec, parameters: Parameters) -> tuple[TeacherStep, ...]:
        """The teacher, trained on labels."""
        return (TeacherStep("teacher", Train(), self.teacher, self.teacher_epochs),)

    def finetuning(self) -> LogitDistillation | None:
        """The labels and the teacher's logits with `finetune`, else None."""
        return LogitDistillation(self.temperature, self.alpha) if self.finetune else None

    def require(self, student: Spec, input_shape: tuple[int, int, int], classes: int) -> None:
        """Accepts every student: all networks have logits."""


@dataclass(frozen=True)
class Features(KD):
    """Distillation from a teacher's logits and attention maps (Zagoruyko and Komodakis 2017, arXiv 1612.03928).

    Only the distillation stage uses the maps. In later stages, whose student may be wrapped for quantisation or have fewer
    filters, `finetune` distils the logits. `KD` describes the keys that are not listed here.

    Args:
        beta: the weight of the attention loss, at least 0.
        layers: the student's layers to the teacher's, by name; None to pair them by height and width.
    """

    beta: float
    layers: Mapping[str, str] | None = field(default=None, kw_only=True)

    def stage(self) -> Distill:
        """Distillation from the logits and the attention maps."""
        return Distill(AttentionDistillation(self.temperature, self.alpha, self.beta, self.layers), self.epochs)

    def require(self, student: Spec, input_shape: tuple[int, int, int], classes: int) -> None:
        """Refuses layers that the networks do not have.

        Raises:
            ConfigError: naming the layer.
        """
        pairs(student.build(input_shape, classes), self.teacher.build(input_shape, classes), self.layers)


@dataclass(frozen=True)
class Assistants(KD):
    """Distillation through teacher assistants (Mirzadeh et al. 2020, arXiv 1902.03393).

    Each network is distilled from the previous one.
    `KD` describes the keys that are not listed here.

    Args:
        assistants: the networks between teacher and student, in this order, by names of the user's choice; or their number, in
            [0, 9]: then they are the teacher at smaller widths, whose numbers of parameters form a geometric sequence from the
            teacher's to the student's.
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
            require_part(f"assistants.{name}", model, Spec)

    def networks(self) -> Mapping[str, Spec]:
        """The teacher, and the assistants that have a name."""
        named = self.assistants if isinstance(self.assistants, Mapping) else {}
        return {**super().networks(), **{f"distill.assistants.{name}": model for name, model in named.items()}}

    def teacher_chain(self, student: Spec, parameters: Parameters) -> tuple[TeacherStep, ...]:
        """The teacher, then the assistants.

        Raises:
            ConfigError: when `assistants` is a number and the teacher has no more parameters than the student.
        """
        chain = self.assistants if isinstance(self.assistants, Mapping) else self._between(student, parameters)
        return (
            *super().teacher_chain(student, parameters),
            *(TeacherStep(name, self.stage(), model, self.teacher_epochs) for name, model in chain.items()),
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
        """The teacher at the width, in hundredths of its own, whose number of parameters is nearest to `wanted`."""
        teacher: Any = self.teacher
        widths = [round(teacher.width * part / 100, 6) for part in range(1, 101)]
        above = bisect.bisect_left(widths, wanted, key=lambda width: parameters(replace(teacher, width=width)))
        nearest = min(
            widths[max(0, above - 1) : above + 1],
            key=lambda width: abs(parameters(replace(teacher, width=width)) - wanted),
        )
        chosen: Spec = replace(teacher, width=nearest)
        return chosen
