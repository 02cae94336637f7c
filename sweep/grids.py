"""The integer grids of a `.tflite` file's weights: whose they are, and putting back the one that was trained.

A file holds weights as INT4 or INT8; a grid of 3, 5, 6 or 7 bits lies in the next larger of the two. The converter stretches it
over the whole range of that type and rounds: of 3 bits in INT4, -3…3 become 0, ±2, ±5, ±7, no longer evenly spaced, so the file
computes something else than was trained. Here the steps become even again, and the scales follow.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from sweep.records import Array

_LAYER = re.compile(r"(?:^|/)quant_([^/;]+)/")
# Container type to the largest value of a symmetric grid in it.
_LARGEST = {"INT4": 7, "INT8": 127}
# The operators with kernels that are quantised and packed here, and where these and their biases are among the inputs.
COMPUTE = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
KERNEL, BIAS = 1, 2


def layer_of(tensor: str) -> str | None:
    """The Keras layer that a fake-quantised kernel came from, by its tensor's name in the file; None where it does not tell."""
    found = _LAYER.search(tensor)
    return found.group(1) if found else None


def largest(bits: int) -> int:
    """The largest value of a symmetric grid of so many bits: 1 for 2 bits, 127 for 8."""
    return int(2 ** (bits - 1) - 1)


def mend(content: bytes, bits: Mapping[str, int]) -> bytes:
    """The file with every kernel on the grid that it was trained on.

    With container maximum C and grid maximum B, k = C // B: a stored value v becomes round(v B / C) k, its scale is multiplied
    with C / (B k), and a bias, whose scale is the product of the input's and the kernel's, is divided by the same and rounded.

    Args:
        content: the bytes of a full-integer `.tflite`.
        bits: layer name to the bits of its kernel's grid, 2 to 8.

    Returns:
        The same bytes where every grid fills its container (2, 4 and 8 bits).
    """
    if all(_LARGEST["INT4" if one <= 4 else "INT8"] % largest(one) == 0 for one in bits.values()):
        return content
    model, codes, types = parsed(content)
    graph, done = model.subgraphs[0], set()
    for operator in graph.operators:
        if codes[operator.opcodeIndex] not in COMPUTE:
            continue
        at_kernel = operator.inputs[KERNEL]
        kernel = graph.tensors[at_kernel]
        width, container = bits.get(layer_of(kernel.name.decode()) or ""), types[kernel.type]
        if width is None or container not in _LARGEST or at_kernel in done:
            continue
        done.add(at_kernel)
        most, grid = _LARGEST[container], largest(width)
        step = most // grid
        values = _unpacked(model.buffers[kernel.buffer].data, container)
        store(model, kernel, _packed(np.round(values * (grid / most)) * step, container))
        stretch = most / (grid * step)
        kernel.quantization.scale = np.float32(kernel.quantization.scale * stretch)
        if len(operator.inputs) > BIAS and operator.inputs[BIAS] >= 0:
            bias = graph.tensors[operator.inputs[BIAS]]
            old = np.frombuffer(model.buffers[bias.buffer].data, np.int32)
            store(model, bias, np.round(old / stretch).astype(np.int32).view(np.uint8))
            bias.quantization.scale = np.float32(bias.quantization.scale * stretch)
    return written(model)


def parsed(content: bytes) -> tuple[Any, list[str], dict[int, str]]:
    """A `.tflite` file as an object, the names of its operator codes in order, and the names of all tensor types."""
    from ai_edge_litert.schema_py_generated import BuiltinOperator, TensorType
    from ai_edge_litert.tools import flatbuffer_utils

    model = flatbuffer_utils.read_model_from_bytearray(content)
    operators, types = ({value: name for name, value in vars(enum).items()} for enum in (BuiltinOperator, TensorType))
    codes = [operators[flatbuffer_utils.get_builtin_code_from_operator_code(code)] for code in model.operatorCodes]
    return model, codes, types


def written(model: Any) -> bytes:
    """The bytes of a parsed file."""
    from ai_edge_litert.tools import flatbuffer_utils

    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def store(model: Any, tensor: Any, data: Array) -> None:
    """Give a tensor other bytes, and its buffer to them alone: equal constants share one, and may differ from now on.

    Args:
        model: the parsed file.
        tensor: one of its tensors.
        data: uint8 (bytes,).
    """
    users = [one for graph in model.subgraphs for one in graph.tensors if one.buffer == tensor.buffer]
    if len(users) > 1:
        model.buffers.append(type(model.buffers[0])())
        tensor.buffer = len(model.buffers) - 1
    model.buffers[tensor.buffer].data = data


def _unpacked(data: Array, container: str) -> Array:
    """int8 values of a buffer's bytes; of INT4 two a byte, the lower half first (a spare last one included)."""
    stored = np.frombuffer(data, np.int8)
    return np.stack([stored << 4 >> 4, stored >> 4], axis=1).ravel() if container == "INT4" else stored


def _packed(values: Array, container: str) -> Array:
    """The buffer's bytes (uint8) of such values."""
    stored = values.astype(np.int8).view(np.uint8)
    return (stored[0::2] & 15) | (stored[1::2] << 4) if container == "INT4" else stored
