"""Training on labels, and distilling a network from a teacher, directly or through teacher assistants.

The teacher's logits are computed once for each view of the training images and kept in the cache, where every temperature,
alpha and student finds them; so are its attention maps, where a student learns from them too. No layer is added to the student
to bring its features to the teacher's channels: what is compared of features has none.
"""

from __future__ import annotations

import bisect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Protocol

import numpy as np

from sweep import fit, models
from sweep.parts import require_part
from sweep.records import (
    Array,
    Arrays,
    Checkpoint,
    ConfigError,
    Spec,
    require_epochs,
    require_integer,
    require_number,
    require_text,
)

_MAP_SIDE = 8  # of an attention map, at most: what the cache keeps for each image and pair is 64 numbers then
_LEAST = 1e-12  # of the squared length of a map or a difference, so that gradients stay finite: the authors' own


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
        require_number("temperature", self.temperature, 1e-3, 1e3)
        require_number("alpha", self.alpha, 0, 1)

    def watched(self, model: Any, context: fit.Context) -> Any:
        """The logits alone."""
        return model

    def loss(self, context: fit.Context) -> fit.Loss:
        """With the recipe's label smoothing."""
        return DistillationLoss(context.data.classes, self.temperature, self.alpha, context.recipe.label_smoothing)

    def targets(self, model: Any, context: fit.Context) -> Callable[[int], Array]:
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

    def watched(self, model: Any, context: fit.Context) -> Any:
        """The logits, then for each pair the student's map."""
        import tf_keras as keras

        places = [(pair.student, pair.size) for pair in self._pairs(model, context)]
        return keras.Model(model.input, [model.output, *attention_maps(model, places)])

    def loss(self, context: fit.Context) -> fit.Loss:
        """Of the logits and of the maps, summed."""
        logits = DistillationLoss(context.data.classes, self.temperature, self.alpha, context.recipe.label_smoothing)
        return AttentionLoss(logits, self.beta)

    def targets(self, model: Any, context: fit.Context) -> Callable[[int], Array]:
        """One-hot labels, the teacher's logits, then for each pair its map: float32 (n, 2 * classes + numbers of all maps)."""
        places = [(pair.teacher, pair.size) for pair in self._pairs(model, context)]
        taught, maps = super().targets(model, context), AttentionMaps(*_teacher(context), context, places)
        return lambda epoch: np.concatenate([taught(epoch), maps(epoch)], axis=1)

    def _pairs(self, model: Any, context: fit.Context) -> list[Pair]:
        return pairs(model, models.architecture(_teacher(context)[1]), self.layers)


def _teacher(context: fit.Context) -> tuple[str, Checkpoint]:
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

    def __post_init__(self) -> None:
        require_epochs("epochs", self.epochs, 0)

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


class _Views:
    """A network's answers to the training images, one array for each view of them, out of the cache where it has them.

    Args:
        name: plain values that name the network.
        network: makes it; asked for nothing while the cache has all.
        context: the data, its views, and the cache.
        kind: the dtype that is kept.
    """

    def __init__(self, name: Mapping[str, Any], network: Callable[[], Any], context: fit.Context, kind: type) -> None:
        self._name, self._network, self._context, self._kind = name, network, context, kind
        self._answers: fit.Answers | None = None

    def __call__(self, epoch: int) -> Array:
        """(n, k): the answers to the images of epoch `epoch`."""
        key = {**self._name, **self._context.view_key(epoch)}
        return self._context.remember(key, lambda: self._compute(epoch))["answers"]

    def _compute(self, epoch: int) -> Arrays:
        if self._answers is None:
            self._answers = fit.Answers(self._network())
        return {"answers": self._answers(self._context.images(epoch)).astype(self._kind)}


class SoftTargets(_Views):
    """A teacher's logits: float32 (n, classes) for each view of the training images.

    Args:
        key: the teacher's cache key.
        teacher: the teacher.
        context: the data, its views, and the cache.
    """

    def __init__(self, key: str, teacher: Checkpoint, context: fit.Context) -> None:
        super().__init__({"soft targets of": key}, lambda: models.restore(teacher), context, np.float32)


class AttentionMaps(_Views):
    """A teacher's attention maps, side by side: float16 (n, numbers of all maps) for each view of the training images.

    Half the bytes of float32, and an error below 0.0005 of a map's length, where maps of two networks are tenths apart.

    Args:
        key: the teacher's cache key.
        teacher: the teacher.
        context: the data, its views, and the cache.
        places: layer names, each with its map's height and width.
    """

    def __init__(self, key: str, teacher: Checkpoint, context: fit.Context, places: list[Place]) -> None:
        def network() -> Any:
            import tensorflow as tf
            import tf_keras as keras

            model = models.restore(teacher)
            return keras.Model(model.input, tf.concat(attention_maps(model, places), axis=1))

        super().__init__({"attention maps of": key, "places": places}, network, context, np.float16)


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


@dataclass(frozen=True)
class AttentionLoss:
    """`logits` + beta / 2 * the sum over the pairs of ||Q_S / ||Q_S||_2 - Q_T / ||Q_T||_2||_2.

    Zagoruyko and Komodakis 2017 (arXiv 1612.03928), eq. 2 with p = 2; Q is a map of `attention`. Their code squares the last
    norm and divides by the map's numbers, with a beta of 1000: the pull then fades as the maps come closer, and is the same as
    here where they are `beta * numbers / 4000` apart.

    Args:
        logits: the loss on the logits, and on the targets' columns for them.
        beta: at least 0.
    """

    logits: DistillationLoss
    beta: float

    def __call__(self, targets: Any, answers: Any) -> Any:
        """The mean over the batch: targets (batch, 2 * classes + numbers of all maps), answers the logits and each map."""
        import tensorflow as tf

        logits, *maps = answers
        taught, *wanted = tf.split(targets, [2 * self.logits.classes, *(one.shape[1] for one in maps)], axis=1)
        squares = [tf.reduce_sum(tf.square(one - other), axis=1) for one, other in zip(maps, wanted, strict=True)]
        # The gradient of a root is not finite at zero.
        distance = tf.add_n([tf.sqrt(tf.maximum(square, _LEAST)) for square in squares])
        return self.logits(taught, logits) + self.beta / 2 * tf.reduce_mean(distance)


def attention(features: Any, size: tuple[int, int]) -> Any:
    """Where activations are large: the sum over the channels of their squares, as a vector of length 1.

    Zagoruyko and Komodakis 2017, section 3.1: their F_sum with p = 2. It is averaged over equal parts before it is normalised.

    Args:
        features: float32 (n, height, width, channels).
        size: into how many parts height and width are divided, at most as many as they have.

    Returns:
        float32 (n, product of `size`), at least 0; all zero where the features are.
    """
    import tensorflow as tf

    rows, columns = (tf.constant(_parts(have, want)) for have, want in zip(features.shape[1:3], size, strict=True))
    energy = tf.reduce_sum(tf.square(features), axis=-1)
    pooled = tf.matmul(tf.matmul(rows, energy), columns, transpose_b=True)
    return tf.math.l2_normalize(tf.reshape(pooled, (-1, size[0] * size[1])), axis=1, epsilon=_LEAST)


def _parts(have: int, want: int) -> Array:
    """float32 (want, have): the mean over each of `want` equal parts of `have` pixels, which may share a pixel."""
    edges, pixels = np.linspace(0, have, want + 1)[:, None], np.arange(have)
    shared = np.minimum(edges[1:], pixels + 1) - np.maximum(edges[:-1], pixels)
    means: Array = np.maximum(shared, 0) * want / have
    return means.astype(np.float32)


Place = tuple[str, tuple[int, int]]
"""A layer's name, and the height and width of its attention map."""


def attention_maps(model: Any, places: list[Place]) -> list[Any]:
    """The attention map of each place, (n, height * width), as tensors of the Keras model `model`."""
    outputs = feature_maps(model)
    return [attention(outputs[name], size) for name, size in places]


def feature_maps(model: Any) -> dict[str, Any]:
    """Layer name to output tensor of the layers that have (n, height, width, channels), larger than 1x1, in the model's order.

    The image itself is left out.
    """
    import tf_keras as keras

    found = {}
    for layer in model.layers:
        # What is called twice has two outputs; that of a network inside the network is in a graph of its own.
        if isinstance(layer, (keras.layers.InputLayer, keras.Model)) or len(layer.inbound_nodes) != 1:
            continue
        shape = layer.output_shape
        if isinstance(shape, tuple) and len(shape) == 4 and None not in shape[1:] and shape[1] * shape[2] > 1:
            found[layer.name] = layer.output
    return found


class Pair(NamedTuple):
    """A layer of the student, the layer of the teacher that it is compared with, and the height and width of their maps."""

    student: str
    teacher: str
    size: tuple[int, int]


def pairs(student: Any, teacher: Any, layers: Mapping[str, str] | None) -> list[Pair]:
    """Which layers of two Keras models are compared.

    Args:
        student: the network in training.
        teacher: its teacher.
        layers: the student's layers to the teacher's, by name; None to pair, for each height and width that both networks
            have, the last layer of each that has it, and where they have none in common, the last layers with a feature map.

    Raises:
        ConfigError: for a layer that is not there or has no feature map, or a network without one.
    """
    mine, theirs = feature_maps(student), feature_maps(teacher)
    for role, found in (("student", mine), ("teacher", theirs)):
        if not found:
            expected = f"a {role} with layers of height x width x channels, larger than 1x1"
            raise ConfigError("layers", expected, f"none in {student.name if role == 'student' else teacher.name}")
    if layers is None:
        last, other = ({tuple(output.shape[1:3]): name for name, output in found.items()} for found in (mine, theirs))
        layers = {last[size]: other[size] for size in last if size in other} or {list(mine)[-1]: list(theirs)[-1]}
    for role, found, names in (("student", mine, layers.keys()), ("teacher", theirs, layers.values())):
        if wrong := [name for name in names if name not in found]:
            raise ConfigError("layers", f"layers of the {role} with a feature map: {', '.join(found)}", wrong[0])
    # In the network's order: the same mapping in another order names the same result.
    return [Pair(one, layers[one], _map_size(mine[one], theirs[layers[one]])) for one in mine if one in layers]


def _map_size(one: Any, other: Any) -> tuple[int, int]:
    height, width = (min(_MAP_SIDE, *sides) for sides in zip(one.shape[1:3], other.shape[1:3], strict=True))
    return height, width


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

    def require(self, student: Spec, input_shape: tuple[int, int, int], classes: int) -> None:
        """Refuse, with a ConfigError, a student that cannot learn so."""


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

    def require(self, student: Spec, input_shape: tuple[int, int, int], classes: int) -> None:
        """Any network will do."""


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
        require_part("teacher", self.teacher, Spec)
        if self.teacher_epochs is not None:
            require_epochs("teacher_epochs", self.teacher_epochs, 1)
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
        """The labels and the teacher's logits, when asked for."""
        return Taught(self.temperature, self.alpha) if self.finetune else None

    def require(self, student: Spec, input_shape: tuple[int, int, int], classes: int) -> None:
        """Any network will do."""


@dataclass(frozen=True)
class Features(KD):
    """Distillation of a teacher's logits and of its attention (Zagoruyko and Komodakis 2017, arXiv 1612.03928).

    The attention belongs to distilling alone: where a student is fine-tuned in later stages, wrapped for quantisation or with
    filters being cut out, `finetune` brings the teacher's logits.

    Args:
        teacher: see `KD`.
        temperature: see `Taught`.
        alpha: see `Taught`.
        epochs: see `Distill`.
        finetune: see `KD`.
        teacher_epochs: see `KD`.
        beta: see `Attended`.
        layers: see `Attended`.
    """

    beta: float
    layers: Mapping[str, str] | None = field(default=None, kw_only=True)

    def stage(self) -> Distill:
        """Distillation with these numbers."""
        return Distill(Attended(self.temperature, self.alpha, self.beta, self.layers), self.epochs)

    def require(self, student: Spec, input_shape: tuple[int, int, int], classes: int) -> None:
        """Refuse layers that the networks do not have.

        Raises:
            ConfigError: as `pairs`.
        """
        pairs(student.build(input_shape, classes), self.teacher.build(input_shape, classes), self.layers)


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
            require_part(f"assistants.{name}", model, Spec)

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
