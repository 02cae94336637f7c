"""Where the bytes of a `.tflite` file are, by kind of content. They add up to the file's size."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from sweep.tflite import flatbuffer, schema
from sweep.tflite.weight_storage import OPERANDS

KINDS: Mapping[str, str] = {
    "weights": "kernels of convolutions and dense layers; of sparse ones with their indices",
    "biases": "of convolutions and dense layers",
    "constants": "the other constants: shapes, slopes, tables",
    "scales": "of quantised tensors",
    "zero points": "of quantised tensors",
    "ranges": "min and max of tensors",
    "names": "of tensors, graphs and signatures",
    "metadata": "and the description",
    "structure": "tables, shapes, operators, padding and everything else",
}
"""Kind of content to its description."""
_INDEX_BYTES = (0, 4, 2, 1)  # by `SparseIndexVector`
_Spans = Iterator[tuple[str, int, int]]


def bytes_by_kind(content: bytes) -> dict[str, int]:
    """Counts the bytes of each kind. Bytes that several tables share count once.

    The length prefix of a vector counts as structure.

    Args:
        content: the bytes of a `.tflite`.

    Returns:
        Every kind of `KINDS` to its bytes, which add up to the length of `content`.

    Raises:
        DamagedError: for bytes that are no such file.
    """
    kinds = list(KINDS)
    labels = np.full(len(content), kinds.index("structure"), np.uint8)
    with flatbuffer.damage_errors():
        for kind, start, stop in _spans(content):
            labels[start:stop] = np.minimum(labels[start:stop], kinds.index(kind))  # shared bytes belong to the first kind
    return dict(zip(kinds, np.bincount(labels, minlength=len(kinds)).tolist(), strict=True))


def _spans(content: bytes) -> _Spans:
    """Yields kind, start and end of everything except structure."""
    from ai_edge_litert.schema_py_generated import Model

    schema.parsed(content)  # raises for a damaged file
    model = Model.GetRootAs(content, 0)
    yield from _vectors(model, {3: ("metadata", 1)}, ends_in_zero=True)
    for number in range(model.MetadataLength()):
        entry = model.Metadata(number)
        yield from _vectors(entry, {0: ("metadata", 1)}, ends_in_zero=True)
        yield from _data(model, entry.Buffer(), "metadata")
    for number in range(model.SignatureDefsLength()):
        signature = model.SignatureDefs(number)
        yield from _vectors(signature, {2: ("names", 1)}, ends_in_zero=True)
        ends = ((signature.Inputs, signature.InputsLength()), (signature.Outputs, signature.OutputsLength()))
        for entry in (get(index) for get, length in ends for index in range(length)):
            yield from _vectors(entry, {0: ("names", 1)}, ends_in_zero=True)
    for number in range(model.SubgraphsLength()):
        graph = model.Subgraphs(number)
        yield from _vectors(graph, {4: ("names", 1)}, ends_in_zero=True)
        roles = _roles(model, graph)
        for index in range(graph.TensorsLength()):
            yield from _tensor(model, graph.Tensors(index), roles.get(index, "constants"))


def _tensor(model: Any, tensor: Any, role: str) -> _Spans:
    yield from _vectors(tensor, {3: ("names", 1)}, ends_in_zero=True)
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
    """Index of each tensor that stores a kernel or a bias to its kind."""
    from ai_edge_litert.schema_py_generated import BuiltinOperator

    operators = {value: name for name, value in vars(BuiltinOperator).items()}
    roles: dict[int, str] = {}
    stored: dict[int, int] = {}  # output to input of DEQUANTIZE, DENSIFY and QUANTIZE
    for number in range(graph.OperatorsLength()):
        operator = graph.Operators(number)
        code = model.OperatorCodes(operator.OpcodeIndex())
        name = operators[max(code.BuiltinCode(), code.DeprecatedBuiltinCode())]
        inputs = [operator.Inputs(index) for index in range(operator.InputsLength())]
        if name in schema.RESTORING and operator.OutputsLength():
            stored[operator.Outputs(0)] = inputs[0]
        places = OPERANDS.get(name)
        for position, role in () if places is None else ((places.kernel, "weights"), (places.bias, "biases")):
            if position < len(inputs):
                index = inputs[position]
                for _ in stored:
                    index = stored.get(index, index)
                roles[index] = role
    return roles


def _data(model: Any, index: int, kind: str) -> _Spans:
    """The data of a buffer, which may lie behind the flatbuffer."""
    buffer = model.Buffers(index)
    if buffer.Offset() > 1:
        yield kind, buffer.Offset(), buffer.Offset() + buffer.Size()
    yield from _vectors(buffer, {0: (kind, 1)})


def _vectors(table: Any, slots: Mapping[int, tuple[str, int]], *, ends_in_zero: bool = False) -> _Spans:
    """Yields the vectors of a table. `slots` has their kinds and element sizes in bytes."""
    yield from _fields(table._tab, slots, ends_in_zero=ends_in_zero)


def _fields(fields: Any, slots: Mapping[int, tuple[str, int]], *, ends_in_zero: bool = False) -> _Spans:
    for slot, (kind, width) in slots.items():
        if offset := fields.Offset(4 + 2 * slot):
            start = fields.Vector(offset)
            yield kind, start, start + fields.VectorLen(offset) * width + ends_in_zero
