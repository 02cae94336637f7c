"""The ranges of activations against those that Keras computes, layer by layer."""

from __future__ import annotations

import numpy as np
import pytest

from sweep.compress.quantize import clipping, rounding
from sweep.core.types import Storage
from sweep.models import checkpoints, families
from sweep.tflite import benchmark, calibrate, convert, litert, requantize, schema

pytestmark = pytest.mark.usefixtures("tensorflow")


@pytest.fixture(scope="module")
def residual():
    """A residual network as none is trained, its float32 file, and images."""
    checkpoints.fresh(0)
    model = families.ResNet(blocks=1, width=0.5).build((8, 8, 3), 10)
    draws = np.random.default_rng(0)
    model.set_weights([weights * draws.uniform(0.5, 1.5, weights.shape) for weights in model.get_weights()])
    return model, convert.convert(model, Storage.FLOAT32), draws.integers(0, 256, (40, 8, 8, 3), np.uint8)


def stored_ranges(content):
    """Tensor name to its (minimum, maximum), where the file has them."""
    tensors = schema.parsed(content)[0].subgraphs[0].tensors
    return {
        tensor.name.decode(): (float(tensor.quantization.min[0]), float(tensor.quantization.max[0]))
        for tensor in tensors
        if tensor.quantization is not None and tensor.quantization.min is not None
    }


def test_ranges_are_those_of_keras_and_the_input_has_that_of_pixels(residual):
    import tf_keras as keras

    model, content, images = residual
    ranges = stored_ranges(calibrate.with_ranges(content, images // 2))
    assert ranges.pop("image") == (0.0, 1.0)
    assert len(ranges) == 14  # nine convolutions, three additions, the pooling, the logits
    layers = {layer.name: layer for layer in model.layers}
    for tensor, (low, high) in ranges.items():
        # Named after the last layer that was fused into it, but for batch normalisation, and for the output.
        name = tensor.split("/")[1] if "/" in tensor else "logits"
        layer = layers.get(f"{name}_bn", layers[name])
        values = keras.Model(model.input, layer.output)(images // 2 / np.float32(255), training=False).numpy()
        np.testing.assert_allclose((low, high), (values.min(), values.max()), rtol=1e-5, atol=1e-5, err_msg=tensor)


def test_nothing_else_of_the_file_changes(residual):
    _, content, images = residual
    ranged = calibrate.with_ranges(content, images)
    np.testing.assert_array_equal(benchmark.predict(ranged, images), benchmark.predict(content, images))
    before, after = (schema.parsed(file)[0] for file in (content, ranged))
    assert list(after.subgraphs[0].outputs) == list(before.subgraphs[0].outputs)


def test_each_image_counts(residual):
    _, content, images = residual
    all_ranges = stored_ranges(calibrate.with_ranges(content, images))
    one_by_one = [stored_ranges(calibrate.with_ranges(content, image[None])) for image in images]
    for tensor, (low, high) in all_ranges.items():
        assert low == min(ranges[tensor][0] for ranges in one_by_one)
        assert high == max(ranges[tensor][1] for ranges in one_by_one)


@pytest.mark.parametrize("activations", [8, 16])
def test_layers_whose_activations_are_all_zero_have_a_range(activations):
    checkpoints.fresh(0)
    model = families.ResNet(blocks=1, width=0.25).build((8, 8, 1), 10)
    for name in ("s1b1a_bn", "s2b1b_bn"):
        layer = model.get_layer(name)
        layer.gamma.assign(layer.gamma * 0)
    images = np.random.default_rng(0).integers(0, 256, (20, 8, 8, 1), np.uint8)
    kernels = {
        name: rounding.quantize_kernel(kernel, 8, clipping.MinMax(), per_tensor=False)
        for name, kernel in checkpoints.every_kernel(model).items()
    }
    calibration = requantize.Calibration(images, kernels, activations)
    content = convert.quantise(convert.convert(model, Storage.FLOAT32), calibration)
    expected = model(images / np.float32(255), training=False).numpy()
    logits = litert.Network(content).predict(images / np.float32(255))
    assert np.abs(logits - expected).max() < 0.05 * np.ptp(expected)


@pytest.mark.parametrize("activations", [8, 16])
def test_activations_that_overflow_are_refused_by_name(activations):
    """The quantiser of TensorFlow 2.21 crashes the process on an infinite range."""
    checkpoints.fresh(0)
    model = families.CNN(filters=(4, 4), units=()).build((8, 8, 1), 10)
    for name in ("conv1", "conv2"):
        kernel = model.get_layer(name).kernel
        kernel.assign(kernel * 0 + 1e20)
    images = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 1), np.uint8)
    kernels = {
        name: rounding.quantize_kernel(kernel, 8, clipping.MinMax(), per_tensor=False)
        for name, kernel in checkpoints.every_kernel(model).items()
    }
    with pytest.raises(convert.ExportError, match=r"finite numbers in \S*conv2\S*, found \S+ to inf"):
        convert.quantise(convert.convert(model, Storage.FLOAT32), requantize.Calibration(images, kernels, activations))


def test_weights_that_are_not_finite_are_refused_by_name():
    checkpoints.fresh(0)
    model = families.CNN(filters=(4,), units=()).build((8, 8, 1), 10)
    model.get_layer("conv1_bn").beta.assign([0, np.nan, 0, 0])
    with pytest.raises(convert.ExportError, match="finite numbers in conv1_bn/beta:0, found nan to nan"):
        convert.convert(model, Storage.DYNAMIC)
