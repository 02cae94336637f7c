"""What a network must be: what is refused, by whose name, and what is taken as it is."""

# ruff: noqa: E501, PLW0108 - a case is a line; a layer is made anew in every build

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from conftest import CONF
from omegaconf import OmegaConf
from tf_keras import layers

from sweep.config.build import instantiate
from sweep.core.errors import ConfigError
from sweep.core.types import Storage
from sweep.models import checkpoints, contract, families
from sweep.pipeline import accounting
from sweep.tflite import audit, convert

pytestmark = pytest.mark.usefixtures("tensorflow")

SHAPE, CLASSES = (8, 8, 1), 10


@dataclass(frozen=True, kw_only=True)
class Net:
    """A network that a function makes."""

    made: Callable[[], Any]

    def check(self, input_shape):
        """Anything."""

    def kinds(self):
        return frozenset({"conv", "dense"})

    def build(self, input_shape, classes):
        return self.made()


def image():
    return keras.Input(SHAPE, name="image")


def features(x):
    return layers.Flatten(name="flat")(layers.Conv2D(4, 3, activation="relu", name="conv")(x))


def ends_in(*tail: Callable[[Any], Any], units: int = CLASSES, **words: Any) -> Net:
    """A network with something after its last dense layer, or in it."""

    def made():
        x = layers.Dense(units, name="logits", **words)(features(start := image()))
        for layer in tail:
            x = layer(x)
        return keras.Model(start, x)

    return Net(made=made)


def holds(*middle: Callable[[Any], Any], **words: Any) -> Net:
    """A network with something before its last dense layer; words are of its convolution."""

    def made():
        x = layers.Flatten(name="flat")(layers.Conv2D(4, 3, activation="relu", name="conv", **words)(start := image()))
        for layer in middle:
            x = layer(x)
        return keras.Model(start, layers.Dense(CLASSES, name="logits")(x))

    return Net(made=made)


def takes(**words: Any) -> Net:
    """A network whose input is otherwise."""

    def made():
        start = keras.Input(**{"shape": SHAPE, "name": "image", **words})
        x = layers.GlobalAveragePooling2D(name="pool")(
            layers.Conv2D(4, 3, name="conv")(layers.Rescaling(1.0, name="scale")(start))
        )
        return keras.Model(start, layers.Dense(CLASSES, name="logits")(x))

    return Net(made=made)


def gives(outputs: Callable[[Any], Any]) -> Net:
    """A network with other outputs."""

    def made():
        return keras.Model(start := image(), outputs(features(start)))

    return Net(made=made)


def changed(change: Callable[[Any], Any]) -> Net:
    """A good network, changed after it was built."""

    def made():
        change(model := holds().made())
        return model

    return Net(made=made)


@keras.saving.register_keras_serializable("test")
class Forgetful(layers.Layer):
    """Its description lacks the factor."""

    def __init__(self, factor=2.0, **words):
        super().__init__(**words)
        self.factor = factor

    def call(self, x):
        return x * self.factor

    def get_config(self):
        return layers.Layer.get_config(self) | {"name": self.name}


@keras.saving.register_keras_serializable("test")
class Faithful(Forgetful):
    def get_config(self):
        return {**super().get_config(), "factor": self.factor}


@keras.saving.register_keras_serializable("test")
class ForgetfulLoss(Faithful):
    """Its loss is not in its description."""

    def __init__(self, weight=0.0, **words):
        super().__init__(**words)
        self.weight = weight

    def call(self, x):
        self.add_loss(self.weight * tf.reduce_sum(x))
        return x

    def get_config(self):
        return {"name": self.name, "factor": self.factor}


@keras.saving.register_keras_serializable("test")
class Mixing(layers.Layer):
    """A kernel that is no kernel in a file."""

    def build(self, shape):
        self.matrix = self.add_weight("matrix", (shape[-1], shape[-1]))

    def call(self, x):
        return x + tf.reduce_sum(self.matrix)


def a_local_layer():
    @keras.saving.register_keras_serializable("test")
    class Local(layers.Layer):
        def call(self, x):
            return x

    return Local(name="local")


def a_keras_3_model():
    import keras as keras_3

    return keras_3.Sequential([keras_3.Input(SHAPE), keras_3.layers.Flatten(), keras_3.layers.Dense(CLASSES)])


class Subclass(keras.Model):
    def call(self, x):
        return x


def fails():
    raise KeyError("weights.h5")


def half_precision():
    keras.mixed_precision.set_global_policy("mixed_float16")
    return holds().made()


COUNTED: list[int] = []


def numbered():
    COUNTED.append(0)
    return keras.Model(start := image(), layers.Dense(CLASSES, name=f"logits{len(COUNTED)}")(features(start)))


def widened():
    COUNTED.append(0)
    x = layers.Dense(len(COUNTED), name="hidden")(features(start := image()))
    return keras.Model(start, layers.Dense(CLASSES, name="logits")(x))


def unseeded():
    model = holds().made()
    model.set_weights([np.random.default_rng().normal(size=weight.shape) for weight in model.get_weights()])
    return model


def a_second_input():
    x = layers.Concatenate(name="both")([features(start := image()), other := keras.Input((3,), name="other")])
    return keras.Model([start, other], layers.Dense(CLASSES, name="logits")(x))


def a_named_input():
    return keras.Model({"image": (start := image())}, layers.Dense(CLASSES, name="logits")(features(start)))


def a_softmax_inside():
    inner = keras.Sequential(
        [layers.Input(SHAPE), layers.Flatten(name="f"), layers.Dense(CLASSES, "softmax", name="d")], "inner"
    )
    return keras.Model(start := image(), inner(start))


def dense(name, **words):
    return layers.Dense(CLASSES, name=name, **words)


REFUSED = {
    "one unit": (ends_in(units=1), r"logits \(n, 10\); received float32 \(n, 1\) of logits \(Dense\)"),
    "1000 units": (ends_in(units=1000), r"logits \(n, 10\); received float32 \(n, 1000\) of logits"),
    "no flatten": (gives(lambda x: layers.Reshape((1, 1, 10), name="map")(dense("a")(x))), r"received float32 \(n, 1, 1, 10\) of map"),
    "two outputs": (gives(lambda x: [dense("a")(x), dense("b")(x)]), r"received 2: float32 \(n, 10\) of a .*, .* of b"),
    "named output": (gives(lambda x: {"a": dense("a")(x)}), "received a mapping of it: a"),
    "two inputs": (Net(made=a_second_input), r"input \(n, 8, 8, 1\); received 2: .* of image .* of other"),
    "named input": (Net(made=a_named_input), "received a mapping of it: image"),
    "integer input": (takes(dtype="uint8"), r"received uint8 \(n, 8, 8, 1\) of image"),
    "half input": (takes(dtype="float16"), r"received float16 \(n, 8, 8, 1\) of image"),
    "other size": (takes(shape=(9, 8, 1)), r"received float32 \(n, 9, 8, 1\)"),
    "any size": (takes(shape=(None, None, 1)), r"received float32 \(n, any, any, 1\)"),
    "fixed batch": (takes(batch_size=4), r"received float32 \(4, 8, 8, 1\)"),
    "not built": (Net(made=lambda: keras.Sequential([layers.Flatten(), dense("a")])), "received a model that is not built"),
    "nothing": (Net(made=lambda: None), r"expected a Sequential or functional Keras 2 model .*; received NoneType"),
    "Keras 3": (Net(made=a_keras_3_model), r"received Sequential \(of Keras 3\)"),
    "subclass": (Net(made=Subclass), r"received a subclass \(Subclass\)"),
    "failing build": (Net(made=fails), "received KeyError: 'weights.h5'"),
    "softmax": (ends_in(activation="softmax"), r"no activation after the last layer; received .* \[0, .*\] from logits \(Dense\), softmax"),
    "sigmoid": (ends_in(activation="sigmoid"), r"\[0, 1\] from logits \(Dense\), sigmoid"),
    "tanh": (ends_in(activation="tanh"), r"\[-1, 1\] from logits \(Dense\), tanh"),
    "softmax layer": (ends_in(lambda x: layers.Softmax(name="last")(x)), r"from last \(Softmax\)"),
    "activation layer": (ends_in(lambda x: layers.Activation("softmax", name="last")(x)), r"from last \(Activation\), softmax"),
    "relu layer": (ends_in(lambda x: layers.ReLU(name="last")(x)), r"from last \(ReLU\)"),
    "softmax function": (ends_in(tf.nn.softmax), r"from tf.nn.softmax"),
    "dropped softmax": (ends_in(tf.nn.softmax, lambda x: layers.Dropout(0.1, name="drop")(x)), r"from tf.nn.softmax"),
    "inner softmax": (Net(made=a_softmax_inside), r"from inner \(Sequential\)"),
    "names that count": (Net(made=numbered), r"the same network from every call of build .*; received logits\d+ and logits\d+"),
    "widths that vary": (Net(made=widened), "received two different layers called hidden"),
    "unseeded weights": (Net(made=unseeded), "received other weights: conv/kernel"),
    "settings": (Net(made=half_precision), "received global_policy mixed_float16"),
    "half a layer": (holds(lambda x: layers.Dense(3, dtype="mixed_float16", name="half")(x)), r"received half \(Dense\) in mixed_float16"),
    "double": (holds(lambda x: layers.Dense(3, dtype="float64", name="double")(x)), r"received double \(Dense\) in float64"),
    "all frozen": (changed(lambda model: setattr(model, "trainable", False)), "received 4 weights, none trainable"),
    "compiled": (changed(lambda model: model.compile("adam", "mse")), "a model that is not compiled"),
    "metrics": (changed(lambda model: model.add_metric(tf.reduce_mean(model.output), "mean")), r"received add_metric \(AddMetric\)"),
    "lambda": (holds(lambda x: layers.Lambda(lambda t: t * 2, name="twice")(x)), r"received twice \(Lambda\)"),
    "local class": (holds(lambda x: a_local_layer()(x)), r"received local \(Local\)"),
    "forgetful": (holds(lambda x: Forgetful(3.0, name="worse")(x)), r"received another network, from worse \(Forgetful\) on"),
    "forgotten loss": (holds(lambda x: ForgetfulLoss(0.5, name="worse")(x)), "received another network"),
    "noise": (holds(lambda x: layers.Dropout(0.5, name="drop")(x, training=True)), r"other ones each time, from drop \(Dropout\)"),
    "batch": (holds(lambda x: x - tf.reduce_mean(x, 0, keepdims=True)), "do not depend on the others of its batch"),
    "batch statistics": (holds(lambda x: layers.BatchNormalization(name="bn")(x, training=True)), "received those of bn"),
    "nan": (holds(lambda x: tf.math.log(-1.0 - x)), "received NaN or infinite ones"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_it_is_refused_with_the_reason(case):
    net, reason = REFUSED[case]
    with pytest.raises(ConfigError, match=reason):
        contract.require(net, SHAPE, CLASSES, seed=0)
    assert keras.mixed_precision.global_policy().name == "float32"


def conv_head():
    x = layers.Conv2D(CLASSES, 1, name="logits")(layers.Conv2D(4, 3, activation="relu", name="conv")(start := image()))
    return keras.Model(start, layers.GlobalAveragePooling2D(name="pool")(x))


def pretrained():
    model = holds().made()
    model.set_weights([np.full(weight.shape, 0.25) for weight in model.get_weights()])
    return model


TAKEN = {
    "plain": holds(),
    "sequential": Net(made=lambda: keras.Sequential([layers.Input(SHAPE), layers.Flatten(name="f"), dense("a")])),
    "linear": ends_in(lambda x: layers.Activation("linear", name="last")(x)),
    "log of a softmax": ends_in(tf.nn.log_softmax),
    "soft cap": ends_in(lambda x: 30 * tf.tanh(x / 30)),
    "leaky": ends_in(lambda x: layers.LeakyReLU(name="last")(x)),
    "convolutional head": Net(made=conv_head),
    "two heads": gives(lambda x: layers.Add(name="sum")([dense("a")(x), dense("b")(x)])),
    "normalised logits": ends_in(lambda x: layers.BatchNormalization(name="bn")(x)),
    "zeros at first": ends_in(kernel_initializer="zeros"),
    "dropout": holds(lambda x: layers.Dropout(0.5, name="drop")(x)),
    "a layer of one's own": holds(lambda x: Faithful(3.0, name="own")(x)),
    "a softmax within": holds(lambda x: layers.Softmax(name="gate")(x)),
    "regularised": holds(kernel_regularizer="l2", activity_regularizer="l1", kernel_constraint="non_neg"),
    "an added loss": changed(lambda model: model.add_loss(tf.reduce_mean(model.output))),
    "frozen": holds(trainable=False),
    "its own weights": Net(made=pretrained),
}


@pytest.mark.parametrize("case", TAKEN)
def test_it_is_taken(case):
    contract.require(TAKEN[case], SHAPE, CLASSES, seed=0)


@pytest.mark.parametrize("classes", [2, 3])
def test_few_classes_are_logits_too(classes):
    contract.require(families.LeNet5(width=0.2), SHAPE, classes, seed=0)


@pytest.mark.slow
@pytest.mark.parametrize("choice", sorted(path.stem for path in (CONF / "model").glob("*.yaml")))
def test_every_choice_of_a_model_passes(choice):
    spec = instantiate(OmegaConf.load(CONF / "model" / f"{choice}.yaml"), "model")
    began = time.perf_counter()
    contract.require(spec, (32, 32, 3), CLASSES, seed=0)
    assert time.perf_counter() - began < 60


def facts(net: Net) -> tuple[Any, audit.Audit]:
    checkpoints.fresh(0)
    model = net.made()
    return model, audit.read(convert.convert(model, Storage.FLOAT32))


def image_rows(*tail):
    def made():
        x = layers.Reshape(SHAPE[:2], name="rows")(start := image())
        for layer in tail:
            x = layer(x)
        return keras.Model(start, dense("logits")(layers.Flatten(name="flat")(x)))

    return Net(made=made)


def image_maps(*tail):
    def made():
        x = start = image()
        for layer in tail:
            x = layer(x)
        return keras.Model(start, dense("logits")(layers.Flatten(name="flat")(x)))

    return Net(made=made)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("net", "layer"),
    [
        (image_rows(lambda x: layers.LSTM(4, name="lstm")(x)), "lstm (LSTM)"),
        (image_maps(lambda x: layers.LocallyConnected2D(2, 3, name="own")(x)), "own (LocallyConnected2D)"),
        (image_maps(lambda x: layers.Dense(4, name="scaling")(x)), "scaling (Dense)"),  # of one channel: a product
        (image_maps(lambda x: Mixing(name="own")(x)), "own (Mixing)"),
    ],
)
def test_a_kernel_that_the_file_does_not_show_is_refused_by_its_layer(net, layer):
    with pytest.raises(ConfigError) as refused:
        accounting.require_counted(*facts(net))
    assert layer in refused.value.received


@pytest.mark.slow
@pytest.mark.parametrize(
    "layer",
    [
        lambda x: layers.Conv2DTranspose(4, 3, name="up")(x),
        lambda x: layers.SeparableConv2D(4, 3, name="separable")(x),
        lambda x: layers.LayerNormalization([1, 2, 3], name="norm")(layers.PReLU(name="prelu")(x)),
        lambda x: Faithful(3.0, name="own")(x),
    ],
)
def test_the_file_shows_every_kernel(layer):
    accounting.require_counted(*facts(image_maps(layer)))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("net", "layer"),
    [
        (image_rows(lambda x: layers.Conv1D(4, 3, name="along")(x)), "along (Conv1D)"),
        (image_maps(lambda x: layers.SeparableConv2D(4, 3, name="separable")(x)), "separable (SeparableConv2D)"),
    ],
)
def test_pruning_refuses_what_would_make_its_sparsity_untrue(net, layer):
    model, found = facts(net)
    with pytest.raises(ConfigError) as refused:
        accounting.require_true_sparsity(model, "all", found)
    assert refused.value.received == layer
    accounting.require_true_sparsity(model, "dense", found)


def test_a_kind_that_the_network_lacks_and_a_frozen_layer_are_refused():
    frozen = holds(trainable=False).made()
    for layers_ in ("all", "conv"):
        with pytest.raises(ConfigError, match=r"layers that may change; received conv \(Conv2D\) with trainable=False"):
            contract.require_targets(frozen, layers_)
    contract.require_targets(frozen, "dense")
    dense_alone = keras.Sequential([layers.Input(SHAPE), layers.Flatten(name="f"), dense("a")])
    with pytest.raises(ConfigError, match="layers: expected a kind of layer that the model has; received conv"):
        contract.require_targets(dense_alone, "conv")


def test_training_under_fake_quantisation_refuses_what_the_toolkit_loses():
    with pytest.raises(ConfigError, match=r"received conv \(Conv2D\) with trainable=False"):
        contract.require_wrappable(holds(trainable=False).made())
    with pytest.raises(ConfigError, match=r"received conv \(Conv2D\) with an activity_regularizer"):
        contract.require_wrappable(holds(activity_regularizer="l2").made())
    contract.require_wrappable(holds(kernel_regularizer="l2", kernel_constraint="non_neg").made())
