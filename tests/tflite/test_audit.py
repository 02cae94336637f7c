"""The audit against networks with known counts, edited files and damaged files."""

from __future__ import annotations

import os
import runpy
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sweep.core.errors import ConfigError
from sweep.core.types import Array, Storage
from sweep.tflite import audit, expectations
from sweep.tflite.audit import Audit, AuditError

os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

INDEPENDENT = runpy.run_path(str(Path(__file__).parents[1] / "independent.py"))

# The network: 5x5x1 -> conv 3x3, 3 filters -> depthwise 3x3 -> conv 1x1, 3 filters -> add the first -> flatten -> dense 15.
SIZES = (27, 27, 9, 1125)  # all odd, so that INT4 leaves half a byte
ZEROS = (5, 4, 2, 600)
SHAPES = ((3, 3, 3, 1), (1, 3, 3, 3), (3, 1, 1, 3), (15, 75))
OPERATORS = ("CONV_2D", "DEPTHWISE_CONV_2D", "CONV_2D", "ADD", "RESHAPE", "FULLY_CONNECTED")
PARAMETERS = 27 + 3 + 27 + 3 + 9 + 3 + 1125 + 15
NONZERO = PARAMETERS - (5 + 4 + 2 + 600) - 1  # one bias is zero
MACS = 25 * 3 * 9 + 25 * 3 * 9 + 25 * 3 * 3 + 1125
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("tensorflow")]

STORAGES = {
    "float32": Storage.FLOAT32,
    "float16": Storage.FLOAT16,
    "dynamic": Storage.DYNAMIC,
    "int8": Storage.INTEGER,
    "int4": Storage.INTEGER,
}
BITS = {"int8": 8, "int4": 4}


def all_at(bits: int) -> dict[str, int]:
    """The same grid in each layer of `files`."""
    return dict.fromkeys(("c0", "d1", "c2", "logits"), bits)


def planted(shape: tuple[int, ...], channels: int, zeros: int) -> Array:
    """Whole numbers of -7 to 7 that any of the grids holds exactly: each channel reaches 7, and `zeros` of them are zero."""
    values = np.random.default_rng(0).choice([v for v in range(-7, 8) if v], shape).astype(np.float32).reshape(-1, channels)
    values[0] = 7
    values.reshape(-1)[values.size - zeros :] = 0
    return values.reshape(shape)


KERNELS = (
    planted((3, 3, 1, 3), 3, ZEROS[0]),
    planted((3, 3, 3, 1), 3, ZEROS[1]),
    planted((1, 1, 3, 3), 3, ZEROS[2]),
    planted((75, 15), 15, ZEROS[3]),
)
BIASES = ([1, 0, 2], [1, 2, 3], [1, 1, 1], list(range(1, 16)))
LEVELS = tuple(len(np.unique(kernel)) for kernel in KERNELS)


@pytest.fixture(scope="module")
def quiet() -> Iterator[None]:
    """Ignores the warnings of TensorFlow and TFMOT."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.fixture(scope="module")
def files(quiet: None) -> dict[str, bytes]:
    """The network in every kind of file."""
    import tf_keras as keras
    from tensorflow_model_optimization.python.core.quantization.keras import quantize
    from tensorflow_model_optimization.python.core.quantization.keras.experimental.default_n_bit import (
        default_n_bit_quantize_scheme as n_bit,
    )

    from sweep.tflite.convert import convert

    layers = keras.layers
    image = layers.Input((5, 5, 1), name="image")
    first = layers.Conv2D(3, 3, padding="same", activation="relu", name="c0")(image)
    x = layers.DepthwiseConv2D(3, padding="same", activation="relu", name="d1")(first)
    x = layers.ReLU(name="relu")(layers.Add(name="add")([layers.Conv2D(3, 1, name="c2")(x), first]))
    model = keras.Model(image, layers.Dense(15, name="logits")(layers.Flatten(name="flat")(x)))
    model.set_weights([np.asarray(array, np.float32) for pair in zip(KERNELS, BIASES, strict=True) for array in pair])
    made = {name: convert(model, STORAGES[name]) for name in ("float32", "float16", "dynamic")}
    for name, bits in BITS.items():
        scheme = n_bit.DefaultNBitQuantizeScheme(num_bits_weight=bits, num_bits_activation=8)
        fake = quantize.quantize_apply(quantize.quantize_annotate_model(model), scheme)
        fake(np.random.default_rng(0).random((8, 5, 5, 1), np.float32), training=True)  # sets the ranges
        made[name] = convert(fake, Storage.INTEGER)
    return made


@pytest.fixture(scope="module")
def repeated(quiet: None) -> bytes:
    """4x4x3 -> one 3x3 convolution used twice -> two 3x3 convolutions of zeros -> transposed 3x3, stride 2: 8x8x2."""
    import tf_keras as keras

    from sweep.tflite.convert import convert

    layers = keras.layers
    image = layers.Input((4, 4, 3), name="image")
    twice = layers.Conv2D(3, 3, padding="same", bias_initializer="ones", name="twice")
    x = twice(twice(image))
    for name in ("a", "b"):
        bias = keras.initializers.Constant(1 if name == "a" else 2)
        x = layers.Conv2D(3, 3, padding="same", kernel_initializer="zeros", bias_initializer=bias, name=name)(x)
    x = layers.Conv2DTranspose(2, 3, strides=2, padding="same", bias_initializer="ones", name="t")(x)
    return convert(keras.Model(image, x), Storage.FLOAT32)


def edited(content: bytes, change: Callable[[Any], None]) -> bytes:
    """The file after `change` has worked on its parsed model."""
    from ai_edge_litert.tools import flatbuffer_utils

    model = flatbuffer_utils.read_model_from_bytearray(content)
    change(model)
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def kernel(model: Any, number: int) -> Any:
    """The kernel tensor of the compute operator at an index, in an integer or float32 file."""
    graph = model.subgraphs[0]
    operators = [op for op, name in zip(graph.operators, OPERATORS, strict=True) if name not in ("ADD", "RESHAPE")]
    return graph.tensors[operators[number].inputs[1]]


def fill(model: Any, number: int, type_name: str, values: Array, points: list[int]) -> None:
    """Give a kernel another type, other bytes and other zero points."""
    from ai_edge_litert.schema_py_generated import TensorType

    tensor = kernel(model, number)
    tensor.type = getattr(TensorType, type_name)
    tensor.quantization.zeroPoint = np.array(points, np.int64)
    model.buffers[tensor.buffer].data = values.view(np.uint8)


@pytest.mark.parametrize("name", STORAGES)
def test_every_count_equals_the_count_by_hand(files: dict[str, bytes], name: str) -> None:
    seen = audit.read(files[name])
    types = {
        "float32": ["FLOAT32"] * 4,
        "float16": ["FLOAT16"] * 4,
        "dynamic": ["FLOAT32"] * 3 + ["INT8"],
        "int8": ["INT8"] * 4,
        "int4": ["INT4"] * 4,
    }[name]
    bits = [{"FLOAT32": 32, "FLOAT16": 16, "INT8": 8, "INT4": 4}[kind] for kind in types]
    assert [k.operator for k in seen.kernels] == [op for op in OPERATORS if op not in ("ADD", "RESHAPE")]
    assert [k.type for k in seen.kernels] == types
    assert [k.bits for k in seen.kernels] == bits
    assert tuple(k.shape for k in seen.kernels) == SHAPES
    assert tuple(k.size for k in seen.kernels) == SIZES
    assert tuple(k.zeros for k in seen.kernels) == ZEROS
    assert tuple(k.levels for k in seen.kernels) == LEVELS
    assert (seen.parameters, seen.nonzero_parameters, seen.macs) == (PARAMETERS, NONZERO, MACS)
    assert seen.distinct_weight_levels == max(LEVELS)
    assert seen.weight_bits == sum(b * size for b, size in zip(bits, SIZES, strict=True)) / sum(SIZES)
    assert seen.operators == (("DEQUANTIZE",) * 8 if name == "float16" else ()) + OPERATORS
    assert {seen.input_type, seen.output_type} == {"INT8" if name in BITS else "FLOAT32"}
    assert bool(seen.float_tensors) == (name not in BITS)


def test_sparsity_is_of_the_targeted_kernels_only(files: dict[str, bytes]) -> None:
    for content in files.values():
        seen = audit.read(content)
        assert (seen.zeros("conv"), seen.zeros("dense"), seen.zeros("all")) == (7, 600, 607)
        assert (seen.sparsity("conv"), seen.sparsity("dense"), seen.sparsity("all")) == (7 / 36, 600 / 1125, 607 / 1161)
        with pytest.raises(ConfigError, match="one of conv, dense, all"):
            seen.zeros("depthwise")


@pytest.mark.parametrize("name", STORAGES)
def test_an_independent_reader_sees_the_same_weights(files: dict[str, bytes], name: str) -> None:
    independent = INDEPENDENT["weights"](files[name])
    ours = audit.read(files[name]).kernels
    assert [(w["name"], w["operator"], w["type"], tuple(w["shape"]), w["zeros"]) for w in independent] == [
        (k.name, k.operator, k.type, k.shape, k.zeros) for k in ours
    ]


def test_a_shared_kernel_counts_once_and_emptied_layers_each(repeated: bytes) -> None:
    seen = audit.read(repeated)
    assert [k.operator for k in seen.kernels] == ["CONV_2D"] * 3 + ["TRANSPOSE_CONV"]
    assert seen.kernels[1].name == seen.kernels[2].name, "the converter merges kernels of zeros: the case this test is about"
    assert seen.parameters == 3 * (81 + 3) + 54 + 2
    assert seen.nonzero_parameters == seen.parameters - 2 * 81
    assert seen.macs == 4 * 16 * 3 * 27 + 16 * 3 * 9 * 2
    assert (seen.zeros("conv"), seen.sparsity("conv")) == (162, 162 / 243)
    assert (seen.zeros("dense"), seen.sparsity("dense")) == (0, 0.0)


def test_zero_means_the_zero_point_of_the_channel(files: dict[str, bytes]) -> None:
    ones = np.ones(27, np.int8)
    for number, points, zeros in ((0, [1, 0, 1], 18), (0, [1], 27), (0, [], 0), (1, [0, 1, 0], 9), (1, [-1, 2, 0], 0)):
        changed = edited(files["int8"], lambda model, n=number, p=points: fill(model, n, "INT8", ones, p))  # type: ignore[misc]
        assert audit.read(changed).kernels[number].zeros == zeros
        assert audit.read(changed).kernels[number].levels == 1


@pytest.mark.parametrize(("type_name", "low", "high"), [("INT4", -8, 7), ("INT2", -2, 1)])
def test_packed_weights_unpack_in_order(files: dict[str, bytes], type_name: str, low: int, high: int) -> None:
    values = np.random.default_rng(1).integers(low, high + 1, 27)
    width = 4 if type_name == "INT4" else 2
    number = sum(int(v) % 2**width << position * width for position, v in enumerate(values))  # one long little-endian integer
    packed = np.frombuffer(number.to_bytes(-(-27 * width // 8), "little"), np.uint8)
    points = [int(p) for p in values.reshape(3, 9)[:, -1]]  # other channels' zero points: order matters
    seen = audit.read(edited(files["int8"], lambda model: fill(model, 0, type_name, packed, points))).kernels[0]
    assert (seen.type, seen.bits, seen.levels) == (type_name, width, len(set(values.tolist())))
    assert seen.zeros == int((values.reshape(3, 9) == np.array(points)[:, None]).sum())


def by_offset(content: bytes) -> bytes:
    """The same file with every buffer behind the flatbuffer, as the converter stores models of more than 2 GB."""
    from ai_edge_litert.tools import flatbuffer_utils

    model = flatbuffer_utils.read_model_from_bytearray(content)
    data = [None if buffer.data is None else bytes(buffer.data) for buffer in model.buffers]
    for buffer, stored in zip(model.buffers, data, strict=True):
        if stored is not None:
            buffer.data, buffer.offset, buffer.size = None, 2, len(stored)
    made = bytearray(flatbuffer_utils.convert_object_to_bytearray(model))
    for number, stored in sorted(enumerate(data), key=lambda item: len(item[1] or b"")):  # the dense kernel last
        if stored is not None:
            made += bytes(-len(made) % 16)
            flatbuffer_utils.update_packed_buffer(flatbuffer_utils.Model.GetRootAs(made).Buffers(number), offset=len(made))
            made += stored
    return bytes(made)


@pytest.mark.parametrize("name", STORAGES)
def test_buffers_stored_by_offset(files: dict[str, bytes], name: str) -> None:
    moved = by_offset(files[name])
    assert audit.read(moved) == audit.read(files[name])
    assert INDEPENDENT["weights"](moved) == INDEPENDENT["weights"](files[name])
    with pytest.raises(AuditError, match="bytes for"):
        audit.read(moved[:-2])


def test_stripped_names_become_numbers(files: dict[str, bytes]) -> None:
    from ai_edge_litert.tools import flatbuffer_utils

    seen, stripped = audit.read(files["int4"]), audit.read(edited(files["int4"], flatbuffer_utils.strip_strings))
    assert all(k.name.startswith("tensor ") for k in stripped.kernels)
    assert replace(stripped, kernels=()) == replace(seen, kernels=())


@pytest.mark.parametrize("name", STORAGES)
def test_a_file_that_matches_its_configuration_passes(files: dict[str, bytes], name: str) -> None:
    expectations.expect(
        audit.read(files[name]),
        storage=STORAGES[name],
        bits=all_at(BITS[name]) if name in BITS else None,
        zeros=607,
        layers="all",
    )
    expectations.expect(audit.read(files[name]), storage=STORAGES[name], zeros=7, layers="conv")


@pytest.mark.parametrize(
    ("name", "asked", "message"),
    [
        (
            "int8",
            {"storage": Storage.INTEGER, "bits": all_at(4)},
            r"the CONV_2D kernel '.*c0.*': expected INT4, found INT8",
        ),
        (
            "int4",
            {"storage": Storage.INTEGER, "bits": all_at(8)},
            r"the CONV_2D kernel '.*c0.*': expected INT8, found INT4",
        ),
        ("int4", {"storage": Storage.INTEGER, "bits": all_at(3)}, r"expected at most 8 levels \(3 bits\), found \d+"),
        ("float32", {"storage": Storage.INTEGER, "bits": all_at(8)}, "the input tensor: expected INT8, found FLOAT32"),
        ("int8", {"storage": Storage.FLOAT32}, "the input tensor: expected FLOAT32, found INT8"),
        ("float32", {"storage": Storage.FLOAT16}, r"the CONV_2D kernel '.*c0.*': expected FLOAT16, found FLOAT32"),
        ("float16", {"storage": Storage.FLOAT32}, r"the CONV_2D kernel '.*c0.*': expected FLOAT32, found FLOAT16"),
        ("float32", {"storage": Storage.DYNAMIC}, r"the FULLY_CONNECTED kernel '.*logits.*': expected INT8, found FLOAT32"),
        ("dynamic", {"storage": Storage.FLOAT32}, r"the FULLY_CONNECTED kernel '.*logits.*': expected FLOAT32, found INT8"),
        ("int4", {"storage": Storage.INTEGER, "zeros": 608}, "expected at least 608 zeros, found 607"),
        (
            "int4",
            {"storage": Storage.INTEGER, "zeros": 8, "layers": "conv"},
            "the CONV_2D kernels: expected at least 8 zeros, found 7",
        ),
        (
            "int8",
            {"storage": Storage.INTEGER, "filters": 20},
            "the CONV_2D and FULLY_CONNECTED kernels: expected 20 filters, found 21",
        ),
        ("dynamic", {"storage": Storage.DYNAMIC, "zeros": 601, "layers": "dense"}, "expected at least 601 zeros, found 600"),
    ],
)
def test_a_file_that_differs_from_its_configuration_is_refused(
    files: dict[str, bytes], name: str, asked: dict[str, Any], message: str
) -> None:
    with pytest.raises(AuditError, match=message):
        expectations.expect(audit.read(files[name]), **asked)


def retyped(content: bytes, pick: Callable[[Any], int]) -> Audit:
    """The audit after the type of the tensor that `pick` selects is changed to float32."""

    def change(model: Any) -> None:
        model.subgraphs[0].tensors[pick(model.subgraphs[0])].type = 0

    return audit.read(edited(content, change))


def test_a_single_tensor_that_differs_is_refused(files: dict[str, bytes]) -> None:
    changed = edited(files["int4"], lambda model: fill(model, 1, "INT8", np.ones(27, np.int8), [0, 0, 0]))
    with pytest.raises(AuditError, match=r"the DEPTHWISE_CONV_2D kernel '.*d1.*': expected INT4, found INT8"):
        expectations.expect(audit.read(changed), storage=Storage.INTEGER, bits=all_at(4))
    with pytest.raises(AuditError, match=r"kernel '.*logits.*': expected a layer out of c0, d1, c2, found logits"):
        expectations.expect(audit.read(files["int4"]), storage=Storage.INTEGER, bits={"c0": 4, "d1": 4, "c2": 4})
    with pytest.raises(AuditError, match="the output tensor: expected INT8, found FLOAT32"):
        expectations.expect(retyped(files["int8"], lambda graph: graph.outputs[0]), storage=Storage.INTEGER, bits=all_at(8))
    with pytest.raises(AuditError, match=r"the tensor '.*add.*': expected an integer, found a float"):
        expectations.expect(
            retyped(files["int8"], lambda graph: graph.operators[3].outputs[0]), storage=Storage.INTEGER, bits=all_at(8)
        )
    with pytest.raises(AuditError, match="found none"):
        expectations.expect(replace(audit.read(files["int8"]), kernels=()), storage=Storage.INTEGER, bits=all_at(8))


def test_the_error_for_a_merged_kernel_names_its_layer(files: dict[str, bytes]) -> None:
    def unnamed(model: Any) -> None:
        kernel(model, 2).name = b"tfl.dequantize"

    audited = audit.read(edited(files["int8"], unnamed))
    with pytest.raises(AuditError, match=r"kernel 'tfl.dequantize' of the layer 'c2': expected a layer out of .*, found none"):
        expectations.expect(audited, storage=Storage.INTEGER, bits=all_at(8))
    floating = replace(audited.kernels[2], type="FLOAT32")
    with pytest.raises(AuditError, match=r"kernel 'tfl.dequantize' of the layer 'c2': expected INT4 or INT8, found FLOAT32"):
        expectations.expect(replace(audited, kernels=(floating,)), storage=Storage.INTEGER, bits=all_at(8))


def test_an_inconsistent_file_is_refused(files: dict[str, bytes]) -> None:
    def longer(model: Any) -> None:
        kernel(model, 0).shape = [3, 3, 3, 2]

    def shorter(model: Any) -> None:
        kernel(model, 0).shape = [3, 2, 3, 1]

    def sparse(model: Any) -> None:
        from ai_edge_litert.schema_py_generated import SparsityParametersT

        kernel(model, 0).sparsity = SparsityParametersT()

    def circular(model: Any) -> None:
        model.subgraphs[0].operators[0].inputs = model.subgraphs[0].operators[0].outputs

    def two_inputs(model: Any) -> None:
        model.subgraphs[0].inputs = [0, 0]

    for name, change, message in (
        ("int4", longer, "expected 27 bytes for INT4"),
        ("int4", shorter, "expected 9 bytes for INT4"),
        ("float32", sparse, "expected rows that are compressed along the last dimension"),
        ("float16", circular, "found a cycle"),
        ("int8", two_inputs, "expected one input and one output, found 2 and 1"),
    ):
        with pytest.raises(AuditError, match=message):
            audit.read(edited(files[name], change))


def test_other_bytes_are_refused() -> None:
    noise = np.random.default_rng(0)
    for content in (b"", b"TFL3", b"\x89PNG\r\n\x1a\n" * 9, *(noise.bytes(size) for size in (1, 7, 8, 100, 5000))):
        with pytest.raises(AuditError, match=r"expected a \.tflite file"):
            audit.read(content)
    for content in (b"\x10\0\0\0TFL3", *(b"\x10\0\0\0TFL3" + noise.bytes(2000) for _ in range(100))):
        with pytest.raises(AuditError, match=r"damaged|expected"):
            audit.read(content)


@pytest.mark.parametrize("name", STORAGES)
def test_a_file_cut_short_is_refused(files: dict[str, bytes], name: str) -> None:
    content = files[name]
    for length in {*range(0, len(content), 61), *range(len(content) - 40, len(content))}:
        with pytest.raises(AuditError):
            audit.read(content[:length])


def test_damage_is_never_another_error_and_never_hangs(files: dict[str, bytes]) -> None:
    start, refusals = time.perf_counter(), []
    for name, content in files.items():
        for seed in range(60):
            noise = np.random.default_rng(seed)
            damaged = np.frombuffer(content, np.uint8).copy()
            damaged[noise.integers(8, len(content), 1 + seed % 20)] = noise.integers(0, 256, 1 + seed % 20)
            try:
                assert audit.read(damaged.tobytes()).parameters >= 0, name
            except AuditError as error:
                refusals.append(str(error))
    assert len(refusals) > 50, "the damage is too mild to test anything"
    assert not any("\n" in refusal for refusal in refusals)
    assert time.perf_counter() - start < 20
