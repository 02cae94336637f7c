"""Validates the flatbuffer of a `.tflite` file before anything reads it.

The generated reader checks nothing: a wrong offset surfaces as any exception, and overlapping tables make it work for hours.
Here every table, vector and string on the way to the tensors is followed once, within the file and within a budget. Then the
indices from operators to tensors and from tensors to buffers are checked.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

LARGEST = 2**31 - 1
"""The most bytes of a flatbuffer."""
_SHARED = 16  # times the file: equal vectors may be written once, and are read as often as they are used
_ROOM = 1 << 20
_FieldKind = int | str | tuple[str]
_SCHEMA: Mapping[str, Mapping[int, _FieldKind]] = {
    # The schema's own field numbers. An integer is the size of a vector's elements in bytes (1 for a string too), a name a
    # table, a name in a tuple a vector of tables. What is left out are scalars.
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
"""How many fields the tables have in the schema of the pinned LiteRT; a later one may add some."""


class DamagedError(ValueError):
    """The bytes are no well-formed `.tflite` file."""


@contextmanager
def damage_errors() -> Iterator[None]:
    """Turns whatever reading a file raises into a DamagedError: parts may contradict each other in more ways than are checked.

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
        DamagedError: for a table, a vector or a string that is not within the file, or more of them than it has room for.
    """
    if content[4:8] != b"TFL3":
        raise DamagedError(f"expected a .tflite file (TFL3 in bytes 4 to 7), found {content[4:8]!r} among {len(content)} bytes")
    _Walk(content).table(0, "Model")


def unknown_field(content: bytes) -> str:
    """A field of a table that the schema lacks; an empty string where there is none.

    Raises:
        DamagedError: as `require_structure`.
    """
    walk = _Walk(content)
    walk.table(0, "Model")
    return walk.unknown


def require_indices(model: Any, operators: Mapping[int, str], types: Mapping[int, str]) -> None:
    """Checks the indices in a parsed file.

    Args:
        model: the file as the generated reader parses it.
        operators: the builtin operators' codes to their names.
        types: the tensor types' codes to their names.

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


def _require(what: str, holds: bool, found: object) -> None:
    if not holds:
        raise DamagedError(f"the .tflite file is damaged: it names a {what} that is not there ({found})")


class _Walk:
    """One walk through a file, of limited length.

    Attributes:
        unknown: a table and a field of it that the schema lacks.
    """

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._tables = len(content) // 4  # each is pointed to by four bytes of its own
        self._bytes = _SHARED * len(content) + _ROOM
        self.unknown = ""

    def table(self, at: int, kind: str) -> None:
        """Follow the table to which the four bytes at a position point."""
        self._tables -= 1
        if self._tables < 0:
            raise self._damaged(at)
        start = self._target(at)
        vtable = start - self._number("<i", start)
        size, extent = self._number("<H", vtable), self._number("<H", vtable + 2)
        if size < 4 or size % 2 or vtable + size > len(self._content) or extent < 4 or start + extent > len(self._content):
            raise self._damaged(vtable)
        for slot in range((size - 4) // 2):
            offset = self._number("<H", vtable + 4 + 2 * slot)
            if offset >= extent:
                raise self._damaged(vtable + 4 + 2 * slot)
            if offset and slot >= _FIELDS.get(kind, slot + 1):
                self.unknown = f"{kind}, {slot}"
            if offset and (field := _SCHEMA[kind].get(slot)) is not None:
                self._field(start + offset, field)

    def _field(self, at: int, field: _FieldKind) -> None:
        if isinstance(field, str):
            self.table(at, field)
            return
        start = self._target(at)
        count, width = self._number("<I", start), field if isinstance(field, int) else 4
        self._bytes -= count * width
        if start + 4 + count * width > len(self._content) or self._bytes < 0:
            raise self._damaged(start)
        if isinstance(field, tuple):
            for number in range(count):
                self.table(start + 4 + 4 * number, field[0])

    def _target(self, at: int) -> int:
        return at + self._number("<I", at)

    def _number(self, form: str, at: int) -> int:
        if not 0 <= at <= len(self._content) - struct.calcsize(form):
            raise self._damaged(at)
        return int(struct.unpack_from(form, self._content, at)[0])

    def _damaged(self, at: int) -> DamagedError:
        return DamagedError(f"the .tflite file is damaged at byte {at} of {len(self._content)}")
