"""Stores the kernels of a `.tflite` file by their nonzero weights, which changes nothing that it computes.

The converter can store sparse kernels too, but writes files that LiteRT's XNNPACK delegate refuses to run (a sparse
fully-connected int8 layer) and aborts the process on INT4. Here a kernel that becomes smaller is stored in compressed sparse
rows (along the last dimension, the input channels), and a DENSIFY operator restores it when the interpreter starts. So the file
is smaller and computes the same, no faster. INT4, which DENSIFY does not take, and kernels that the delegate would refuse stay
dense.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from sweep.core.types import Array
from sweep.tflite import flatbuffer
from sweep.tflite.schema import parsed, store, to_bytes
from sweep.tflite.weight_storage import KERNEL, REWRITTEN, TYPES

_COMPRESSIBLE = ("FLOAT32", "FLOAT16", "INT8")  # that DENSIFY takes
# About what a sparse kernel costs besides, in a file that is packed: a second tensor, an operator, the description.
_OVERHEAD = 220
_MOST_WEIGHTS = 1 << 27  # weights of a kernel that is restored: a few damaged bytes may ask for any number
_ROWS = 1  # of a dimension's format: compressed


def compress(content: bytes) -> bytes:
    """Stores every kernel sparsely that is smaller so once the file is packed.

    Args:
        content: the bytes of a `.tflite`.

    Returns:
        The file's bytes; those of `content` where no kernel is smaller.

    Raises:
        DamagedError: for bytes that are no such file.
    """
    with flatbuffer.damage_errors():
        return _compress(content)


def _compress(content: bytes) -> bytes:
    from ai_edge_litert import schema_py_generated as schema

    model, codes, types = parsed(content)
    graph = model.subgraphs[0]
    source = {operator.outputs[0]: operator for operator in graph.operators if codes[operator.opcodeIndex] == "DEQUANTIZE"}
    restored: dict[int, int] = {}
    for operator in [operator for operator in graph.operators if codes[operator.opcodeIndex] in REWRITTEN]:
        reader, position = operator, KERNEL
        if operator.inputs[position] in source:  # float16 weights become float32 first
            reader, position = source[operator.inputs[position]], 0
        index = int(reader.inputs[position])
        if types[graph.tensors[index].type] == "INT8" and not _densify_runs(operator, codes, graph, types):
            continue
        if index not in restored:
            tensor = graph.tensors[index]
            values = _constant(model, tensor, types[tensor.type])
            if values is None or not _saves_bytes(values):
                continue
            graph.tensors.append(_dense_twin(schema, tensor))
            restored[index] = len(graph.tensors) - 1
            tensor.sparsity, stored = _to_csr(schema, values)
            store(model, tensor, stored)
        reader.inputs[position] = restored[index]
    if not restored:
        return content
    model.operatorCodes.append(_code(schema))
    graph.operators[:0] = [_densify(schema, len(model.operatorCodes) - 1, *pair) for pair in restored.items()]
    return to_bytes(model)


def dense(stored: Array, sparsity: Any, shape: tuple[int, ...]) -> Array:
    """The dense array of a tensor that is compressed along its last dimension.

    Args:
        stored: (n,), the stored values.
        sparsity: the tensor's `SparsityParameters`.
        shape: of the array.

    Returns:
        An array of that shape and of the stored values' type.

    Raises:
        ValueError: for another kind of sparsity.
    """
    *outer, last = sparsity.dimMetadata or [None]
    blocks = sparsity.blockMap is not None and len(sparsity.blockMap)
    rows = (
        last is not None
        and last.format == _ROWS
        and len(outer) == len(shape) - 1
        and not any(dimension.format for dimension in outer)
    )
    if blocks or not rows or list(sparsity.traversalOrder) != list(range(len(shape))):
        raise ValueError("expected rows that are compressed along the last dimension")
    if math.prod(shape) > _MOST_WEIGHTS:
        raise ValueError(f"expected at most {_MOST_WEIGHTS} weights in a kernel, found {math.prod(shape)}")
    ends, columns = (np.asarray(vector.values, np.int64) for vector in (last.arraySegments, last.arrayIndices))
    values = np.zeros((math.prod(shape[:-1]), shape[-1]), stored.dtype)
    values[np.repeat(np.arange(len(ends) - 1), np.diff(ends)), columns] = stored
    return values.reshape(shape)


def _densify_runs(operator: Any, codes: list[str], graph: Any, types: dict[int, str]) -> bool:
    """Whether XNNPACK takes an int8 kernel from DENSIFY: not in a fully-connected layer, nor of float activations."""
    return codes[operator.opcodeIndex] != "FULLY_CONNECTED" and types[graph.tensors[operator.inputs[0]].type] == "INT8"


def index_bytes(sparsity: Any) -> int:
    """The bytes of the segments and indices of a sparse tensor."""
    vectors = [vector for dimension in sparsity.dimMetadata for vector in (dimension.arraySegments, dimension.arrayIndices)]
    return sum(np.asarray(vector.values).nbytes for vector in vectors if vector is not None)


def _constant(model: Any, tensor: Any, kind: str) -> Array | None:
    """The values of a constant that can be stored sparsely; None for another tensor."""
    data, quantization = model.buffers[tensor.buffer].data, tensor.quantization
    shifted = quantization is not None and quantization.zeroPoint is not None and np.any(quantization.zeroPoint)
    if kind not in _COMPRESSIBLE or data is None or not len(data) or tensor.sparsity is not None or shifted:
        return None
    values: Array = np.frombuffer(data, TYPES[kind].dtype).reshape(tensor.shape)
    return values


def _width(largest: int) -> int:
    """The bytes of the smallest index type that holds such numbers."""
    if largest < 2**8:
        return 1
    return 2 if largest < 2**16 else 4


def _saves_bytes(values: Array) -> bool:
    """Whether the non-zero values, their indices and the overhead take fewer bytes than the dense kernel.

    Not where all are zero: a reader takes a tensor without data for an activation.
    """
    count, rows = int(np.count_nonzero(values)), math.prod(values.shape[:-1])
    where = count * _width(values.shape[-1]) + (rows + 1) * _width(count)
    return count > 0 and count * values.itemsize + where + _OVERHEAD < values.nbytes


def _to_csr(schema: Any, values: Array) -> tuple[Any, Array]:
    """The `SparsityParameters` of a sparse tensor, and the bytes (uint8) of its non-zero values."""
    rows = values.reshape(-1, values.shape[-1])
    at, columns = np.nonzero(rows)
    ends = np.concatenate([[0], np.cumsum(np.count_nonzero(rows, axis=1))])
    sparsity = schema.SparsityParametersT()
    sparsity.traversalOrder = list(range(values.ndim))
    sparsity.blockMap = []
    sparsity.dimMetadata = []
    for size in values.shape:
        dimension = schema.DimensionMetadataT()
        dimension.denseSize = size
        sparsity.dimMetadata.append(dimension)
    last = sparsity.dimMetadata[-1]
    last.format, last.denseSize = _ROWS, 0
    last.arraySegmentsType, last.arraySegments = _vector(schema, ends)
    last.arrayIndicesType, last.arrayIndices = _vector(schema, columns)
    return sparsity, rows[at, columns].view(np.uint8)


def _vector(schema: Any, numbers: Array) -> tuple[int, Any]:
    """The type of an index vector and the vector."""
    kinds = {1: ("Uint8Vector", np.uint8), 2: ("Uint16Vector", np.uint16), 4: ("Int32Vector", np.int32)}
    name, dtype = kinds[_width(int(numbers.max(initial=0)))]
    vector = getattr(schema, f"{name}T")()
    vector.values = numbers.astype(dtype)
    return getattr(schema.SparseIndexVector, name), vector


def _dense_twin(schema: Any, tensor: Any) -> Any:
    """The dense tensor that DENSIFY writes."""
    twin = schema.TensorT()
    twin.shape, twin.type, twin.quantization = tensor.shape, tensor.type, tensor.quantization
    twin.name, twin.buffer = (tensor.name or b"") + b"/dense", 0
    return twin


def _code(schema: Any) -> Any:
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.DENSIFY
    code.version = 1
    return code


def _densify(schema: Any, code: int, source: int, result: int) -> Any:
    operator = schema.OperatorT()
    operator.opcodeIndex, operator.inputs, operator.outputs = code, [source], [result]
    operator.builtinOptionsType, operator.builtinOptions = schema.BuiltinOptions.DensifyOptions, schema.DensifyOptionsT()
    return operator
