"""Random small networks of every operator, in every format: packed files are smaller, with bit-identical outputs."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from sweep.compress.quantize import formats, ptq
from sweep.core import isolated
from sweep.core.types import Split, Storage
from sweep.models import checkpoints
from sweep.tflite import audit, contents, convert, litert, tflm
from sweep.tflite.minimize import lossless, sparse
from sweep.tflite.minimize.difference import difference

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("tensorflow")]

SHAPE, CLASSES = (8, 8, 2), 3
QUANTISED = ("conv", "conv without bias", "normalised", "depthwise", "average", "max", "relu6", "add", "concatenate")
EVERY = (
    *QUANTISED, "transposed", "separable", "dilated", "pad", "upsample", "resize", "prelu", "leaky", "elu", "sigmoid", "tanh",
    "swish", "hard", "softmax", "multiply", "maximum", "subtract", "scale", "permute", "reshape", "squeeze and excite", "dense",
)  # fmt: skip


def layer(kind: str, x: Any, number: int) -> Any:
    """The layer, or the small block, on top of a (n, height, width, channels) tensor."""
    import tensorflow as tf
    from tf_keras import initializers, layers

    width = int(x.shape[-1])

    def conv(size: int = 3, filters: int = 4, **keys: Any) -> Any:
        return layers.Conv2D(filters, size, padding="same", name=f"conv{number}_{size}_{filters}", **keys)

    simple = {
        "conv": lambda: conv(activation="relu"),
        "conv without bias": lambda: conv(use_bias=False),
        "dilated": lambda: conv(dilation_rate=2),
        "depthwise": lambda: layers.DepthwiseConv2D(3, padding="same", name=f"depthwise{number}"),
        "separable": lambda: layers.SeparableConv2D(5, 3, padding="same"),
        "transposed": lambda: layers.Conv2DTranspose(3, 3, padding="same"),
        "average": lambda: layers.AveragePooling2D(2, 1, "same"),
        "max": lambda: layers.MaxPooling2D(2, 1, "same"),
        "relu6": lambda: layers.ReLU(6.0),
        "pad": lambda: layers.ZeroPadding2D(1),
        "upsample": lambda: layers.UpSampling2D(2),
        "resize": lambda: layers.Resizing(6, 6),
        "prelu": lambda: layers.PReLU(alpha_initializer="random_uniform", shared_axes=[1, 2]),
        "leaky": lambda: layers.LeakyReLU(0.2),
        "elu": layers.ELU,
        "sigmoid": lambda: layers.Activation("sigmoid"),
        "tanh": lambda: layers.Activation("tanh"),
        "swish": lambda: layers.Activation(tf.nn.swish),
        "hard": lambda: layers.Activation("hard_sigmoid"),
        "softmax": layers.Softmax,
        "permute": lambda: layers.Permute((2, 1, 3)),
        "scale": lambda: layers.Rescaling(0.5, 0.1),
        "dense": lambda: layers.Dense(4),
    }
    if kind in simple:
        return simple[kind]()(x)
    if kind == "normalised":
        # A gain of nearly zero makes a bias that the older quantiser, of 16 bits, changes a kernel for, which is refused.
        gains = initializers.RandomUniform(0.5, 1.5)
        normal = layers.BatchNormalization(gamma_initializer=gains, beta_initializer="random_normal")
        return layers.ReLU()(normal(conv(use_bias=False)(x)))
    if kind == "reshape":
        return layers.Reshape((x.shape[1] * x.shape[2], 1, width))(x)
    if kind == "squeeze and excite":
        pooled = layers.Reshape((1, 1, width))(layers.GlobalAveragePooling2D()(x))
        return layers.Multiply()([x, conv(1, width, activation="sigmoid")(pooled)])
    two = {
        "add": layers.Add, "multiply": layers.Multiply, "maximum": layers.Maximum, "subtract": layers.Subtract,
        "concatenate": layers.Concatenate,
    }  # fmt: skip
    return two[kind]()([x, conv(1, width)(x)])


def network(kinds: list[str], end: str, seed: int) -> Any:
    """A Keras model with random weights, a few kernels of them equal and one mostly zero."""
    from tf_keras import Input, Model, layers

    checkpoints.fresh(seed)
    x = image = Input(SHAPE)
    for number, kind in enumerate(kinds):
        x = layer(kind, x, number)
    x = layers.GlobalAveragePooling2D()(x) if end == "average" else layers.Flatten()(x)
    model = Model(image, layers.Dense(CLASSES, name="logits")(x))
    draws = np.random.default_rng(seed)
    for weight in model.weights:
        if "bias" in weight.name:
            weight.assign(draws.normal(size=weight.shape))
        if "kernel" in weight.name and len(weight.shape) == 4 and draws.random() < 0.3:
            weight.assign(np.where(draws.random(weight.shape) < 0.9, 0, weight))
    return model


def quantised(model: Any, activations: int) -> bytes:
    """The full-integer file that the converter makes on its own."""
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    images = np.random.default_rng(0).random((16, 1, *SHAPE), np.float32)
    converter.representative_dataset = lambda: ([image] for image in images)
    ops = tf.lite.OpsSet
    integer = ops.TFLITE_BUILTINS_INT8
    if activations == 16:
        integer = ops.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8
    converter.target_spec.supported_ops = [integer, ops.TFLITE_BUILTINS]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return bytes(converter.convert())


def as_configured(model: Any, form: Any) -> bytes:
    """The file of a form of this project."""
    if form.storage is not Storage.INTEGER:
        return convert.convert(model, form.storage)
    train = Split(np.random.default_rng(0).integers(0, 256, (16, *SHAPE), np.uint8), np.zeros(16, np.int64))
    floats = checkpoints.snapshot(model)
    ready = form.ready(replace(floats, bits=form.layer_bits(checkpoints.kernel_names(floats))), train)
    _, calibration = form.restore(ready, train)
    return convert.quantise(convert.convert(model, Storage.FLOAT32), calibration)


def read(content: bytes) -> audit.Audit | str:
    try:
        return audit.read(content)
    except audit.AuditError as error:
        return str(error)


def check(content: bytes, form: str) -> None:
    """Asserts every property of a packed file."""
    outputs = litert.random_outputs(content, 8)
    try:
        tflm_outputs = isolated.call(tflm.random_outputs, content, 8, seconds=120)
    except isolated.FailedError:
        tflm_outputs = None
        assert form not in ("float32 plain", "int8 plain")
    candidates = {content: "dense", sparse.compress(content): "sparse"}
    for kernels, storage in candidates.items():
        for strip in (False, True):
            packed = lossless.packed(kernels, strip=strip)
            assert len(packed) < len(kernels)
            assert lossless.packed(kernels, strip=strip) == packed
            assert lossless.packed(packed, strip=strip) == packed
            assert difference(kernels, packed, names=not strip) == ""
            assert litert.random_outputs(packed, 8) == outputs
            assert sum(contents.bytes_by_kind(packed).values()) == len(packed)
            before, after = read(kernels), read(packed)
            if strip and isinstance(before, audit.Audit) and isinstance(after, audit.Audit):
                assert audit.same(before, after)
            elif not strip:
                assert before == after
            if tflm_outputs is not None and storage == "dense":
                assert isolated.call(tflm.random_outputs, packed, 8, seconds=120) == tflm_outputs


def layers_of(kinds: tuple[str, ...]) -> Any:
    return st.lists(st.sampled_from(kinds), min_size=1, max_size=5)


def draws(examples: int) -> Any:
    return settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        phases=(Phase.explicit, Phase.generate),  # shrinking does not make an example faster
        suppress_health_check=list(HealthCheck),
    )


HEADS = st.sampled_from(["average", "flatten"])
SEEDS = st.integers(0, 2**16)


@pytest.mark.parametrize("form", ["float32", "float16", "dynamic", "int8", "int16"])
@draws(8)
@given(kinds=layers_of(EVERY), end=HEADS, seed=SEEDS)
def test_networks_of_every_operator_as_the_converter_writes_them(form, kinds, end, seed):
    model = network(kinds, end, seed)
    if form in ("int8", "int16"):
        check(quantised(model, int(form[3:])), form)
    else:
        check(convert.convert(model, Storage(form)), form)


FORMS = {
    "float32 plain": formats.Float32(),
    "int8 plain": ptq.PTQ(8, 16),
    "6 bits": ptq.PTQ(6, 16),
    "int4": ptq.PTQ(4, 16),
    "2 bits": ptq.PTQ(2, 16),
    "16 bits": ptq.PTQ(8, 16, activations=16),
}


@pytest.mark.parametrize("form", FORMS)
@draws(6)
@given(kinds=layers_of(QUANTISED), end=HEADS, seed=SEEDS)
def test_networks_as_they_are_quantised_here(form, kinds, end, seed):
    check(as_configured(network(kinds, end, seed), FORMS[form]), form)


def test_a_network_of_each_operator():
    """Independent of the random draws: a network of each kind."""
    for number, kind in enumerate(EVERY):
        check(convert.convert(network([kind], "average", number), Storage.FLOAT32), kind)
