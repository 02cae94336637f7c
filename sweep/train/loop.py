"""The only training loop.

A compiled function runs many optimiser steps per call over images that stay uint8 in memory, so that small
networks are not slowed down by Python between the steps. The caller passes the loss, the targets and the constraints.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from sweep.core import native
from sweep.core.types import Array, Curves, Split

if TYPE_CHECKING:
    from sweep.train.constraints import Constraints, Projection
    from sweep.train.context import Context
    from sweep.train.goals import Goal, Loss

_log = logging.getLogger(__name__)


_STEPS_A_CALL = 32
_EVALUATION_BATCH = 500
_SHUFFLE = 1 << 40
_VECTOR = 8  # float32 lanes of oneDNN's AVX2 kernels


class TrainingError(RuntimeError):
    """Training failed: the loss is not finite, or the process runs TensorFlow with another number of threads."""


def start(threads: int) -> None:
    """Configures TensorFlow for deterministic results, once a process.

    Args:
        threads: the threads of every operation. They change the order of floating-point sums, so every cache key has them.

    Raises:
        TrainingError: when this process already runs TensorFlow with another number of threads.
    """
    with native.caught():
        import tensorflow as tf
    # TensorFlow's Python warnings are about calls that are intended here.
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
    constraints: Constraints | None = None,
) -> Curves:
    """Trains `model` in place. Losses that layers add and Keras constraints on weights apply too.

    Args:
        model: a Keras model from float32 images in [0, 1] to logits.
        context: the data, the recipe, the seed and the progress display.
        epochs: passes over the training images; with 0 nothing happens.
        learning_rate: the peak learning rate.
        goal: the loss and its targets.
        constraints: projections of the kernels, applied after every step; they may tighten during training.

    Returns:
        `loss` and `accuracy` (running means over the epoch's batches) and `val_accuracy`, one value an epoch.

    Raises:
        TrainingError: when the loss is no longer finite.
    """
    import tensorflow as tf

    curves: dict[str, list[float]] = {"loss": [], "accuracy": [], "val_accuracy": []}
    if epochs == 0:  # before the targets are computed: the teacher may not be trained yet
        return dict.fromkeys(curves, ())
    data, recipe = context.data, context.recipe
    count, size = len(data.train), min(recipe.batch_size, len(data.train))
    steps = -(-count // size)
    rates = np.float32(learning_rate) * recipe.schedule.factors(epochs * steps)
    optimizer = recipe.optimizer.build()
    optimizer.build(model.trainable_variables)
    predictor = Predictor(model)
    targets = goal.targets(model, context)
    run = _compiled_steps(
        goal.training_model(model, context),
        model.trainable_variables,
        optimizer,
        goal.loss(context),
        projections=constraints.projections() if constraints else [],
        classes=data.classes,
    )
    calls = max(1, min(_STEPS_A_CALL, epochs * steps // 50))
    view: tuple[Array, Any] | None = None
    for epoch in range(epochs):
        images = context.images(epoch)
        if view is None or view[0] is not images:
            view = images, tf.constant(images)
        epoch_targets = tf.constant(targets(epoch))
        total, correct, processed = 0.0, 0, 0
        order = shuffled(context.seed, epoch, count)
        for first, batches in _calls(order, size, calls):
            at = epoch * steps + first
            if constraints:
                constraints.update(at / (epochs * steps))
            summed, right = run(view[1], epoch_targets, tf.constant(batches), tf.constant(rates[at : at + len(batches)]))
            total, correct, processed = total + float(summed), correct + int(right), processed + batches.size
            if not np.isfinite(total):
                raise TrainingError(f"the loss is no longer finite in epoch {epoch + 1}, at learning rate {learning_rate:g}")
            context.progress.advance((at + len(batches)) / steps, epochs, f"loss {total / processed:.3f}")
        if constraints and epoch == epochs - 1:
            constraints.update(1.0)
        curves["loss"].append(total / count)
        curves["accuracy"].append(correct / count)
        curves["val_accuracy"].append(predictor.accuracy(data.validation))
        note = f"validation {curves['val_accuracy'][-1]:.2%}"
        context.progress.advance(epoch + 1, epochs, note)
        _log.info("epoch %d of %d: loss %.4f, %s", epoch + 1, epochs, curves["loss"][-1], note)
    return {name: tuple(values) for name, values in curves.items()}


def shuffled(seed: int, epoch: int, count: int) -> Array:
    """The order of the images in an epoch: a permutation, int32 (count,), from a random stream that nothing else uses."""
    stream = np.random.Philox(key=[seed, epoch | _SHUFFLE])
    return np.random.Generator(stream).permutation(count).astype(np.int32)


class Predictor:
    """A Keras model in inference mode, compiled once; it follows the weights as they change.

    Args:
        model: from float32 images in [0, 1] to logits or other outputs (n, k).
    """

    def __init__(self, model: Any) -> None:
        import tensorflow as tf

        @tf.function(input_signature=[tf.TensorSpec(model.input_shape, tf.uint8)])  # type: ignore[untyped-decorator]
        def predict(batch: Any) -> Any:
            return model(tf.cast(batch, tf.float32) / 255.0, training=False)

        self._predict = predict

    def __call__(self, images: Array) -> Array:
        """Runs the model on uint8 images (n, height, width, channels); returns its float32 outputs (n, k)."""
        starts = range(0, len(images), _EVALUATION_BATCH)
        return np.concatenate([self._predict(images[at : at + _EVALUATION_BATCH]).numpy() for at in starts])

    def accuracy(self, split: Split) -> float:
        """Top-1 accuracy on `split`, in [0, 1]."""
        return float(np.mean(np.argmax(self(split.images), axis=1) == split.labels))


def _calls(order: Array, size: int, steps: int) -> Iterator[tuple[int, Array]]:
    """Splits an epoch's order into (first step, batches (k, size)) with k <= steps; a smaller last batch comes alone."""
    full = len(order) // size
    for first in range(0, full, steps):
        last = min(full, first + steps)
        yield first, order[first * size : last * size].reshape(-1, size)
    if len(order) % size:
        yield full, order[None, full * size :]


def _compiled_steps(
    training_model: Any,
    variables: list[Any],
    optimizer: Any,
    loss: Loss,
    *,
    projections: list[tuple[Any, Projection]],
    classes: int,
) -> Any:
    """Compiles (images, targets, batches (k, size), rates (k,)) to (summed loss, number of correct predictions)."""
    import tensorflow as tf

    # The sizes are dynamic: each static shape would be traced separately, which takes seconds for a deep network.
    signature = [
        tf.TensorSpec((None, *training_model.input_shape[1:]), tf.uint8),
        tf.TensorSpec((None, None), tf.float32),
        tf.TensorSpec((None, None), tf.int32),
        tf.TensorSpec((None,), tf.float32),
    ]

    @tf.function(input_signature=signature)  # type: ignore[untyped-decorator]
    def run(images: Any, targets: Any, batches: Any, rates: Any) -> Any:
        total, right = tf.constant(0.0), tf.constant(0, tf.int64)
        for step in tf.range(tf.shape(batches)[0]):
            chosen = batches[step]
            batch_targets = tf.gather(targets, chosen)
            with tf.GradientTape() as tape, _unit_strides(training_model):
                outputs = training_model(tf.cast(tf.gather(images, chosen), tf.float32) / 255.0, training=True)
                value = loss(batch_targets, outputs)
                if added := training_model.losses:  # the layers' own: weight and activity regularisers
                    value += tf.add_n(added)
            optimizer.learning_rate.assign(rates[step])
            optimizer.apply_gradients(zip(tape.gradient(value, variables), variables, strict=True))
            for kernel, project in projections:
                kernel.assign(project(kernel))
            total += value * tf.cast(tf.size(chosen), tf.float32)
            logits = tf.nest.flatten(outputs)[0]
            right += tf.math.count_nonzero(tf.argmax(logits, 1) == tf.argmax(batch_targets[:, :classes], 1))
        return total, right

    return run


@contextmanager
def _unit_strides(model: Any) -> Iterator[None]:
    """While a step is traced, subsamples the input of strided 1x1 convolutions and convolves with stride 1: an equivalent.

    It works around a crash of TensorFlow 2.21 with oneDNN on AVX2: with one thread and a number of input channels that is no
    multiple of the vector size, the gradient of such a kernel writes past a buffer (malloc_consolidate(): invalid chunk size).
    """
    import tensorflow as tf
    import tf_keras as keras

    def subsampled(strides: tuple[int, int]) -> Callable[[Any, Any], Any]:
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
        layer.convolution_op = subsampled(layer.strides)
    try:
        yield
    finally:
        for layer in strided:
            del layer.convolution_op
