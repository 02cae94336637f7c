"""Every step that rewrites a network against the network that went in, and steps that go wrong on purpose."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest

from sweep.compress.prune import dependency_graph
from sweep.compress.quantize import fake_quant, ptq, qat
from sweep.core.types import Split, Storage
from sweep.models import checkpoints, equivalence, families, random_weights
from sweep.models.equivalence import EquivalenceError, Step
from sweep.pipeline import conversion
from sweep.tflite import audit, convert, expectations, litert, requantize

ANSWERS = np.random.default_rng(0).normal(size=(8, 10)).astype(np.float32)


def test_the_deviation_is_relative_to_the_answers():
    assert equivalence.deviation(ANSWERS, ANSWERS) == 0
    assert equivalence.deviation(ANSWERS, 1.1 * ANSWERS) == pytest.approx(0.1, rel=1e-3)
    assert equivalence.deviation(1000 * ANSWERS, 1100 * ANSWERS) == pytest.approx(0.1, rel=1e-3)
    assert equivalence.deviation(ANSWERS, np.zeros_like(ANSWERS)) == pytest.approx(1)
    assert equivalence.deviation(np.zeros_like(ANSWERS), np.zeros_like(ANSWERS)) == 0


@pytest.mark.parametrize("step", Step)
def test_each_step_has_a_tolerance_and_scrambled_answers_are_beyond_it(step):
    limit = equivalence.TOLERANCES[step]
    equivalence.require(step, ANSWERS, ANSWERS * (1 + 0.9 * limit))
    scrambled = (ANSWERS * (1 + 1.1 * limit), ANSWERS[:, ::-1], ANSWERS * np.nan, ANSWERS * np.inf)
    for found in scrambled:
        with pytest.raises(
            EquivalenceError, match=rf"^{step.value}: expected answers within .*% of the network's, found them .*% off$"
        ):
            equivalence.require(step, ANSWERS, found)


def test_the_images_are_the_same_at_every_call():
    images = equivalence.images((4, 5, 3))
    assert (images.shape[1:], images.dtype) == ((4, 5, 3), np.uint8)
    np.testing.assert_array_equal(images, equivalence.images((4, 5, 3)))


def block(x, channels, name, stride=1):
    import tf_keras as keras

    x = keras.layers.Conv2D(channels, 3, stride, "same", use_bias=False, name=name)(x)
    return keras.layers.ReLU(name=f"{name}_relu")(keras.layers.BatchNormalization(name=f"{name}_bn")(x))


def branches(kind, x):
    """What is concatenated: the toolkit rewrites some of it, and so changes the order of its list of layers."""
    import tf_keras as keras

    layers = keras.layers
    if kind == "block and pooling":
        return [block(x, 16, "branch"), layers.AveragePooling2D(3, 1, "same", name="average")(x)]
    if kind == "convolutions":
        return [layers.Conv2D(n, 3, padding="same", activation="relu", name=f"branch{n}")(x) for n in (8, 6)]
    if kind == "depthwise and a convolution":
        depthwise = layers.DepthwiseConv2D(3, padding="same", name="depthwise")(x)
        return [depthwise, layers.Conv2D(6, 1, padding="same", name="branch")(x)]
    if kind == "four":
        return [block(x, 8, "branch"), layers.MaxPooling2D(3, 1, "same", name="pool")(x), block(x, 4, "other"), x]
    if kind == "itself":
        return [x, x]
    inner = layers.Concatenate(name="inner")([block(x, 5, "branch"), layers.MaxPooling2D(3, 1, "same", name="pool")(x)])
    return [block(x, 7, "other"), inner, block(inner, 3, "last")]


KINDS = ("block and pooling", "convolutions", "depthwise and a convolution", "four", "itself", "nested")


def concatenated(kind):
    """A network that concatenates, with random weights."""
    import tf_keras as keras

    checkpoints.fresh(0)
    image = keras.Input((8, 8, 1), name="image")
    x = keras.layers.Concatenate(name="both")(branches(kind, block(image, 8, "stem")))
    x = keras.layers.GlobalAveragePooling2D(name="average_all")(block(x, 16, "tail", 2))
    return randomised(keras.Model(image, keras.layers.Dense(10, name="logits")(x)))


def randomised(model):
    model.set_weights(random_weights.draw([(weight.name, weight.numpy()) for weight in model.weights]))
    return model


def with_bits(model, bits):
    network = checkpoints.snapshot(model)
    return replace(network, bits=dict.fromkeys(checkpoints.kernel_names(network), bits))


def few_images(digits):
    return Split(digits.train.images[:32], digits.train.labels[:32])


@pytest.mark.usefixtures("tensorflow")
@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("kind", KINDS)
def test_concatenations_survive_quantisation_aware_training(kind, bits, digits):
    stage, train = qat.QAT(bits, 32, 0, 0.001), few_images(digits)
    network = with_bits(concatenated(kind), bits)
    model, _ = stage.restore(stage.ready(network, train), train)
    content = convert.convert(model, Storage.INTEGER, network.bits)
    conversion.require_equivalent(content, model, Storage.INTEGER)
    expectations.expect(audit.read(content), storage=Storage.INTEGER, bits=network.bits)
    # Eight bits change little, so what comes out is still the network that went in.
    pixels = train.images[:8] / np.float32(255)
    whole = checkpoints.restore(network)(pixels, training=False).numpy()
    if bits == 8:
        assert equivalence.deviation(whole, litert.Network(content).predict(pixels)) < 0.1


@pytest.mark.usefixtures("tensorflow")
def test_what_the_toolkit_rewires_is_told_before_anything_trains(digits, monkeypatch):
    monkeypatch.setattr(fake_quant, "_input_order_kept", nullcontext)
    with pytest.raises(EquivalenceError, match="wrapping for quantisation-aware training: expected answers within"):
        qat.QAT(8, 32, 0, 0.001).ready(with_bits(concatenated("block and pooling"), 8), few_images(digits))


@pytest.mark.usefixtures("tensorflow")
@pytest.mark.parametrize("storage", [Storage.FLOAT32, Storage.FLOAT16, Storage.DYNAMIC])
def test_the_file_of_another_network_is_told(storage):
    checkpoints.fresh(0)
    model = randomised(families.CNN(filters=(16, 32), units=()).build((8, 8, 1), 10))
    content = convert.convert(model, storage)
    conversion.require_equivalent(content, model, storage)
    kernel = model.get_layer("conv2").kernel
    kernel.assign(kernel.numpy()[:, :, ::-1])
    with pytest.raises(EquivalenceError, match=f"the conversion to .*{storage.value}.*: expected"):
        conversion.require_equivalent(content, model, storage)


@pytest.mark.usefixtures("tensorflow")
def test_channels_that_are_cut_wrongly_are_told(monkeypatch):
    checkpoints.fresh(0)
    network = checkpoints.snapshot(randomised(families.ResNet(blocks=1, width=0.5).build((8, 8, 1), 10)))
    wiring = dependency_graph.trace(checkpoints.restore(network))
    smaller = dependency_graph.remove_channels(network, wiring, [0, 3, 5])
    assert smaller.removed > 0
    right = dependency_graph._sliced
    monkeypatch.setattr(dependency_graph, "_sliced", lambda *given: np.roll(right(*given), 1, axis=-1))
    with pytest.raises(EquivalenceError, match="the removal of channels: expected"):
        dependency_graph.remove_channels(network, wiring, [0, 3, 5])


@pytest.mark.usefixtures("tensorflow")
@pytest.mark.parametrize("kind", ["ptq", "qat"])
@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_layers_with_little_but_biases_answer_in_the_file_too(kind, bits, digits):
    """XNNPACK holds sixteen times the bias of an INT4 kernel, which is huge in the steps of a channel that is all but zero."""
    checkpoints.fresh(0)
    model = randomised(families.MobileNet(stem=8, filters=(8, 16), strides=(1, 2)).build((8, 8, 1), 10))
    for name, share in (("stem", 0.0), ("pointwise1", 1e-9), ("logits", 0.0)):
        kernel = model.get_layer(name).kernel
        kernel.assign(kernel.numpy() * np.where(np.arange(kernel.shape[-1]) % 3, share, 0.0 if name == "logits" else 1.0))
    stage, train = ptq.PTQ(bits, 32) if kind == "ptq" else qat.QAT(bits, 32, 0, 0.001), few_images(digits)
    network = stage.ready(with_bits(model, bits), train)
    keras_model, calibration = stage.restore(network, train)
    if calibration is None:
        content = convert.convert(keras_model, Storage.INTEGER, network.bits)
    else:
        content = convert.quantise(convert.convert(checkpoints.restore(network), Storage.FLOAT32), calibration)
    pixels = train.images[:8] / np.float32(255)
    expected = keras_model(pixels, training=False).numpy()
    assert equivalence.deviation(expected, litert.Network(content).predict(pixels)) < 0.05
    assert requantize.limit_biases(content) == content
