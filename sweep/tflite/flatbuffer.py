"""Validates the flatbuffer of a `.tflite` file before it is parsed.

The generated reader checks nothing: a wrong offset raises an arbitrary exception, and overlapping tables keep it busy for
hours. The walk here follows every offset to a table, vector or string, checks that it stays within the file, and has a budget
of tables and bytes. Then the indices from operators to tensors and from tensors to buffers are checked.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

MAX_BYTES = 2**31 - 1
"""The maximum size of a flatbuffer."""
# The budget of vector bytes. Equal vectors may be stored once, and are read at each use: 16 times the size of the file.
_SHARING_FACTOR = 16
_MIN_BUDGET = 1 << 20
_FieldKind = int | str | tuple[str]
_SCHEMA: Mapping[str, Mapping[int, _FieldKind]] = {
    # Field numbers of the schema. An integer stands for a vector with elements of so many bytes (1 for a string), a name for a
    # table, a name in a tuple for a vector of tables. Scalars are omitted.
    "Model": {
        1: ("OperatorCode",), 2: ("SubGraph",), 3: 1, 4: ("Buffer",), 5: 4, 6: ("Metadata",), 7: ("SignatureDef",),
        8: ("ExternalBufferGroup",), 9: ("ExternalBuffer",),
    },
    "OperatorCode": {1: 1},
    "SubGraph": {0: ("Tensor",), 1: 4, 2: 4, 3: ("Operator",), 4: 1},
    "Tensor": {0: 4, 3: 1, 4: "QuantizationParameters", 6: "SparsityParameters", 7: 4, 9: ("VariantSubType",)},
    "VariantSubType": {0: 4},
    "QuantizationParameters": {0: 4, 1: 4, 2: 4, 3: 8, 5: "Union"},
    "SparsityParameters": {0: 4, 1: 4, 2: ("DimensionMetadata",)},
    "DimensionMetadata": {3: "Union", 5: "Union"},
    "Operator": {1: 4, 2: 4, 4: "Union", 5: 1, 7: 1, 8: 4, 12: "Union"},
    "Buffer": {0: 1},
    "Metadata": {0: 1},
    "SignatureDef": {0: ("TensorMap",), 1: ("TensorMap",), 2: 1},
    "TensorMap": {0: 1},
    "ExternalBufferGroup": {0: 1},
    "ExternalBuffer": {4: 1},
    "Union": {},
}  # fmt: skip

_FIELDS: Mapping[str, int] = {
    "Model": 10, "OperatorCode": 4, "SubGraph": 6, "Tensor": 11, "QuantizationParameters": 7, "SparsityParameters": 3,
    "DimensionMetadata": 6, "Operator": 14, "Buffer": 3, "Metadata": 2, "SignatureDef": 5, "TensorMap": 2,
    "VariantSubType": 3, "ExternalBufferGroup": 1, "ExternalBuffer": 5,
}  # fmt: skip
"""The number of fields of each table in the schema of the pinned LiteRT; a later schema may add fields."""


class DamagedError(ValueError):
    """The bytes are not a well-formed `.tflite` file."""


@contextmanager
def damage_errors() -> Iterator[None]:
    """Turns any exception of reading a file into a DamagedError, since not every inconsistency is checked beforehand.

    Raises:
        DamagedError: with a message of one line.
    """
    try:
        yield
    except DamagedError:
        raise
    except Exception as error:
        raise DamagedError(f"the .tflite file is damaged: {type(error).__name__}: {' '.join(str(error).split())}") from error


def require_structure(content: bytes) -> None:
    """Checks that every table, vector and string lies within the file.

    Args:
        content: the file's bytes.

    Raises:
        DamagedError: for a table, a vector or a string that is not within the file, or more of them than the budget allows.
    """
    if content[4:8] != b"TFL3":
        raise DamagedError(f"expected a .tflite file (TFL3 in bytes 4 to 7), found {content[4:8]!r} among {len(content)} bytes")
    _Walk(content).table(0, "Model")


def unknown_field(content: bytes) -> str:
    """Finds a field that the schema of the pinned LiteRT lacks.

    Returns:
        The table and the number of the field (`Tensor, 11`); an empty string where all fields are known.

    Raises:
        DamagedError: for a table, a vector or a string that is not within the file, or more of them than the budget allows.
    """
    walk = _Walk(content)
    walk.table(0, "Model")
    return walk.unknown_field


def require_indices(model: Any, operators: Mapping[int, str], types: Mapping[int, str]) -> None:
    """Checks the indices in a parsed file, and replaces missing vectors of its graphs and operators by empty lists, in place.

    Args:
        model: a `ModelT`, as the generated reader parses the file.
        operators: code to name of the builtin operators.
        types: code to name of the tensor types.

    Raises:
        DamagedError: for an index out of range or an unknown type.
    """
    codes, buffers = model.operatorCodes or [], model.buffers or []
    if not model.subgraphs:
        raise DamagedError("expected a graph, found none")
    for code in codes:
        _require("operator", max(code.builtinCode, code.deprecatedBuiltinCode) in operators, code.builtinCode)
    for graph in model.subgraphs:
        graph.tensors, graph.operators = _list(graph.tensors), _list(graph.operators)
        graph.inputs, graph.outputs = _list(graph.inputs), _list(graph.outputs)
        count = len(graph.tensors)
        for tensor in graph.tensors:
            _require("tensor type", tensor.type in types, tensor.type)
            _require("buffer", 0 <= tensor.buffer < max(len(buffers), 1), tensor.buffer)
            _require("shape", all(length >= 0 for length in _list(tensor.shape)), tensor.shape)
        for index in (*graph.inputs, *graph.outputs):
            _require("tensor", 0 <= index < count, index)
        for operator in graph.operators:
            operator.inputs, operator.outputs = _list(operator.inputs), _list(operator.outputs)
            _require("operator code", 0 <= operator.opcodeIndex < len(codes), operator.opcodeIndex)
            for index in operator.inputs:
                _require("tensor", -1 <= index < count, index)
            for index in operator.outputs:
                _require("tensor", 0 <= index < count, index)


def _list(values: Any) -> Any:
    return [] if values is None else values


def _require(kind: str, exists: bool, value: object) -> None:
    if not exists:
        raise DamagedError(f"the .tflite file is damaged: it refers to a {kind} that does not exist ({value})")


class _Walk:
    """A depth-first walk through the tables of a file, with a budget.

    Attributes:
        unknown_field: the table and the number of a field that the schema lacks; empty where there is none.
    """

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._tables = len(content) // 4  # each has an offset of four bytes that leads to it
        self._bytes = _SHARING_FACTOR * len(content) + _MIN_BUDGET
        self.unknown_field = ""

    def table(self, position: int, kind: str) -> None:
        """Validates the table that the offset at a position leads to, and all tables and vectors below it."""
        self._tables -= 1
        if self._tables < 0:
            raise self._damaged(position)
        start = self._target(position)
        vtable = start - self._number("<i", start)
        size, extent = self._number("<H", vtable), self._number("<H", vtable + 2)
        if size < 4 or size % 2 or vtable + size > len(self._content) or extent < 4 or start + extent > len(self._content):
            raise self._damaged(vtable)
        for slot in range((size - 4) // 2):
            offset = self._number("<H", vtable + 4 + 2 * slot)
            if offset >= extent:
                raise self._damaged(vtable + 4 + 2 * slot)
            if offset and slot >= _FIELDS.get(kind, slot + 1):
                self.unknown_field = f"{kind}, {slot}"
            if offset and (field := _SCHEMA[kind].get(slot)) is not None:
                self._field(start + offset, field)

    def _field(self, position: int, field: _FieldKind) -> None:
        if isinstance(field, str):
            self.table(position, field)
            return
        start = self._target(position)
        count, width = self._number("<I", start), field if isinstance(field, int) else 4
        self._bytes -= count * width
        if start + 4 + count * width > len(self._content) or self._bytes < 0:
            raise self._damaged(start)
        if isinstance(field, tuple):
            for number in range(count):
                self.table(start + 4 + 4 * number, field[0])

    def _target(self, position: int) -> int:
        return position + self._number("<I", position)

    def _number(self, form: str, position: int) -> int:
        if not 0 <= position <= len(self._content) - struct.calcsize(form):
            raise self._damaged(position)
        return int(struct.unpack_from(form, self._content, position)[0])

    def _damaged(self, position: int) -> DamagedError:
        return DamagedError(f"the .tflite file is damaged at byte {position} of {len(self._content)}")
