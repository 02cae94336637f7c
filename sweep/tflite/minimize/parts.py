"""What a flatbuffer consists of, each part once: equal vectors, strings and tables are one part.

The generated `Pack` methods of the schema drive a `flatbuffers.Builder`. The one here writes nothing: it notes each part and
returns the number of an equal one where there is one already. Parts are compared from the leaves up: two tables are equal if
their scalars are, and if what they point to is the same part. A reader cannot tell: it follows offsets, and any number of them
may lead to the same place.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import flatbuffers

from sweep.core.types import Array


class Scalars(NamedTuple):
    """A vector of scalars, or a string.

    Attributes:
        length: the elements, as a reader is told.
        payload: their bytes; the zero that ends a string included.
    """

    length: int
    payload: bytes


class Offsets(NamedTuple):
    """A vector of tables.

    Attributes:
        targets: the numbers of the parts.
    """

    targets: tuple[int, ...]


class Field(NamedTuple):
    """A field of a table that has another value than its default.

    Attributes:
        slot: its number in the schema.
        payload: the bytes of a scalar; empty for an offset.
        target: the number of the part that an offset leads to; 0 for a scalar.
    """

    slot: int
    payload: bytes
    target: int

    @property
    def width(self) -> int:
        """Its bytes within the table."""
        return len(self.payload) or 4


class Table(NamedTuple):
    """A table.

    Attributes:
        fields: by their slots.
    """

    fields: tuple[Field, ...]


Part = Scalars | Offsets | Table


def targets(part: Part) -> tuple[int, ...]:
    """The numbers of the parts that a part leads to."""
    match part:
        case Scalars():
            return ()
        case Offsets(leads):
            return leads
        case Table(fields):
            return tuple(field.target for field in fields if field.target)


class Recorder(flatbuffers.Builder):  # type: ignore[misc]  # the library has no types
    """Notes the parts that `Pack` builds, in place of the offsets of what it would write.

    Attributes:
        parts: number to part; 0 is none. What a part leads to has smaller numbers than itself.
        alignments: number of a part to the bytes that its contents, which follow its first four bytes, are aligned to.
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
        """Notes a scalar field of the table, unless it has its default value."""
        if x != d:
            self._fields.append(Field(o, flags.packer_type.pack(x), 0))

    def PrependUOffsetTRelativeSlot(self, o: int, x: int, d: int) -> None:
        """Notes an offset of the table."""
        if x != d:
            self._fields.append(Field(o, b"", x))

    def EndObject(self) -> int:
        """The table's number."""
        widest = max((field.width for field in self._fields), default=4)
        return self._number(Table(tuple(sorted(self._fields))), widest)

    def StartVector(self, elemSize: int, numElems: int, alignment: int) -> None:
        """Begins a vector."""
        self._elements, self._targets = [], []
        self._length, self._alignment = numElems, max(elemSize, alignment)

    def Prepend(self, flags: Any, off: Any) -> None:
        """Notes an element of the vector; the last comes first."""
        self._elements.append(flags.packer_type.pack(off))

    def PrependUOffsetTRelative(self, off: int) -> None:
        """Notes an offset in the vector; the last comes first."""
        self._targets.append(off)

    def EndVector(self) -> int:
        """The vector's number."""
        if self._targets:
            return self._number(Offsets(tuple(reversed(self._targets))), 4)
        return self._number(Scalars(self._length, b"".join(reversed(self._elements))), self._alignment)

    def CreateNumpyVector(self, x: Array) -> int:
        """The number of a vector of an array's elements."""
        return self._number(Scalars(x.size, x.astype(x.dtype.newbyteorder("<")).tobytes()), x.itemsize)

    def CreateString(self, s: bytes | str) -> int:
        """The number of a string."""
        text = s.encode() if isinstance(s, str) else s
        return self._number(Scalars(len(text), text + b"\0"), 1)

    def _number(self, part: Part, alignment: int) -> int:
        number = self._numbers.setdefault(part, len(self.parts))
        if number == len(self.parts):
            self.parts.append(part)
            self.alignments.append(4)
        self.alignments[number] = max(self.alignments[number], alignment)
        return number
