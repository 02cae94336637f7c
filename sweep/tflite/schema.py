"""Parses a `.tflite` file into the objects of its schema, replaces the data of tensors, and serialises it."""

from __future__ import annotations

import re
from typing import Any

from sweep.core.types import Array
from sweep.tflite import flatbuffer

_FAKE_QUANTISED = re.compile(r"(?:^|/)quant_([^/;]+)/")
_PLAIN = re.compile(r"([^/;]+)/(?:Conv2D|depthwise|MatMul|Tensordot/MatMul)\d*(?:;|$)")

RESTORING = frozenset({"DEQUANTIZE", "QUANTIZE", "DENSIFY"})
"""The operators that may lie between a stored constant and the operator that reads it."""


def layer_of(tensor: str) -> str | None:
    """The Keras layer of a kernel.

    Args:
        tensor: the name of the kernel's tensor in the file.

    Returns:
        The layer's name; None where the tensor's name does not contain it.
    """
    layers = _FAKE_QUANTISED.findall(tensor)[:1] or _PLAIN.findall(tensor)[-1:]
    return layers[0] if layers else None


def parsed(content: bytes) -> tuple[Any, list[str], dict[int, str]]:
    """Parses a `.tflite` file.

    Args:
        content: the file's bytes.

    Returns:
        The file as a `ModelT`; the builtin names of its operator codes, in order; and tensor type codes to names.

    Raises:
        DamagedError: for bytes that are not a well-formed file.
    """
    from ai_edge_litert.schema_py_generated import BuiltinOperator, TensorType
    from ai_edge_litert.tools import flatbuffer_utils

    flatbuffer.require_structure(content)
    operators = {value: name for name, value in vars(BuiltinOperator).items()}
    types = {value: name for name, value in vars(TensorType).items()}
    with flatbuffer.damage_errors():
        model = flatbuffer_utils.read_model_from_bytearray(content)
    flatbuffer.require_indices(model, operators, types)
    codes = [operators[flatbuffer_utils.get_builtin_code_from_operator_code(code)] for code in model.operatorCodes or []]
    return model, codes, types


def damage(content: bytes) -> str:
    """Describes why bytes are not a well-formed `.tflite` file; an empty string where they are."""
    try:
        parsed(content)
    except flatbuffer.DamagedError as error:
        return str(error)
    return ""


def to_bytes(model: Any) -> bytes:
    """Serialises a parsed file."""
    from ai_edge_litert.tools import flatbuffer_utils

    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def store(model: Any, tensor: Any, data: Array) -> None:
    """Replaces the data of a tensor, in place. If other tensors share its buffer, the tensor gets a new buffer.

    Args:
        model: the parsed file.
        tensor: the tensor, of that file.
        data: uint8 (bytes,).
    """
    users = [user for graph in model.subgraphs for user in graph.tensors if user.buffer == tensor.buffer]
    if len(users) > 1:
        model.buffers.append(type(model.buffers[0])())
        tensor.buffer = len(model.buffers) - 1
    model.buffers[tensor.buffer].data = data
