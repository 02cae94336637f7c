"""Predictions and latency: against an independent reader on real digits, and against known outputs."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
import time
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import accuracy

from sweep.core.measurement import Measurement, Predictions
from sweep.core.types import Array, Split, Storage
from sweep.tflite import benchmark
from sweep.tflite.benchmark import MeasureError

os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

SCRIPT = Path(__file__).parents[1] / "independent.py"
INDEPENDENT = runpy.run_path(str(SCRIPT))
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("tensorflow")]

KINDS = ("float32", "float16", "dynamic", "int8", "int4")


@pytest.fixture(scope="module")
def digits() -> Split:
    """The 360 test digits."""
    images, labels = INDEPENDENT["digits"]()
    return Split(images, labels.astype(np.int64))


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    """A small network, trained on the other digits, in every kind of file."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import tf_keras as keras
        from sklearn.datasets import load_digits
        from tensorflow_model_optimization.python.core.quantization.keras import quantize
        from tensorflow_model_optimization.python.core.quantization.keras.experimental.default_n_bit import (
            default_n_bit_quantize_scheme as n_bit,
        )

        from sweep.tflite.convert import convert

        data = load_digits()
        images, labels = (data.images[:-360, :, :, None] / 16).astype(np.float32), data.target[:-360]
        keras.utils.set_random_seed(0)
        layers = keras.layers
        image = layers.Input((8, 8, 1), name="image")
        x = layers.Conv2D(8, 3, padding="same", activation="relu", name="conv")(image)
        x = layers.MaxPooling2D(name="pool")(x)
        x = layers.Flatten(name="flat")(layers.Conv2D(16, 3, padding="same", activation="relu", name="conv2")(x))
        model = keras.Model(image, layers.Dense(10, name="logits")(x))
        model.compile(keras.optimizers.Adam(0.003), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        model.fit(images, labels, batch_size=64, epochs=6, verbose=0)
        made = {name: convert(model, Storage(name)) for name in KINDS[:3]}
        for name, bits in (("int8", 8), ("int4", 4)):
            scheme = n_bit.DefaultNBitQuantizeScheme(num_bits_weight=bits, num_bits_activation=8)
            fake = quantize.quantize_apply(quantize.quantize_annotate_model(model), scheme)
            for _ in range(3):  # activation ranges approach the data's range slowly, weight ranges at once
                fake(images[:256], training=True)
            made[name] = convert(fake, Storage.INTEGER)
        return made


def edited(content: bytes, change: Callable[[Any], None]) -> bytes:
    """The file after `change` has worked on its parsed model."""
    from ai_edge_litert.tools import flatbuffer_utils

    model = flatbuffer_utils.read_model_from_bytearray(content)
    change(model)
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def constant(logits: Callable[[int], float]) -> Callable[[Any], None]:
    """A change that makes a float32 file give each class `logits` of its number, whatever the image."""

    def change(model: Any) -> None:
        graph = model.subgraphs[0]
        for position, values in ((1, np.zeros(10 * 256)), (2, np.array([logits(number) for number in range(10)]))):
            tensor = graph.tensors[graph.operators[-1].inputs[position]]
            model.buffers[tensor.buffer].data = values.astype(np.float32).view(np.uint8)

    return change


@pytest.mark.parametrize("name", KINDS)
def test_accuracy_equals_that_of_an_independent_reader(files: dict[str, bytes], digits: Split, name: str) -> None:
    measured = accuracy(files[name], digits)
    assert 0.8 < measured < 1, "a network that always or never errs tests little"
    assert measured == INDEPENDENT["accuracy"](files[name], digits.images, digits.labels)


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("threads", [2, 3, 7])
def test_threads_change_nothing(files: dict[str, bytes], digits: Split, name: str, threads: int) -> None:
    images = digits.images[:100]
    alone = [int(benchmark.predict(files[name], images[number : number + 1])[0]) for number in range(100)]
    shared = benchmark.predict(files[name], images, threads)
    assert shared.dtype == np.int64
    assert shared.tolist() == benchmark.predict(files[name], images).tolist() == alone


@pytest.mark.parametrize("scale", [0.3, 0.999, 4.0])
def test_an_integer_input_uses_the_parameters_of_its_own_tensor(files: dict[str, bytes], digits: Split, scale: float) -> None:
    def change(model: Any) -> None:
        quantization = model.subgraphs[0].tensors[model.subgraphs[0].inputs[0]].quantization
        quantization.scale = np.float32(quantization.scale * scale)  # a smaller one makes bright pixels saturate
        quantization.zeroPoint = quantization.zeroPoint + 3

    changed = edited(files["int8"], change)
    predictions = benchmark.predict(changed, digits.images)
    right = INDEPENDENT["accuracy"](changed, digits.images, predictions)
    assert right == 1
    assert predictions.tolist() != benchmark.predict(files["int8"], digits.images).tolist(), (
        "the change is too small to be seen"
    )


def test_the_first_of_equal_outputs_wins(files: dict[str, bytes], digits: Split) -> None:
    flat = edited(files["float32"], constant(lambda number: 0))
    assert set(benchmark.predict(flat, digits.images[:9]).tolist()) == {0}
    pair = edited(files["float32"], constant(lambda number: float(number in (3, 8))))
    assert set(benchmark.predict(pair, digits.images[:9]).tolist()) == {3}
    endless = edited(files["float32"], constant(lambda number: float("inf") if number > 6 else -float("inf")))
    assert set(benchmark.predict(endless, digits.images[:9]).tolist()) == {7}


def test_accuracy_is_an_exact_count(files: dict[str, bytes], digits: Split) -> None:
    images = digits.images[:7]
    labels = benchmark.predict(files["float32"], images)
    for right in range(8):
        predicted = np.where(np.arange(7) < right, labels, labels + 1)
        assert Predictions(labels, predicted, 10).accuracy == right / 7
    assert benchmark.predict(files["float32"], images[:0], threads=2).shape == (0,)


def test_nan_is_an_error(files: dict[str, bytes], digits: Split) -> None:
    spoilt = edited(files["float32"], constant(lambda number: float("nan") if number == 4 else 0.0))
    for threads in (1, 2):
        with pytest.raises(MeasureError, match="NaN"):
            benchmark.predict(spoilt, digits.images[:4], threads)


def refuses(content: bytes, images: Array, reason: str) -> None:
    """Assert that a file gives no predictions for these images, for a `reason` of one line."""
    with pytest.raises(MeasureError, match=reason) as caught:
        benchmark.predict(content, images)
    assert "\n" not in str(caught.value)


def test_an_error_of_the_interpreter_has_its_reason(files: dict[str, bytes], digits: Split) -> None:
    def unknown(model: Any) -> None:
        model.operatorCodes[0].deprecatedBuiltinCode = model.operatorCodes[0].builtinCode = 32
        model.operatorCodes[0].customCode = b"Nonesuch"

    def two_inputs(model: Any) -> None:
        model.subgraphs[0].inputs = [model.subgraphs[0].inputs[0], model.subgraphs[0].operators[0].outputs[0]]

    images = digits.images[:2]
    refuses(b"", images, "LiteRT cannot run the file: ")
    refuses(b"not a model", images, "LiteRT cannot run the file: .*[Ff]latbuffer")
    refuses(files["int8"][:2000], images, "LiteRT cannot run the file: .*[Ff]latbuffer")
    refuses(edited(files["float32"], unknown), images, "LiteRT cannot run the file: .*Nonesuch")
    refuses(edited(files["float32"], two_inputs), images, "expected one input and one output, found 2 and 1")
    refuses(files["float32"], np.repeat(images, 3, axis=3), "LiteRT cannot run the file: .*[Dd]imension")
    refuses(files["int8"], images[:, :, :7], "LiteRT cannot run the file: .*[Dd]imension")
    with pytest.raises(MeasureError, match="Nonesuch"):
        benchmark.latency(edited(files["float32"], unknown))


CUTS = """
import sys, numpy as np
from sweep.tflite import benchmark
content = open(sys.argv[1], "rb").read()
for length in sorted({*range(0, len(content), 211), *range(len(content) - 9, len(content))}):
    try:
        benchmark.predict(content[:length], np.zeros((1, 8, 8, 1), np.uint8))
    except benchmark.MeasureError:
        continue
    sys.exit(f"{length} bytes ran")
assert "tensorflow" not in sys.modules
print("refused")
"""


def test_a_file_cut_short_is_refused(files: dict[str, bytes], tmp_path: Path) -> None:
    """In a subprocess, since native code may crash."""
    (tmp_path / "model.tflite").write_bytes(files["int4"])
    root = str(SCRIPT.parents[1])
    command = [sys.executable, "-c", CUTS, str(tmp_path / "model.tflite")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=root, timeout=60, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "refused"), done.stderr


@pytest.mark.parametrize("name", KINDS)
def test_latency_is_ordered_positive_and_bounded(files: dict[str, bytes], name: str) -> None:
    start = time.perf_counter()
    latency = benchmark.latency(files[name], repeats=10**9)
    assert time.perf_counter() - start < 3  # half a second, on a machine that may be busy
    assert 0 < latency.p10_ms <= latency.median_ms <= latency.p90_ms < 100
    once = benchmark.latency(files[name], repeats=1)
    assert once.p10_ms == once.median_ms == once.p90_ms


def test_gzip_bytes_are_deflate_at_level_9_plus_eighteen(files: dict[str, bytes]) -> None:
    for content in (b"", bytes(100_000), np.random.default_rng(0).bytes(1000), *files.values()):
        deflate = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
        assert Measurement(content=content).gzip_bytes == len(deflate.compress(content) + deflate.flush()) + 10 + 8


def test_the_script_confirms_a_file(
    files: dict[str, bytes],
    digits: Split,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    model, data = tmp_path / "model.tflite", tmp_path / "data.npz"
    model.write_bytes(files["int4"])
    np.savez(data, x_test=digits.images, y_test=digits.labels)
    for arguments in (["--digits"], [str(data), "--split", "test"]):
        monkeypatch.setattr(sys, "argv", [str(SCRIPT), str(model), *arguments])
        INDEPENDENT["main"]()
        report = json.loads(capsys.readouterr().out)
        assert report["accuracy"] == accuracy(files["int4"], digits)
        assert report["size_bytes"] == model.stat().st_size
        shapes = [("INT4", [8, 3, 3, 1]), ("INT4", [16, 3, 3, 8]), ("INT4", [10, 256])]
        assert [(weight["type"], weight["shape"]) for weight in report["weights"]] == shapes


def test_the_script_needs_nothing_of_the_project(files: dict[str, bytes], digits: Split, tmp_path: Path) -> None:
    (tmp_path / "model.tflite").write_bytes(files["int8"])
    np.savez(tmp_path / "data.npz", x_test=digits.images, y_test=digits.labels)
    block = "import sys, runpy; sys.modules['sweep'] = None; del sys.argv[0]; runpy.run_path(sys.argv[0], run_name='__main__')"
    command = [sys.executable, "-c", block, str(SCRIPT), "model.tflite", "data.npz"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["accuracy"] == accuracy(files["int8"], digits)
