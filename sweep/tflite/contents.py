"""Counts the bytes of a `.tflite` file by kind of content. The counts add up to the file's size."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from sweep.tflite import flatbuffer, schema
from sweep.tflite.weight_storage import OPERANDS

KINDS: Mapping[str, str] = {
    "weights": "kernels of convolutions and dense layers, with the indices of sparse ones",
    "biases": "biases of convolutions and dense layers",
    "constants": "other constants: shapes, slopes, lookup tables",
    "scales": "scales of quantised tensors",
    "zero points": "zero points of quantised tensors",
    "ranges": "min and max of tensors",
    "names": "names of tensors, graphs and signatures",
    "metadata": "metadata and the description",
    "structure": "the rest: tables, shapes, operators, padding",
}
"""Each kind of content with its description, in order of precedence for shared bytes."""
_INDEX_BYTES = (0, 4, 2, 1)  # by `SparseIndexVector`
_Spans = Iterator[tuple[str, int, int]]


def bytes_by_kind(content: bytes) -> dict[str, int]:
    """Counts the bytes of each kind. Bytes that several tables share count once, for the first of their kinds in `KINDS`.

    The length prefix of a vector counts as structure.

    Args:
        content: the bytes of a `.tflite`.

    Returns:
        Every kind of `KINDS` to its number of bytes; they add up to the length of `content`.

    Raises:
        DamagedError: for bytes that are no such file.
    """
    kinds = list(KINDS)
    labels = np.full(len(content), kinds.index("structure"), np.uint8)
    with flatbuffer.damage_errors():
        for kind, start, stop in _spans(content):
            labels[start:stop] = np.minimum(labels[start:stop], kinds.index(kind))  # shared bytes count for the first kind
    return dict(zip(kinds, np.bincount(labels, minlength=len(kinds)).tolist(), strict=True))


def _spans(content: bytes) -> _Spans:
    """(kind, start, end) of all content but structure."""
    from ai_edge_litert.schema_py_generated import Model

    schema.parsed(content)  # raises for a damaged file
    model = Model.GetRootAs(content, 0)
    yield from _vectors(model, {3: ("metadata", 1)}, null_terminated=True)
    for number in range(model.MetadataLength()):
        entry = model.Metadata(number)
        yield from _vectors(entry, {0: ("metadata", 1)}, null_terminated=True)
        yield from _data(model, entry.Buffer(), "metadata")
    for number in range(model.SignatureDefsLength()):
        signature = model.SignatureDefs(number)
        yield from _vectors(signature, {2: ("names", 1)}, null_terminated=True)
        inputs = [signature.Inputs(index) for index in range(signature.InputsLength())]
        outputs = [signature.Outputs(index) for index in range(signature.OutputsLength())]
        for entry in (*inputs, *outputs):
            yield from _vectors(entry, {0: ("names", 1)}, null_terminated=True)
    for number in range(model.SubgraphsLength()):
        graph = model.Subgraphs(number)
        yield from _vectors(graph, {4: ("names", 1)}, null_terminated=True)
        roles = _roles(model, graph)
        for index in range(graph.TensorsLength()):
            yield from _tensor(model, graph.Tensors(index), roles.get(index, "constants"))


def _tensor(model: Any, tensor: Any, role: str) -> _Spans:
    yield from _vectors(tensor, {3: ("names", 1)}, null_terminated=True)
    yield from _data(model, tensor.Buffer(), role)
    if (quantization := tensor.Quantization()) is not None:
        yield from _vectors(quantization, {0: ("ranges", 4), 1: ("ranges", 4), 2: ("scales", 4), 3: ("zero points", 8)})
    sparsity = tensor.Sparsity()
    for number in range(0 if sparsity is None else sparsity.DimMetadataLength()):
        dimension = sparsity.DimMetadata(number)
        for kind, vector in (
            (dimension.ArraySegmentsType(), dimension.ArraySegments()),
            (dimension.ArrayIndicesType(), dimension.ArrayIndices()),
        ):
            if vector is not None:
                yield from _fields(vector, {0: (role, _INDEX_BYTES[kind])})


def _roles(model: Any, graph: Any) -> dict[int, str]:
    """Tensor index to `weights` or `biases`, for the tensors that store kernels and biases."""
    from ai_edge_litert.schema_py_generated import BuiltinOperator

    operators = {value: name for name, value in vars(BuiltinOperator).items()}
    roles: dict[int, str] = {}
    restored_from: dict[int, int] = {}  # output to input of DEQUANTIZE, DENSIFY and QUANTIZE
    for number in range(graph.OperatorsLength()):
        operator = graph.Operators(number)
        code = model.OperatorCodes(operator.OpcodeIndex())
        name = operators[max(code.BuiltinCode(), code.DeprecatedBuiltinCode())]
        inputs = [operator.Inputs(index) for index in range(operator.InputsLength())]
        if name in schema.RESTORING and operator.OutputsLength():
            restored_from[operator.Outputs(0)] = inputs[0]
        operands = OPERANDS.get(name)
        if operands is None:
            continue
        for position, role in ((operands.kernel, "weights"), (operands.bias, "biases")):
            if position < len(inputs):
                index = inputs[position]
                for _ in restored_from:
                    index = restored_from.get(index, index)
                roles[index] = role
    return roles


def _data(model: Any, index: int, kind: str) -> _Spans:
    """The span of a buffer's data, which may lie behind the flatbuffer."""
    buffer = model.Buffers(index)
    if buffer.Offset() > 1:
        yield kind, buffer.Offset(), buffer.Offset() + buffer.Size()
    yield from _vectors(buffer, {0: (kind, 1)})


def _vectors(table: Any, slots: Mapping[int, tuple[str, int]], *, null_terminated: bool = False) -> _Spans:
    """The spans of the vectors in a table's slots; `slots` maps a slot to (kind, bytes of an element)."""
    yield from _fields(table._tab, slots, null_terminated=null_terminated)


def _fields(fields: Any, slots: Mapping[int, tuple[str, int]], *, null_terminated: bool = False) -> _Spans:
    for slot, (kind, width) in slots.items():
        if offset := fields.Offset(4 + 2 * slot):
            start = fields.Vector(offset)
            yield kind, start, start + fields.VectorLen(offset) * width + null_terminated
