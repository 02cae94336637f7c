"""Files that several tests use, written by hand or converted, and a reference for LiteRT's logits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from ai_edge_litert.tools import flatbuffer_utils

from sweep.core.types import Array, Storage
from sweep.models import checkpoints
from sweep.tflite import convert


def tflite(seed: int = 0, kind: str = "INT8") -> bytes:
    """A real file: one fully connected layer of 4 inputs and 3 outputs."""
    types = schema.TensorType
    weights = np.random.default_rng(seed).integers(-127, 128, (3, 4), np.int8)
    bias = np.zeros(3, np.int32)
    if kind == "FLOAT32":
        weights, bias = weights.astype(np.float32), bias.astype(np.float32)
    io_type, bias_type = getattr(types, kind), types.INT32 if kind == "INT8" else types.FLOAT32
    model, graph, code, operator = schema.ModelT(), schema.SubGraphT(), schema.OperatorCodeT(), schema.OperatorT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.FULLY_CONNECTED
    operator.inputs, operator.outputs = [0, 1, 2], [3]
    operator.builtinOptionsType = schema.BuiltinOptions.FullyConnectedOptions
    operator.builtinOptions = schema.FullyConnectedOptionsT()
    model.version, model.operatorCodes, model.subgraphs, model.buffers = 3, [code], [graph], []
    for data in (None, weights, bias):
        buffer = schema.BufferT()
        buffer.data = None if data is None else np.frombuffer(data.tobytes(), np.uint8)
        model.buffers.append(buffer)
    graph.tensors, graph.inputs, graph.outputs, graph.operators = [], [0], [3], [operator]
    for name, shape, tensor_type, buffer_index, scale, zero in (
        (b"in", [1, 4], io_type, 0, 1 / 255, -128),
        (b"kernel", [3, 4], io_type, 1, 0.01, 0),
        (b"bias", [3], bias_type, 2, 0.01 / 255, 0),
        (b"out", [1, 3], io_type, 0, 0.05, 0),
    ):
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.type, tensor.buffer = name, shape, tensor_type, buffer_index
        if kind == "INT8":
            tensor.quantization = schema.QuantizationParametersT()
            tensor.quantization.scale, tensor.quantization.zeroPoint = [scale], [zero]
        graph.tensors.append(tensor)
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def edited(content: bytes, change: Callable[[Any], None]) -> bytes:
    """The file after `change` has edited its main graph."""
    model = flatbuffer_utils.read_model_from_bytearray(content)
    change(model.subgraphs[0])
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def tiny(kind: str) -> bytes:
    """A real file, written by hand: images of (2, 2, 1), three classes; the output of an integer file has the zero point 5."""

    def change(graph: Any) -> None:
        graph.tensors[graph.inputs[0]].shape = [1, 2, 2, 1]
        if kind == "INT8":
            graph.tensors[graph.outputs[0]].quantization.zeroPoint = [5]

    return edited(tflite(kind=kind), change)


def by_hand(content: bytes, images: Array) -> Array:
    """The logits of uint8 images, quantised and dequantised number by number in Python's arithmetic."""
    interpreter = Interpreter(model_content=content, num_threads=1)
    interpreter.allocate_tensors()
    (input_details,), (output_details,) = interpreter.get_input_details(), interpreter.get_output_details()
    rows = []
    for image in images:
        pixels = [value / np.float32(255) for value in image.astype(np.float32).ravel()]
        if input_details["dtype"] is np.int8:
            scale, zero = input_details["quantization"]
            pixels = [min(max(round(float(value / np.float32(scale)) + zero), -128), 127) for value in pixels]
        pixels = np.array(pixels, input_details["dtype"]).reshape(input_details["shape"])
        interpreter.set_tensor(input_details["index"], pixels)
        interpreter.invoke()
        row = interpreter.get_tensor(output_details["index"])[0].tolist()
        if output_details["dtype"] is np.int8:
            scale, zero = output_details["quantization"]
            row = [(value - zero) * float(np.float32(scale)) for value in row]
        rows.append(np.array(row, np.float32))
    return np.stack(rows)


def written(stage, network, made):
    """The Keras model that a stage passes to the converter, and the resulting file."""
    checkpoints.fresh(0)
    model, calibration = stage.restore(network, made.data.train)
    if calibration is None:
        return model, convert.convert(model, stage.storage, network.bits)
    return model, convert.quantise(convert.convert(checkpoints.restore(network), Storage.FLOAT32), calibration)
