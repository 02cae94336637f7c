"""Layers by whatever name: a full-integer file of them is as good as of plain ones, and every message has the user's names."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
from conftest import RECIPE, THREADS, Silent

from sweep.compress.cluster import kmeans
from sweep.compress.distill import teachers
from sweep.compress.prune import magnitude, schedules
from sweep.compress.quantize import ptq, qat
from sweep.core.types import Checkpoint
from sweep.data import augment, datasets
from sweep.devices.litert import LiteRT
from sweep.models import checkpoints, families, layer_names
from sweep.pipeline import executor
from sweep.pipeline.cache import Cache
from sweep.pipeline.plan import Pipeline, Plan

# Suffixes and prefixes of each other, what the toolkit itself puts in front, operations, and what a plain one becomes.
ODD = ("block1/conv", "conv", "block1/conv_1", "quant_a", "a", "quant_quant_a", "Conv2D", "layer_quant_a", "x" * 300, "b.c-d>e")


def test_names_in_a_file_are_plain_and_differ():
    found = layer_names.plain([*ODD, "block1_conv", "layer_block1_conv", "block1\\conv", "block1/conv/"])
    assert len(set(found.values())) == len(found)
    assert not any("/" in name or name.startswith("quant_") for name in found.values())
    assert {name for name, other in found.items() if name == other} == {
        "conv", "a", "Conv2D", "layer_quant_a", "x" * 300, "b.c-d>e", "block1_conv", "layer_block1_conv",
    }  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Named:
    """Convolutions of these names, in a network of that one, and a last layer that has a slash too."""

    convolutions: tuple[str, ...]
    title: str = "quant_net/a"

    def check(self, input_shape):
        """Anything."""

    def kinds(self):
        return frozenset({"conv", "dense"})

    def build(self, input_shape, classes):
        import tf_keras as keras

        x = image = keras.Input(input_shape, name="image")
        for name in self.convolutions:
            x = keras.layers.Conv2D(4, 3, padding="same", use_bias=False, name=name)(x)
            x = keras.layers.BatchNormalization(momentum=0.9, name=f"{name}/bn")(x)
            x = keras.layers.ReLU(name=f"{name}/relu")(x)
        x = keras.layers.Dense(classes, name="head/logits")(keras.layers.GlobalAveragePooling2D(name="pool")(x))
        return keras.Model(image, x, name=self.title)


@pytest.fixture
def network(tensorflow: None) -> Checkpoint:
    checkpoints.fresh(0)
    network = checkpoints.snapshot(Named(convolutions=ODD).build((8, 8, 1), 10))
    return replace(network, bits=dict.fromkeys(checkpoints.kernel_names(network), 8), masks={"a": np.ones((3, 3, 4, 4), bool)})


def test_the_network_in_a_file_answers_as_before(network):
    other = layer_names.in_a_file(network)
    assert list(other.bits) == checkpoints.kernel_names(other)
    assert set(other.masks) == {"a"}
    images = np.random.default_rng(0).random((4, 8, 8, 1), np.float32)
    np.testing.assert_array_equal(checkpoints.restore(other)(images), checkpoints.restore(network)(images))


def test_plain_names_stay_to_the_byte(tensorflow):
    network = checkpoints.snapshot(families.LeNet5(width=0.2).build((8, 8, 1), 10))
    assert layer_names.in_a_file(network) is network


def test_a_message_has_the_names_of_the_user(network):
    text = "the kernel 'm/quant_layer_block1_conv/Conv2D' of the layer 'layer_block1_conv': found layer_block1_conv_1"
    assert layer_names.with_user_names(text, network) == (
        "the kernel 'm/block1/conv/Conv2D' of the layer 'block1/conv': found block1/conv_1"
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "form",
    [
        ptq.PTQ(8, 32),
        ptq.PTQ(4, 32, per_layer_bits={"block1/*": 8}),
        qat.QAT(4, 32, 1, 0.001, per_layer_bits={"quant_a": 8}),
    ],
)
def test_a_trial_takes_them_through_every_stage(form, tmp_path, tensorflow):
    plan = Plan(
        dataset=datasets.Digits(validation=0.2, limit=128, augment=augment.Augment(shift=0, flip=False)),
        model=Named(convolutions=ODD[:7]),
        train=replace(RECIPE, epochs=1),
        distill=teachers.NoDistillation(),
        prune=magnitude.GlobalMagnitude(
            sparsity=0.5, layers="all", schedule=schedules.ConstantSparsity(), finetune=0, learning_rate=0.001
        ),
        cluster=kmeans.KMeans(levels=8, layers="conv", finetune=0, learning_rate=0.001),
        quant=form,
        pipeline=Pipeline(("train", "prune", "cluster", "quant")),
        target=LiteRT(),
        seed=0,
        threads=THREADS,
    )
    result = executor.run(plan, Cache(tmp_path), Silent())
    assert list(result.bits) == [*ODD[:7], "head/logits"]
    assert set(result.bits.values()) == ({8} if form.bits == 8 else {4, 8})
    assert result.metrics.sparsity >= 0.5
    assert abs(result.metrics.conversion_gap) < 0.2
