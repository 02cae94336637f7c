"""The network that MLflow serves: against LiteRT called directly, and against `benchmark`."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from made_files import by_hand, edited, tiny

from sweep.core.types import Array, Storage
from sweep.tflite import benchmark, litert

KINDS = ("FLOAT32", "INT8")


def pixels(images: Array) -> Array:
    return images.astype(np.float32) / np.float32(255)


def agrees(content: bytes, images: Array) -> None:
    """Asserts that the logits equal those of LiteRT bit for bit, in any batch, and the classes those of `benchmark`."""
    network = litert.Network(content)
    assert network.shape == (1, *images.shape[1:])
    logits = network.predict(pixels(images))
    assert logits.dtype == np.float32
    assert len({row.tobytes() for row in logits}) > len(images) / 2, "the logits of the images differ"
    assert logits.tobytes() == by_hand(content, images).tobytes()
    assert logits.argmax(axis=1).tolist() == benchmark.predict(content, images).tolist()
    sizes = (1, 0, 3, len(images) - 4)
    batches = np.split(pixels(images), np.cumsum(sizes)[:-1])
    assert [len(batch) for batch in batches] == list(sizes)
    outputs = [network.predict(batch) for batch in batches]
    assert [output.shape for output in outputs] == [(size, network.classes) for size in sizes]
    assert np.concatenate(outputs).tobytes() == logits.tobytes()


@pytest.fixture
def images() -> Array:
    return np.random.default_rng(1).integers(0, 256, (50, 2, 2, 1), np.uint8)


@pytest.mark.parametrize("kind", KINDS)
def test_logits_are_those_of_the_file(kind: str, images: Array) -> None:
    agrees(tiny(kind), images)


@pytest.fixture(scope="module")
def converted(tensorflow: None) -> dict[Storage, bytes]:
    """A small untrained network in every kind of file that the project writes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import tf_keras as keras
        from tensorflow_model_optimization.python.core.quantization.keras import quantize

        from sweep.tflite.convert import convert

        keras.utils.set_random_seed(0)
        layers = keras.layers
        image = layers.Input((6, 5, 3), name="image")
        x = layers.Flatten(name="flat")(layers.Conv2D(32, 3, activation="relu", name="conv")(image))
        model = keras.Model(image, layers.Dense(7, name="logits")(x))
        fake = quantize.quantize_model(model)
        for _ in range(100):  # activation ranges creep towards the data's
            fake(np.random.default_rng(0).random((64, 6, 5, 3), np.float32), training=True)
        return {storage: convert(fake if storage is Storage.INTEGER else model, storage) for storage in Storage}


@pytest.mark.slow
@pytest.mark.parametrize("storage", list(Storage))
def test_logits_are_those_of_a_converted_file(converted: dict[Storage, bytes], storage: Storage) -> None:
    agrees(converted[storage], np.random.default_rng(2).integers(0, 256, (50, 6, 5, 3), np.uint8))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("value", [255.0, 1.001, -0.001, float("nan"), float("inf")])
def test_values_outside_the_unit_range_are_refused(kind: str, value: float) -> None:
    batch = np.full((2, 2, 2, 1), 0.5, np.float32)
    batch[1, 1, 0, 0] = value
    with pytest.raises(ValueError, match=r"^expected pixels in \[0, 1\]; received "):
        litert.Network(tiny(kind)).predict(batch)


@pytest.fixture
def hasty_threads() -> Iterator[None]:
    """Threads that switch as often as possible."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("hasty_threads")
def test_threads_that_share_a_network_get_their_own_outputs() -> None:
    network = litert.Network(tiny("FLOAT32"))
    batches = pixels(np.random.default_rng(3).integers(0, 256, (4, 2000, 2, 2, 1), np.uint8))
    alone = [network.predict(batch) for batch in batches]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(network.predict, batches))
    assert [output.tobytes() for output in together] == [output.tobytes() for output in alone]


def test_a_file_with_another_interface_is_refused() -> None:
    def two_inputs(graph: Any) -> None:
        graph.inputs = [0, 2]

    with pytest.raises(ValueError, match="expected one input and one output, found 2 and 1"):
        litert.Network(edited(tiny("FLOAT32"), two_inputs))
    with pytest.raises(ValueError, match=r"[Ff]latbuffer"):
        litert.Network(b"not a model")


@pytest.mark.parametrize("kind", KINDS)
def test_random_outputs_are_reproducible(kind):
    content = tiny(kind)
    outputs = litert.random_outputs(content, 20)
    assert litert.random_outputs(content, 20) == outputs
    assert len(set(outputs)) > 10
    assert litert.random_outputs(content, 20, seed=1) != outputs


@pytest.mark.parametrize(
    ("dtype", "values"),
    [
        (np.float32, None),
        (np.float16, None),
        (np.int8, range(-128, 128)),
        (np.uint8, range(256)),
        (np.int16, range(-(2**15), 2**15)),
        (np.int32, range(2)),
        (np.int64, range(2)),
        (np.bool_, range(2)),
    ],
)
def test_random_inputs_are_of_the_type_and_use_its_range(dtype, values):
    tensor = litert.random_input(np.random.default_rng(0), {"shape": np.array([40, 50]), "dtype": dtype})
    assert (tensor.shape, tensor.dtype) == ((40, 50), dtype)
    if values is None:
        assert abs(tensor.astype(float).std() - 1) < 0.1
    else:
        assert values[0] <= tensor.min() < tensor.max() <= values[-1]
        assert tensor.max() / values[-1] > 0.99
    with pytest.raises(ValueError, match=r"expected inputs that are numbers, found <class 'numpy\.bytes_'>"):
        litert.random_input(np.random.default_rng(0), {"shape": np.array([2]), "dtype": np.bytes_})
