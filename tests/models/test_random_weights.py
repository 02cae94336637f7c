"""The weights with which a network is tried before it is trained: nothing hidden, nothing that overflows, however deep."""

from __future__ import annotations

import numpy as np
import pytest

from sweep.models import checkpoints, random_weights

WEIGHTS = [
    ("conv/kernel:0", np.zeros((3, 3, 16, 32), np.float32)),
    ("conv/bias:0", np.zeros(32, np.float32)),
    ("depthwise/depthwise_kernel:0", np.zeros((3, 3, 64, 1), np.float32)),
    ("norm/gamma:0", np.ones(64, np.float32)),
    ("norm/beta:0", np.zeros(64, np.float32)),
    ("norm/moving_mean:0", np.zeros(64, np.float32)),
    ("norm/moving_variance:0", np.ones(64, np.float32)),
    ("own/some_vector:0", np.zeros(64, np.float32)),
    ("own/count:0", np.array(7, np.int64)),
]


@pytest.fixture
def drawn():
    return {name: values for (name, _), values in zip(WEIGHTS, random_weights.draw(WEIGHTS), strict=True)}


def test_shapes_and_types_stay_and_each_call_gives_the_same(drawn):
    again = random_weights.draw(WEIGHTS)
    for (name, before), values in zip(WEIGHTS, again, strict=True):
        assert (values.shape, values.dtype) == (before.shape, before.dtype)
        np.testing.assert_array_equal(values, drawn[name])
    assert drawn["own/count:0"] == 7


def test_no_factor_is_1_and_no_offset_0(drawn):
    for name in ("norm/gamma:0", "norm/moving_variance:0"):
        assert drawn[name].min() > 0.79
        assert (np.abs(drawn[name] - 1) > 0.015).all()
    for name in ("conv/bias:0", "norm/beta:0", "norm/moving_mean:0", "own/some_vector:0"):
        assert (np.abs(drawn[name]) > 0.04).all()
        assert drawn[name].min() < 0 < drawn[name].max()


def test_kernels_keep_the_variance(drawn):
    assert drawn["conv/kernel:0"].std() == pytest.approx(np.sqrt(2 / (9 * 16)), rel=0.05)
    assert drawn["depthwise/depthwise_kernel:0"].std() == pytest.approx(np.sqrt(2 / 9), rel=0.1)


@pytest.mark.slow
@pytest.mark.usefixtures("tensorflow")
@pytest.mark.parametrize("normalised", [True, False])
def test_a_network_of_a_hundred_layers_answers_neither_zero_nor_infinity(normalised):
    import tf_keras as keras

    checkpoints.fresh(0)
    image = x = keras.Input((8, 8, 1), name="image")
    for number in range(100):
        x = keras.layers.Conv2D(32, 3, padding="same", name=f"conv{number}")(x)
        if normalised:
            x = keras.layers.BatchNormalization(name=f"conv{number}_bn")(x)
        x = keras.layers.ReLU(name=f"conv{number}_relu")(x)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    model = keras.Model(image, keras.layers.Dense(10, name="logits")(x))
    model.set_weights(random_weights.draw([(weight.name, weight.numpy()) for weight in model.weights]))
    logits = model(np.random.default_rng(0).uniform(size=(4, 8, 8, 1)).astype(np.float32), training=False).numpy()
    assert 1e-3 < np.abs(logits).max() < 1e3
