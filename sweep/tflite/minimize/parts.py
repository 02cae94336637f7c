"""The parts of a flatbuffer (vectors, strings and tables), with equal parts merged.

The generated `Pack` methods of the schema drive a `flatbuffers.Builder`. The builder here writes nothing: it records each part,
and returns the number of an equal part if there is one already. Parts are merged bottom-up: two tables are equal if their
scalars are equal and their offsets lead to the same parts. Readers are not affected: they follow offsets, and several offsets
may lead to the same position.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import flatbuffers

from sweep.core.types import Array


class Scalars(NamedTuple):
    """A vector of scalars, or a string.

    Attributes:
        length: the number of elements; without the terminating zero of a string.
        payload: the bytes of the elements; with the terminating zero of a string.
    """

    length: int
    payload: bytes


class Offsets(NamedTuple):
    """A vector of tables.

    Attributes:
        targets: the numbers of the tables.
    """

    targets: tuple[int, ...]


class Field(NamedTuple):
    """A field of a table whose value is not the default.

    Attributes:
        slot: the number of the field in the schema.
        payload: the bytes of a scalar; empty for an offset.
        target: the number of the part that an offset leads to; 0 for a scalar.
    """

    slot: int
    payload: bytes
    target: int

    @property
    def width(self) -> int:
        """The bytes of the field within the table."""
        return len(self.payload) or 4


class Table(NamedTuple):
    """A table.

    Attributes:
        fields: the fields, in the order of their slots.
    """

    fields: tuple[Field, ...]


Part = Scalars | Offsets | Table


def targets(part: Part) -> tuple[int, ...]:
    """The numbers of the parts that the offsets of a part lead to."""
    match part:
        case Scalars():
            return ()
        case Offsets(numbers):
            return numbers
        case Table(fields):
            return tuple(field.target for field in fields if field.target)


class Recorder(flatbuffers.Builder):  # type: ignore[misc]  # the library has no types
    """A builder that records the parts that `Pack` creates. Its methods return numbers of parts instead of offsets.

    Attributes:
        parts: number to part; 0 stands for no part. A part leads only to parts with smaller numbers.
        alignments: number of a part to the alignment, in bytes, of its contents, which follow its first four bytes.
    """

    __slots__ = ("_alignment", "_elements", "_fields", "_length", "_numbers", "_targets", "alignments", "parts")

    def __init__(self) -> None:
        super().__init__(0)
        self.parts: list[Part] = [Offsets(())]
        self.alignments: list[int] = [4]
        self._numbers: dict[Part, int] = {}
        self._fields: list[Field] = []
        self._length, self._alignment = 0, 4
        self._elements: list[bytes] = []
        self._targets: list[int] = []

    def StartObject(self, numfields: int) -> None:
        """Begins a table."""
        self._fields = []

    def PrependSlot(self, flags: Any, o: int, x: Any, d: Any) -> None:
        """Records a scalar field of the table, unless it has its default value."""
        if x != d:
            self._fields.append(Field(o, flags.packer_type.pack(x), 0))

    def PrependUOffsetTRelativeSlot(self, o: int, x: int, d: int) -> None:
        """Records an offset field of the table."""
        if x != d:
            self._fields.append(Field(o, b"", x))

    def EndObject(self) -> int:
        """Ends a table; returns its number."""
        widest = max((field.width for field in self._fields), default=4)
        return self._number(Table(tuple(sorted(self._fields))), widest)

    def StartVector(self, elemSize: int, numElems: int, alignment: int) -> None:
        """Begins a vector."""
        self._elements, self._targets = [], []
        self._length, self._alignment = numElems, max(elemSize, alignment)

    def Prepend(self, flags: Any, off: Any) -> None:
        """Records an element of the vector; the elements arrive in reverse order."""
        self._elements.append(flags.packer_type.pack(off))

    def PrependUOffsetTRelative(self, off: int) -> None:
        """Records an offset in the vector; the offsets arrive in reverse order."""
        self._targets.append(off)

    def EndVector(self) -> int:
        """Ends a vector; returns its number."""
        if self._targets:
            return self._number(Offsets(tuple(reversed(self._targets))), 4)
        return self._number(Scalars(self._length, b"".join(reversed(self._elements))), self._alignment)

    def CreateNumpyVector(self, x: Array) -> int:
        """Records a vector of an array's elements; returns its number."""
        return self._number(Scalars(x.size, x.astype(x.dtype.newbyteorder("<")).tobytes()), x.itemsize)

    def CreateString(self, s: bytes | str) -> int:
        """Records a string; returns its number."""
        text = s.encode() if isinstance(s, str) else s
        return self._number(Scalars(len(text), text + b"\0"), 1)

    def _number(self, part: Part, alignment: int) -> int:
        number = self._numbers.setdefault(part, len(self.parts))
        if number == len(self.parts):
            self.parts.append(part)
            self.alignments.append(4)
        self.alignments[number] = max(self.alignments[number], alignment)
        return number
