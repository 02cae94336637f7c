"""Stores kernels of a `.tflite` file as sparse tensors, which does not change what the file computes.

The converter can store sparse kernels too, but it writes files that LiteRT's XNNPACK delegate refuses to run (a sparse
fully-connected int8 layer), and it aborts the process on INT4. Here a kernel is stored in compressed sparse rows (along the
last dimension, the input channels) if that is smaller, and a DENSIFY operator restores it when the interpreter starts. The file
is smaller, but not faster. INT4 kernels, which DENSIFY does not support, and kernels that the delegate would refuse stay dense.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from sweep.core.types import Array
from sweep.tflite import flatbuffer
from sweep.tflite.schema import parsed, store, to_bytes
from sweep.tflite.weight_storage import KERNEL, REWRITTEN, TYPES

_COMPRESSIBLE = ("FLOAT32", "FLOAT16", "INT8")  # the types that DENSIFY supports
# The approximate overhead of a sparse kernel in a packed file, in bytes: a second tensor, an operator, the sparsity parameters.
_OVERHEAD = 220
_MAX_WEIGHTS = 1 << 27  # of a restored kernel: a few damaged bytes may declare any shape
_SPARSE_CSR = 1  # the value of the schema's enum DimensionType


def compress(content: bytes) -> bytes:
    """Stores each kernel as a sparse tensor if that makes the packed file smaller.

    Args:
        content: the bytes of a `.tflite`.

    Returns:
        The bytes of the new file; `content` itself where no kernel becomes smaller.

    Raises:
        DamagedError: for bytes that are not a well-formed `.tflite` file.
    """
    with flatbuffer.damage_errors():
        return _compress(content)


def _compress(content: bytes) -> bytes:
    from ai_edge_litert import schema_py_generated as schema

    model, codes, types = parsed(content)
    graph = model.subgraphs[0]
    dequantizing = {
        operator.outputs[0]: operator for operator in graph.operators if codes[operator.opcodeIndex] == "DEQUANTIZE"
    }
    restored: dict[int, int] = {}  # sparse tensor to dense tensor
    for operator in [operator for operator in graph.operators if codes[operator.opcodeIndex] in REWRITTEN]:
        reader, position = operator, KERNEL
        if operator.inputs[position] in dequantizing:  # float16 weights are converted to float32 first
            reader, position = dequantizing[operator.inputs[position]], 0
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
    """Restores the dense array of a tensor that is compressed along its last dimension.

    Args:
        stored: (n,), the stored values.
        sparsity: the tensor's `SparsityParameters`.
        shape: the shape of the array.

    Returns:
        An array of that shape and of the stored values' type.

    Raises:
        ValueError: for another sparse format, or a kernel of more than 2^27 weights.
    """
    *outer, last = sparsity.dimMetadata or [None]
    blocks = sparsity.blockMap is not None and len(sparsity.blockMap)
    compressed_rows = (
        last is not None
        and last.format == _SPARSE_CSR
        and len(outer) == len(shape) - 1
        and not any(dimension.format for dimension in outer)
    )
    if blocks or not compressed_rows or list(sparsity.traversalOrder) != list(range(len(shape))):
        raise ValueError("expected rows that are compressed along the last dimension")
    if math.prod(shape) > _MAX_WEIGHTS:
        raise ValueError(f"expected at most {_MAX_WEIGHTS} weights in a kernel, found {math.prod(shape)}")
    segments = np.asarray(last.arraySegments.values, np.int64)
    columns = np.asarray(last.arrayIndices.values, np.int64)
    values = np.zeros((math.prod(shape[:-1]), shape[-1]), stored.dtype)
    values[np.repeat(np.arange(len(segments) - 1), np.diff(segments)), columns] = stored
    return values.reshape(shape)


def _densify_runs(operator: Any, codes: list[str], graph: Any, types: dict[int, str]) -> bool:
    """Whether XNNPACK runs an operator whose int8 kernel comes from DENSIFY: not if fully-connected or with a float input."""
    return codes[operator.opcodeIndex] != "FULLY_CONNECTED" and types[graph.tensors[operator.inputs[0]].type] == "INT8"


def index_bytes(sparsity: Any) -> int:
    """The bytes of the segments and indices of a sparse tensor.

    Args:
        sparsity: the tensor's `SparsityParameters`.
    """
    vectors = [vector for dimension in sparsity.dimMetadata for vector in (dimension.arraySegments, dimension.arrayIndices)]
    return sum(np.asarray(vector.values).nbytes for vector in vectors if vector is not None)


def _constant(model: Any, tensor: Any, kind: str) -> Array | None:
    """The values of a constant that can be stored sparsely; None for another tensor."""
    data, quantization = model.buffers[tensor.buffer].data, tensor.quantization
    asymmetric = quantization is not None and quantization.zeroPoint is not None and np.any(quantization.zeroPoint)
    if kind not in _COMPRESSIBLE or data is None or not len(data) or tensor.sparsity is not None or asymmetric:
        return None
    values: Array = np.frombuffer(data, TYPES[kind].dtype).reshape(tensor.shape)
    return values


def _width(largest: int) -> int:
    """The bytes of the smallest index type for numbers up to `largest`."""
    if largest < 2**8:
        return 1
    return 2 if largest < 2**16 else 4


def _saves_bytes(values: Array) -> bool:
    """Whether the non-zero values, their indices and the overhead take fewer bytes than the dense kernel.

    False for an all-zero kernel: interpreters treat a tensor without data as an activation.
    """
    count, rows = int(np.count_nonzero(values)), math.prod(values.shape[:-1])
    index_size = count * _width(values.shape[-1]) + (rows + 1) * _width(count)
    return count > 0 and count * values.itemsize + index_size + _OVERHEAD < values.nbytes


def _to_csr(schema: Any, values: Array) -> tuple[Any, Array]:
    """The `SparsityParameters` of a sparse tensor, and the bytes (uint8) of its non-zero values."""
    rows = values.reshape(-1, values.shape[-1])
    row_indices, columns = np.nonzero(rows)
    segments = np.concatenate([[0], np.cumsum(np.count_nonzero(rows, axis=1))])
    sparsity = schema.SparsityParametersT()
    sparsity.traversalOrder = list(range(values.ndim))
    sparsity.blockMap = []
    sparsity.dimMetadata = []
    for size in values.shape:
        dimension = schema.DimensionMetadataT()
        dimension.denseSize = size
        sparsity.dimMetadata.append(dimension)
    last = sparsity.dimMetadata[-1]
    last.format, last.denseSize = _SPARSE_CSR, 0
    last.arraySegmentsType, last.arraySegments = _vector(schema, segments)
    last.arrayIndicesType, last.arrayIndices = _vector(schema, columns)
    return sparsity, rows[row_indices, columns].view(np.uint8)


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
