"""The input and output of files, inferred from their tensors, and predictions with the inferred interface."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from made_files import by_hand, edited, tiny

from sweep.tflite import audit, benchmark, endpoints, litert
from sweep.tflite.endpoints import Endpoints, UnknownRangeError
from sweep.tflite.interface import OWN, Interface

INTEGERS = {"INT8": (-128, 127), "UINT8": (0, 255), "INT16": (-32768, 32767)}
IMAGES = np.random.default_rng(1).integers(0, 256, (40, 2, 2, 1), np.uint8)


def for_unscaled_pixels() -> bytes:
    """The tiny int8 file, its network one of pixels from 0 to 255: input values 255 times as large, weights as much smaller."""

    def change(graph: Any) -> None:
        graph.tensors[graph.inputs[0]].quantization.scale = [1.0]
        graph.tensors[1].quantization.scale = [0.01 / 255]

    return edited(tiny("INT8"), change)


@pytest.mark.parametrize(
    ("kind", "scale", "zero", "expected"),
    [
        ("INT8", 1 / 255, -128, (0, 1)),
        ("INT8", 0.94 / 255, -128, (0, 1)),  # calibrated on images without white pixels
        ("INT8", 0.2 / 255, -128, (0, 1)),
        ("INT8", 1.0, -128, (0, 255)),
        ("INT8", 0.99, -126, (0, 255)),
        ("UINT8", 1 / 255, 0, (0, 1)),
        ("UINT8", 1.0, 0, (0, 255)),
        ("INT8", 2 / 255, 0, (-1, 1)),
        ("INT8", 2 / 255, -1, (-1, 1)),
        ("UINT8", 0.0078125, 128, (-1, 1)),
        ("INT16", 1 / 32767, 0, (0, 1)),  # the zero point of int16 is always 0
        ("INT16", 255 / 32767, 0, (0, 255)),
    ],
)
def test_the_pixel_range_follows_from_scale_and_zero_point(kind, scale, zero, expected):
    span = tuple((limit - zero) * scale for limit in INTEGERS[kind])
    assert Endpoints((2, 2, 1), kind, span, 3, kind, sigmoid=False).range == expected


@pytest.mark.parametrize("span", [(-2.1, 2.6), (0, 8), (-75.0, 75.0), (-128.0, 127.0), (0.0, 1000.0), (-1.0, 3.0)])
def test_another_span_has_no_pixel_range(span):
    with pytest.raises(UnknownRangeError, match=f"^{span[0]:.4g} to {span[1]:.4g}$"):
        _ = Endpoints((2, 2, 1), "INT8", span, 3, "INT8", sigmoid=False).range


def test_a_float_input_has_the_range_of_this_project():
    io = endpoints.read(tiny("FLOAT32"))
    assert (io.shape, io.input_type, io.span, io.outputs) == ((2, 2, 1), "FLOAT32", None, 3)
    assert io.interface() == OWN
    assert io.interface((0.0, 255.0)) == Interface(0.0, 255.0)
    assert (OWN.pixels == np.arange(256, dtype=np.float32) / np.float32(255)).all()
    assert (Interface(0.0, 255.0).pixels == np.arange(256)).all()


def test_the_endpoints_of_an_integer_file():
    io = endpoints.read(tiny("INT8"))
    assert io.span == pytest.approx((0, 1))
    assert (io.input_type, io.output_type, io.sigmoid) == ("INT8", "INT8", False)


def test_a_file_of_unscaled_pixels_predicts_as_the_same_file_of_scaled_pixels():
    raw = for_unscaled_pixels()
    interface = endpoints.read(raw).interface()
    assert (interface.low, interface.high) == (0, 255)
    expected = by_hand(tiny("INT8"), IMAGES).argmax(axis=1)
    assert benchmark.predict(raw, IMAGES, interface=interface).tolist() == expected.tolist()
    assert len(set(expected.tolist())) > 1
    assert benchmark.predict(raw, IMAGES).tolist() != expected.tolist(), "as [0, 1] every pixel would be black"


def test_a_uint8_input_without_a_scale_takes_unscaled_pixels():
    def change(graph: Any) -> None:
        graph.tensors[graph.inputs[0]].type = schema.TensorType.UINT8
        graph.tensors[graph.inputs[0]].quantization = None

    io = endpoints.read(edited(tiny("INT8"), change))
    assert (io.span, io.range) == (None, (0, 255))


def test_a_file_with_a_larger_batch_size_runs_single_images():
    def change(graph: Any) -> None:
        graph.tensors[graph.inputs[0]].shape = [4, 2, 2, 1]
        graph.tensors[graph.outputs[0]].shape = [4, 3]

    several = edited(tiny("FLOAT32"), change)
    io = endpoints.read(several)
    assert (io.shape, io.outputs) == ((2, 2, 1), 3)
    assert litert.Network(several).shape == (1, 2, 2, 1)
    assert benchmark.predict(several, IMAGES).tolist() == by_hand(tiny("FLOAT32"), IMAGES).argmax(axis=1).tolist()
    assert audit.read(several).macs == audit.read(tiny("FLOAT32")).macs


def one_output(sigmoid: bool) -> bytes:
    """The tiny float file with only the first of its outputs, followed by a sigmoid where `sigmoid` is set."""
    from ai_edge_litert.tools import flatbuffer_utils

    model = flatbuffer_utils.read_model_from_bytearray(tiny("FLOAT32"))
    graph = model.subgraphs[0]
    for index in (1, 2):  # kernel and bias
        tensor = graph.tensors[index]
        values = np.frombuffer(model.buffers[tensor.buffer].data, np.float32).reshape(tensor.shape)[:1]
        tensor.shape = list(values.shape)
        model.buffers[tensor.buffer].data = np.frombuffer(values.tobytes(), np.uint8)
    graph.tensors[3].shape = [1, 1]
    if sigmoid:
        code, operator, tensor = schema.OperatorCodeT(), schema.OperatorT(), schema.TensorT()
        code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.LOGISTIC
        model.operatorCodes.append(code)
        tensor.name, tensor.shape, tensor.type, tensor.buffer = b"sigmoid", [1, 1], schema.TensorType.FLOAT32, 0
        graph.tensors.append(tensor)
        operator.opcodeIndex, operator.inputs, operator.outputs = 1, [3], [4]
        graph.operators.append(operator)
        graph.outputs = [4]
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


@pytest.mark.parametrize("sigmoid", [False, True])
def test_a_single_output_has_a_threshold(sigmoid):
    content = one_output(sigmoid)
    io = endpoints.read(content)
    assert (io.outputs, io.sigmoid, io.interface().threshold) == (1, sigmoid, 0.5 if sigmoid else 0.0)
    expected = (by_hand(tiny("FLOAT32"), IMAGES)[:, 0] > 0).astype(int)
    assert 0 < expected.sum() < len(IMAGES)
    assert benchmark.predict(content, IMAGES, interface=io.interface()).tolist() == expected.tolist()


def refused(change: Any, kind: str = "INT8") -> str:
    with pytest.raises(audit.AuditError) as raised:
        endpoints.read(edited(tiny(kind), change))
    return str(raised.value)


def test_unsupported_inputs_and_outputs_are_refused():
    def two_inputs(graph: Any) -> None:
        graph.inputs = [0, 2]

    def string(graph: Any) -> None:
        graph.tensors[graph.inputs[0]].type = schema.TensorType.STRING

    def boolean(graph: Any) -> None:
        graph.tensors[graph.outputs[0]].type = schema.TensorType.BOOL

    def no_scale(graph: Any) -> None:
        graph.tensors[graph.inputs[0]].quantization = None

    assert refused(two_inputs) == "expected one input and one output, found 2 and 1"
    assert refused(string) == "expected an input of type INT8, UINT8, INT16, FLOAT32, found STRING"
    assert refused(boolean) == "expected an output of type INT8, UINT8, INT16, INT32, FLOAT32, found BOOL"
    assert refused(no_scale) == "expected an input of type INT8 to have a scale, found none"
    with pytest.raises(audit.AuditError):
        endpoints.read(b"not a model")
