"""The only training loop: what a stage minimises, for how long, and under which constraints.

One compiled function runs many optimiser steps at a time over images that stay uint8 in memory, so that small networks are not
slowed by Python between the steps. What is minimised, and towards which targets, is the caller's.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from sweep import native
from sweep.parts import require_part
from sweep.records import (
    Array,
    Checkpoint,
    ConfigError,
    Curves,
    Data,
    Progress,
    Remember,
    Spec,
    Split,
    require_epochs,
    require_integer,
    require_learning_rate,
    require_number,
)

_log = logging.getLogger(__name__)

_STEPS_A_CALL = 32
_EVALUATION_BATCH = 500
_SHUFFLE = 1 << 40
_VECTOR = 8  # numbers that oneDNN's AVX2 kernels take at once


class TrainingError(RuntimeError):
    """Training went wrong in a way that no later stage can mend."""


class Optimizer(Protocol):
    """A way to follow the gradient."""

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
    """How the learning rate moves."""

    def factors(self, steps: int) -> Array:
        """float32 (steps,) in [0, 1]: what the peak rate is multiplied with at each step."""


@dataclass(frozen=True)
class Constant:
    """The peak rate throughout."""

    def factors(self, steps: int) -> Array:
        """Ones."""
        return np.ones(steps, np.float32)


@dataclass(frozen=True)
class WarmupCosine:
    """A linear rise, then half a cosine down to zero (Loshchilov and Hutter 2017, eq. 5, without restarts).

    Args:
        warmup: the fraction of the steps that the rise takes, in [0, 1).
    """

    warmup: float

    def __post_init__(self) -> None:
        require_number("warmup", self.warmup, 0, 1, open_high=True)

    def factors(self, steps: int) -> Array:
        """Up from 1 / rise to 1, then down to just above 0."""
        rise = round(self.warmup * steps)
        down = np.arange(steps - rise) / max(1, steps - rise)
        return np.concatenate([np.arange(1, rise + 1) / max(1, rise), (1 + np.cos(np.pi * down)) / 2]).astype(np.float32)


@dataclass(frozen=True)
class Recipe:
    """How networks are trained.

    Args:
        epochs: passes over the training images for a network from scratch, at least 1.
        batch_size: images a step, at least 1.
        learning_rate: the peak rate, above 0.
        optimizer: how the gradient is followed.
        schedule: how the rate moves over a training.
        label_smoothing: the probability mass spread over all classes (Szegedy et al. 2016, section 7), in [0, 1).
        augment: whether each epoch sees the data set's own augmentation of the images.
    """

    epochs: int
    batch_size: int
    learning_rate: float
    optimizer: Optimizer
    schedule: Schedule
    label_smoothing: float = 0.0
    augment: bool = False

    def __post_init__(self) -> None:
        require_part("optimizer", self.optimizer, Optimizer)
        require_part("schedule", self.schedule, Schedule)
        require_epochs("epochs", self.epochs, 1)
        require_integer("batch_size", self.batch_size, 1, 2**20)
        require_learning_rate("learning_rate", self.learning_rate)
        require_number("label_smoothing", self.label_smoothing, 0, 1, open_high=True)
        if not isinstance(self.augment, bool):
            raise ConfigError("augment", "true or false", self.augment)


@dataclass(frozen=True, eq=False)
class Context:
    """What a stage may use besides the network that it receives.

    Attributes:
        data: the three splits; a stage learns from `data.train` and watches `data.validation`, never `data.test`.
        recipe: how to train.
        augment: the augmentation, (images, seed, epoch) to images of the same shape.
        view: plain values that name what `augment` does, for cache keys; None when the images are taken as they are.
        seed: of everything random in the stage.
        model: the network to build where the stage starts from nothing.
        teacher: the network to learn from, and its cache key; None where there is none.
        goal: what the fine-tuning of a trained network works towards.
        remember: the cache, for results that several stages share.
        weigh: how many bytes a network's file will have, when it is quantised as planned.
        progress: where to say how far the work is.
    """

    data: Data
    recipe: Recipe
    augment: Callable[[Array, int, int], Array]
    view: Mapping[str, Any] | None
    seed: int
    model: Spec
    teacher: tuple[str, Checkpoint] | None
    goal: Goal
    remember: Remember
    weigh: Callable[[Checkpoint], int]
    progress: Progress

    def images(self, epoch: int) -> Array:
        """The training images as epoch `epoch` (from 0) sees them: uint8 (n, height, width, channels)."""
        images = self.data.train.images
        return images if self.view is None else self.augment(images, self.seed, epoch)

    def view_key(self, epoch: int) -> dict[str, Any]:
        """Plain values that name `images(epoch)`, equal for equal images."""
        return {"augment": None} if self.view is None else {"augment": self.view, "seed": self.seed, "epoch": epoch}

    def one_hot(self) -> Array:
        """The training labels, float32 (n, classes)."""
        return np.eye(self.data.classes, dtype=np.float32)[self.data.train.labels]


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a stage hands on: the network, and the learning curves of getting there."""

    network: Checkpoint
    curves: Curves = field(default_factory=dict)


Projection = Callable[[Any], Any]
"""A kernel's tensor to the nearest of its shape that keeps a constraint, in TensorFlow."""


class Constraints(Protocol):
    """Keeps pruned weights at zero, and shared weights equal, while a network trains."""

    def update(self, done: float) -> None:
        """Move to what holds when the fraction `done` of the training, in [0, 1], is through."""

    def projections(self) -> list[tuple[Any, Projection]]:
        """(kernel variable, what brings its value back after a step)."""


class Held:
    """Constraints that stay as they are.

    Args:
        kernels: layer name to kernel variable of the network in training.
        network: the network, for the masks and the clusters that it brings.
    """

    def __init__(self, kernels: Mapping[str, Any], network: Checkpoint) -> None:
        self._projections = [(kernels[name], _masked(mask)) for name, mask in network.masks.items()]
        self._projections += [(kernels[name], _shared(numbers)) for name, numbers in network.clusters.items()]

    def update(self, done: float) -> None:
        """Nothing moves."""

    def projections(self) -> list[tuple[Any, Projection]]:
        """Masks first, then clusters."""
        return self._projections


def _masked(mask: Array) -> Projection:
    import tensorflow as tf

    kept = tf.constant(mask, tf.float32)
    return lambda kernel: kernel * kept


def _shared(numbers: Array) -> Projection:
    """Each weight becomes the mean of its cluster."""
    import tensorflow as tf

    flat, count = tf.constant(numbers.ravel(), tf.int32), int(numbers.max()) + 1

    def share(kernel: Any) -> Any:
        means = tf.math.unsorted_segment_mean(tf.reshape(kernel, [-1]), flat, count)
        return tf.reshape(tf.gather(means, flat), numbers.shape)

    return share


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


def start(threads: int) -> None:
    """Set TensorFlow up for repeatable results, once a process.

    Args:
        threads: for every operation; another count gives other sums, so it is part of what names a result.

    Raises:
        TrainingError: when this process already runs TensorFlow with another count.
    """
    with native.caught():
        import tensorflow as tf
    # Its Python warnings are about the style of calls that are made on purpose here.
    for name in ("tensorflow", "absl"):
        logging.getLogger(name).setLevel(logging.ERROR)
    if tf.config.threading.get_intra_op_parallelism_threads() == threads:
        return
    try:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)
    except RuntimeError as error:
        raise TrainingError(f"threads={threads} needs a process of its own: TensorFlow already runs here") from error
    tf.config.experimental.enable_op_determinism()


def fit(
    model: Any,
    context: Context,
    *,
    epochs: int,
    learning_rate: float,
    goal: Goal,
    held: Constraints | None = None,
) -> Curves:
    """Train `model` in place: what its layers add to the loss counts, and what they ask of their weights holds at every step.

    Args:
        model: a Keras model from float32 images in [0, 1] to logits.
        context: the data, the recipe, the seed and the progress display.
        epochs: passes over the training images; with 0 nothing happens.
        learning_rate: the peak rate.
        goal: what is minimised, and towards which targets.
        held: constraints on the weights, which may tighten as training goes on.

    Returns:
        `loss`, `accuracy` (both over the epoch, while training) and `val_accuracy`, one value an epoch.

    Raises:
        TrainingError: when the loss is no longer finite.
    """
    import tensorflow as tf

    data, recipe = context.data, context.recipe
    count, size = len(data.train), min(recipe.batch_size, len(data.train))
    steps = -(-count // size)
    rates = np.float32(learning_rate) * recipe.schedule.factors(epochs * steps)
    optimizer = recipe.optimizer.build()
    optimizer.build(model.trainable_variables)
    answers = Answers(model)
    targets = goal.targets(model, context)
    run = _compiled_steps(
        goal.watched(model, context),
        model.trainable_variables,
        optimizer,
        goal.loss(context),
        projections=held.projections() if held else [],
        classes=data.classes,
    )
    curves: dict[str, list[float]] = {"loss": [], "accuracy": [], "val_accuracy": []}
    calls = max(1, min(_STEPS_A_CALL, epochs * steps // 50))
    view: tuple[Array, Any] | None = None
    for epoch in range(epochs):
        images = context.images(epoch)
        if view is None or view[0] is not images:
            view = images, tf.constant(images)
        wanted = tf.constant(targets(epoch))
        total, correct, seen = 0.0, 0, 0
        order = shuffled(context.seed, epoch, count)
        for first, batches in _calls(order, size, calls):
            at = epoch * steps + first
            if held:
                held.update(at / (epochs * steps))
            summed, right = run(view[1], wanted, tf.constant(batches), tf.constant(rates[at : at + len(batches)]))
            total, correct, seen = total + float(summed), correct + int(right), seen + batches.size
            if not np.isfinite(total):
                raise TrainingError(f"the loss is no longer finite in epoch {epoch + 1}, at learning rate {learning_rate:g}")
            context.progress.advance((at + len(batches)) / steps, epochs, f"loss {total / seen:.3f}")
        if held and epoch == epochs - 1:
            held.update(1.0)
        curves["loss"].append(total / count)
        curves["accuracy"].append(correct / count)
        curves["val_accuracy"].append(answers.accuracy(data.validation))
        note = f"validation {curves['val_accuracy'][-1]:.2%}"
        context.progress.advance(epoch + 1, epochs, note)
        _log.info("epoch %d of %d: loss %.4f, %s", epoch + 1, epochs, curves["loss"][-1], note)
    return {name: tuple(values) for name, values in curves.items()}


def shuffled(seed: int, epoch: int, count: int) -> Array:
    """The order in which an epoch sees the images: a permutation, int32 (count,). No other draw shares its stream."""
    stream = np.random.Philox(key=[seed, epoch | _SHUFFLE])
    return np.random.Generator(stream).permutation(count).astype(np.int32)


def required(network: Checkpoint | None) -> Checkpoint:
    """The network that a stage goes on from.

    Raises:
        ValueError: when there is none, because nothing was trained before.
    """
    if network is None:
        raise ValueError("this stage takes a trained network")
    return network


class Answers:
    """The Keras model's logits on images, not training; compiled once, and following the weights as they change.

    Args:
        model: from float32 images in [0, 1] to logits, or to other numbers (n, k).
    """

    def __init__(self, model: Any) -> None:
        import tensorflow as tf

        @tf.function(input_signature=[tf.TensorSpec(model.input_shape, tf.uint8)])  # type: ignore[untyped-decorator]
        def answer(batch: Any) -> Any:
            return model(tf.cast(batch, tf.float32) / 255.0, training=False)

        self._answer = answer

    def __call__(self, images: Array) -> Array:
        """uint8 images (n, height, width, channels) to float32 logits (n, classes), or whatever the model gives."""
        starts = range(0, len(images), _EVALUATION_BATCH)
        return np.concatenate([self._answer(images[at : at + _EVALUATION_BATCH]).numpy() for at in starts])

    def accuracy(self, split: Split) -> float:
        """Top-1 accuracy on `split`, in [0, 1]."""
        return float(np.mean(np.argmax(self(split.images), axis=1) == split.labels))


def _calls(order: Array, size: int, steps: int) -> Iterator[tuple[int, Array]]:
    """Cut an epoch's order into (first step, batches (k, size)) of at most `steps` steps; a last, smaller batch comes alone."""
    full = len(order) // size
    for first in range(0, full, steps):
        last = min(full, first + steps)
        yield first, order[first * size : last * size].reshape(-1, size)
    if len(order) % size:
        yield full, order[None, full * size :]


def _compiled_steps(
    watched: Any, variables: list[Any], optimizer: Any, loss: Loss, *, projections: list[tuple[Any, Projection]], classes: int
) -> Any:
    """(images, targets, batches (k, size), rates (k,)) to the summed loss and the number of right answers, in one call."""
    import tensorflow as tf

    # Of any size, since each shape would be traced on its own, which takes seconds for a deep network.
    signature = [
        tf.TensorSpec((None, *watched.input_shape[1:]), tf.uint8),
        tf.TensorSpec((None, None), tf.float32),
        tf.TensorSpec((None, None), tf.int32),
        tf.TensorSpec((None,), tf.float32),
    ]

    @tf.function(input_signature=signature)  # type: ignore[untyped-decorator]
    def run(images: Any, targets: Any, batches: Any, rates: Any) -> Any:
        total, right = tf.constant(0.0), tf.constant(0, tf.int64)
        for step in tf.range(tf.shape(batches)[0]):
            chosen = batches[step]
            wanted = tf.gather(targets, chosen)
            with tf.GradientTape() as tape, _unit_strides(watched):
                answers = watched(tf.cast(tf.gather(images, chosen), tf.float32) / 255.0, training=True)
                value = loss(wanted, answers)
                if added := watched.losses:  # by the layers themselves: regularisation of weights and of activations
                    value += tf.add_n(added)
            optimizer.learning_rate.assign(rates[step])
            optimizer.apply_gradients(zip(tape.gradient(value, variables), variables, strict=True))
            for kernel, project in projections:
                kernel.assign(project(kernel))
            total += value * tf.cast(tf.size(chosen), tf.float32)
            logits = tf.nest.flatten(answers)[0]
            right += tf.math.count_nonzero(tf.argmax(logits, 1) == tf.argmax(wanted[:, :classes], 1))
        return total, right

    return run


@contextmanager
def _unit_strides(model: Any) -> Iterator[None]:
    """While a step is traced: 1x1 convolutions with a stride drop the pixels that they skip first, and compute the same.

    With one thread and input channels that do not fill a vector, the gradient of such a kernel, in TensorFlow 2.21 with oneDNN
    on AVX2, writes past a buffer and takes the process down (malloc_consolidate(): invalid chunk size).
    """
    import tensorflow as tf
    import tf_keras as keras

    def dense(strides: tuple[int, int]) -> Callable[[Any, Any], Any]:
        down, right = strides
        return lambda inputs, kernel: tf.nn.conv2d(inputs[:, ::down, ::right], kernel, 1, "VALID")

    strided = [
        layer
        for layer in model.submodules
        if type(layer) is keras.layers.Conv2D
        and (layer.kernel_size, layer.data_format, layer.groups) == ((1, 1), "channels_last", 1)
        and layer.strides != (1, 1)
        and layer.kernel.shape[-2] % _VECTOR
    ]
    for layer in strided:
        layer.convolution_op = dense(layer.strides)
    try:
        yield
    finally:
        for layer in strided:
            del layer.convolution_op
