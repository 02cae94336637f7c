"""The training loop against Keras's own, its schedules in closed form, and its repeatability."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import RECIPE, THREADS

from sweep.core.errors import ConfigError
from sweep.core.types import Split
from sweep.data import augment
from sweep.models import checkpoints, families
from sweep.train import constraints, goals, loop, recipes

pytestmark = pytest.mark.usefixtures("tensorflow")


class Lost(goals.Labels):
    """A goal whose loss is NaN."""

    def loss(self, context):
        return lambda targets, logits: goals.CrossEntropy()(targets, logits) * float("nan")


def trained(context, *, epochs=2, masks=None, goal=None, rate=0.003):
    checkpoints.fresh(context.seed)
    model = context.model.build(context.data.input_shape, context.data.classes)
    fixed = constraints.FixedConstraints(checkpoints.kernels(model), checkpoints.snapshot(model, masks)) if masks else None
    curves = loop.fit(model, context, epochs=epochs, learning_rate=rate, goal=goal or goals.Labels(), constraints=fixed)
    return model, curves


@pytest.mark.parametrize(
    "optimizer",
    [recipes.Adam(), recipes.Adam(weight_decay=0.01), recipes.SGD(momentum=0.9, weight_decay=0.001)],
    ids=["adam", "adamw", "sgd"],
)
def test_the_loop_gives_the_weights_that_keras_gives(context, optimizer):
    made = context(recipe=replace(RECIPE, optimizer=optimizer, batch_size=50))  # 256 images: the last batch has 6
    ours, _ = trained(made)

    checkpoints.fresh(made.seed)
    theirs = made.model.build(made.data.input_shape, made.data.classes)
    rule = optimizer.build()
    rule.learning_rate = 0.003
    import tf_keras as keras

    theirs.compile(rule, keras.losses.CategoricalCrossentropy(from_logits=True))
    for epoch in range(2):
        order = loop.shuffled(made.seed, epoch, 256)
        for first in range(0, 256, 50):
            chosen = order[first : first + 50]
            theirs.train_on_batch(made.data.train.images[chosen] / np.float32(255), made.one_hot()[chosen])
    for mine, other in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-3, atol=2e-4)


@dataclass(frozen=True, kw_only=True)
class Carrying(families.CNN):
    """A network whose layers add to the loss, constrain their weights or are frozen."""

    words: Any

    def build(self, input_shape, classes):
        import tf_keras as keras

        image = keras.Input(input_shape, name="image")
        x = keras.layers.Flatten(name="flat")(image)
        x = keras.layers.Dense(12, "relu", name="hidden", **self.words)(x)
        return keras.Model(image, keras.layers.Dense(classes, name="logits")(x))


@pytest.mark.parametrize(
    "words",
    [
        {"kernel_regularizer": "l2"},
        {"activity_regularizer": "l2", "bias_regularizer": "l1"},
        {"kernel_constraint": "non_neg"},
        {"kernel_constraint": "max_norm", "kernel_regularizer": "l1"},
        {"trainable": False},
    ],
    ids="-".join,
)
def test_what_layers_carry_counts_as_in_keras(context, words):
    made = context(model=Carrying(filters=(), units=(), words=words), recipe=replace(RECIPE, batch_size=64))
    ours, curves = trained(made)

    checkpoints.fresh(made.seed)
    theirs = made.model.build(made.data.input_shape, made.data.classes)
    before = theirs.get_layer("hidden").get_weights()
    rule = made.recipe.optimizer.build()
    rule.learning_rate = 0.003
    import tf_keras as keras

    theirs.compile(rule, keras.losses.CategoricalCrossentropy(from_logits=True))
    for epoch in range(2):
        order = loop.shuffled(made.seed, epoch, 256)
        losses = []
        for first in range(0, 256, 64):
            chosen = order[first : first + 64]
            images = made.data.train.images[chosen] / np.float32(255)
            losses.append(theirs.train_on_batch(images, made.one_hot()[chosen]))
        assert curves["loss"][epoch] == pytest.approx(np.mean(losses), rel=1e-3)
    for mine, other in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-3, atol=2e-4)
    after = ours.get_layer("hidden").get_weights()
    assert np.array_equal(before[0], after[0]) == (words == {"trainable": False})
    assert (after[0].min() >= 0) == (words.get("kernel_constraint") == "non_neg")


def test_the_same_seed_gives_the_same_bits_and_another_seed_does_not(context):
    first, again, other = (trained(context(seed=seed))[0].get_weights() for seed in (1, 1, 2))
    assert all(np.array_equal(one, two) for one, two in zip(first, again, strict=True))
    assert not all(np.array_equal(one, two) for one, two in zip(first, other, strict=True))


def test_the_curves_are_one_value_an_epoch_and_true(context):
    made = context()
    model, curves = trained(made, epochs=3)
    assert {name: len(values) for name, values in curves.items()} == {"loss": 3, "accuracy": 3, "val_accuracy": 3}
    answers = model(made.data.validation.images / np.float32(255), training=False).numpy()
    assert curves["val_accuracy"][-1] == np.mean(answers.argmax(1) == made.data.validation.labels)
    assert curves["loss"][-1] < curves["loss"][0]
    assert made.progress.advanced == sorted(made.progress.advanced)
    assert made.progress.advanced[-1] == 1.0


def test_held_masks_keep_zeros_at_zero_and_let_the_rest_learn(context):
    mask = np.random.default_rng(0).random((3, 3, 8, 16)) < 0.3
    model, _ = trained(context(), masks={"conv2": mask})
    kernel = checkpoints.kernels(model)["conv2"].numpy()
    assert not kernel[~mask].any()
    assert kernel[mask].all()


def test_a_loss_that_is_not_finite_stops_the_training(context):
    with pytest.raises(loop.TrainingError, match="no longer finite in epoch 1"):
        trained(context(), goal=Lost())


def test_an_augmented_epoch_sees_the_augmented_images(context):
    shift = augment.Augment(shift=2, flip=True)
    made = context(augment=shift, view={"shift": 2})
    np.testing.assert_array_equal(made.images(4), shift(made.data.train.images, made.seed, 4))
    assert made.view_key(4) != made.view_key(5)
    plain = context()
    assert plain.images(4) is plain.data.train.images
    assert plain.view_key(4) == plain.view_key(5)
    assert not np.array_equal(trained(made)[0].get_weights()[0], trained(plain)[0].get_weights()[0])


def test_cross_entropy_in_closed_form():
    rng = np.random.default_rng(1)
    logits, labels = rng.normal(size=(5, 4)).astype(np.float32), np.eye(4, dtype=np.float32)[[0, 3, 1, 1, 2]]
    log_softmax = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    for smoothing in (0.0, 0.2):
        wanted = labels * (1 - smoothing) + smoothing / 4
        assert float(goals.CrossEntropy(smoothing)(labels, logits)) == pytest.approx(
            -(wanted * log_softmax).sum(1).mean(), rel=1e-5
        )


def imbalanced(made):
    """The context with 12 images of class 0, 3 of class 1 and none of the others."""
    labels = made.data.train.labels
    chosen = np.concatenate([np.flatnonzero(labels == 0)[:12], np.flatnonzero(labels == 1)[:3]])
    train = Split(made.data.train.images[chosen], labels[chosen])
    return replace(made, data=replace(made.data, train=train), recipe=replace(made.recipe, class_weight="balanced"))


def test_balanced_class_weights_give_each_class_the_same_total(context):
    assert context().class_weights() is None
    made = imbalanced(context())
    weights = made.class_weights()
    assert weights == (15 / (2 * 12), 15 / (2 * 3), *[0.0] * 8)
    assert sum(weights[label] for label in made.data.train.labels) == pytest.approx(15)


def test_the_loss_of_each_image_is_weighted_by_its_class():
    labels, logits = np.eye(3, dtype=np.float32)[[0, 1, 1]], np.float32([[1, 0, 2], [0, 0, 0], [3, -1, 1]])
    each = -(labels * (logits - np.log(np.exp(logits).sum(axis=1, keepdims=True)))).sum(axis=1)
    weighted = goals.CrossEntropy(0.0, (0.5, 2.0, 7.0))(labels, logits)
    assert float(weighted) == pytest.approx((0.5 * each[0] + 2 * each[1] + 2 * each[2]) / 3, rel=1e-6)
    assert float(goals.CrossEntropy(0.0, (1.0, 1.0, 1.0))(labels, logits)) == pytest.approx(each.mean(), rel=1e-6)


def test_balanced_weights_reach_the_training(context):
    made = imbalanced(context())
    plain = replace(made, recipe=replace(made.recipe, class_weight=None))
    biases = []
    for case in (made, plain):
        checkpoints.fresh(case.seed)
        model = case.model.build((8, 8, 1), 10)
        loop.fit(model, case, epochs=3, learning_rate=0.01, goal=goals.Labels())
        biases.append(model.weights[-1].numpy())
    assert biases[0][1] - biases[0][0] > biases[1][1] - biases[1][0]


def test_schedules_in_closed_form():
    assert recipes.Constant().factors(3).tolist() == [1, 1, 1]
    factors = recipes.WarmupCosine(warmup=0.25).factors(8)
    np.testing.assert_allclose(factors[:2], [0.5, 1.0])
    np.testing.assert_allclose(factors[2:], [(1 + np.cos(np.pi * step / 6)) / 2 for step in range(6)], rtol=1e-6)
    assert recipes.WarmupCosine(warmup=0).factors(1).tolist() == [1]
    assert len(recipes.WarmupCosine(warmup=0.99).factors(7)) == 7


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("epochs", -1), ("epochs", 0), ("epochs", 1.5), ("batch_size", 0), ("learning_rate", 0), ("learning_rate", np.inf),
        ("label_smoothing", 1), ("label_smoothing", -0.1), ("augment", "yes"),
        ("class_weight", "all"), ("class_weight", True),
    ],
)  # fmt: skip
def test_bad_recipes_are_refused(field, value):
    with pytest.raises(ConfigError) as refused:
        replace(RECIPE, **{field: value})
    assert refused.value.where == field


@pytest.mark.parametrize(
    ("make", "fields"),
    [
        (recipes.Adam, {"weight_decay": -1}),
        (recipes.SGD, {"momentum": 1}),
        (recipes.SGD, {"weight_decay": None}),
        (recipes.WarmupCosine, {"warmup": 1}),
    ],
)
def test_bad_optimizers_and_schedules_are_refused(make, fields):
    with pytest.raises(ConfigError):
        make(**fields)


def test_another_thread_count_in_one_process_is_refused():
    import tensorflow as tf

    tf.constant(1.0) + 1.0  # from the first operation on the count is settled
    loop.start(THREADS)  # the same again is nothing
    with pytest.raises(loop.TrainingError, match="threads=3 needs a process of its own"):
        loop.start(3)


def test_strided_1x1_convolutions_on_few_channels_train_on_one_thread():
    """They took the process down, so in one of its own: widths that no vector divides, as pruning leaves them."""
    program = """
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from conftest import RECIPE, Silent
from sweep.compress.distill import stages
from sweep.data.augment import Augment
from sweep.data.datasets import Digits
from sweep.models import checkpoints, families
from sweep.train import loop
from sweep.train.context import Context
from sweep.train.goals import Labels
loop.start(1)
digits = Digits(validation=0.2, limit=200, augment=Augment(shift=0, flip=False)).load()
made = Context(
    data=digits, recipe=replace(RECIPE, epochs=3), augment=Augment(shift=0, flip=False), view=None, seed=0,
    model=families.ResNet(blocks=1, width=0.3), teacher=None, goal=Labels(), results=None, files=None, progress=Silent(),
)
checkpoints.fresh(0)
print(stages.Train().apply(None, made).curves["loss"])
"""
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[1], check=False)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.strip("()\n").split(", ")) == 3


@pytest.mark.parametrize(("padding", "side"), [("same", 8), ("valid", 8), ("same", 7), ("valid", 7)])
def test_dropping_the_pixels_that_a_stride_skips_changes_nothing(tensorflow, padding, side):
    import tf_keras as keras

    image = keras.Input((side, side, 5), name="image")
    model = keras.Model(image, keras.layers.Conv2D(6, 1, (2, 3), padding, name="strided")(image))
    images = np.random.default_rng(0).random((4, side, side, 5), np.float32)
    before = model(images).numpy()
    with loop._unit_strides(model):
        assert "convolution_op" in vars(model.layers[1])
        np.testing.assert_allclose(model(images).numpy(), before, rtol=1e-6, atol=1e-6)
    assert "convolution_op" not in vars(model.layers[1])
