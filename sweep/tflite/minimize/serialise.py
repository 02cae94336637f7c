"""Writes a parsed `.tflite` file in as few bytes as its parts take: each once, with next to no padding.

An offset leads onwards alone, so a part goes behind all that point to it. The data of buffers are aligned to 16 bytes, and
smaller parts go into the gaps between them. Only the layout of a table (its vtable) may lie anywhere.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Sequence
from typing import Any

from sweep.tflite.minimize.parts import Field, Offsets, Part, Recorder, Scalars, Table, targets

_HEADER = 8  # bytes: the offset of the root, and the identifier
_BUFFERS, _DATA = 4, 0  # slots, of a Model and of a Buffer
_SMALLEST = 4  # bytes of a part
_DATA_ALIGNMENT = 16  # of a buffer, in TensorFlow's schema.fbs


def serialised(model: Any) -> bytes:
    """The bytes of a parsed file: the same for the same file.

    Args:
        model: a `ModelT` of the schema, of less than 2 GiB.
    """
    recorder = Recorder()
    root = model.Pack(recorder)
    parts = recorder.parts
    (buffers,) = (field.target for field in parts[root].fields if field.slot == _BUFFERS)
    for buffer in targets(parts[buffers]):
        for data in targets(parts[buffer]):
            recorder.alignments[data] = _DATA_ALIGNMENT
    return _written(parts, recorder.alignments, root)


def _written(parts: Sequence[Part], alignments: Sequence[int], root: int) -> bytes:
    """The file of these parts."""
    space, places, after = _Space(_HEADER), [0] * len(parts), [0] * len(parts)
    for number in sorted(range(1, len(parts)), key=_order(parts, alignments)):
        places[number] = space.take(_size(parts[number]), alignments[number], after=after[number])
        for target in targets(parts[number]):
            after[target] = max(after[target], places[number])
    layouts = sorted({_vtable(part) for part in parts if isinstance(part, Table)}, key=lambda vtable: (-len(vtable), vtable))
    vtables = {vtable: space.take(len(vtable), 2, head=0) for vtable in layouts}
    content = bytearray(space.end)
    struct.pack_into("<I4s", content, 0, places[root], b"TFL3")
    for vtable, place in vtables.items():
        content[place : place + len(vtable)] = vtable
    for part, place in zip(parts[1:], places[1:], strict=True):
        match part:
            case Scalars(length, payload):
                content[place : place + 4 + len(payload)] = struct.pack("<I", length) + payload
            case Offsets(leads):
                offsets = [places[target] - place - 4 * at for at, target in enumerate(leads, 1)]
                struct.pack_into(f"<{1 + len(offsets)}I", content, place, len(offsets), *offsets)
            case Table():
                struct.pack_into("<i", content, place, place - vtables[_vtable(part)])
                for field, offset in _arranged(part):
                    at = place + offset
                    content[at : at + field.width] = field.payload or struct.pack("<I", places[field.target] - at)
    return bytes(content)


def _order(parts: Sequence[Part], alignments: Sequence[int]) -> Callable[[int], tuple[int, ...]]:
    """The order in which the parts take their places, the first those that others depend on: a key to sort their numbers by.

    First what leads to tables or to aligned data, then those data, then the other tables into the gaps between them, then the
    rest. The largest is the hardest to place and goes first.
    """

    def key(number: int) -> tuple[int, ...]:
        part, large = parts[number], (-alignments[number], -_size(parts[number]), number)
        if isinstance(part, Scalars):
            return 1 if alignments[number] == _DATA_ALIGNMENT else 3, *large
        leads = targets(part)
        if any(not isinstance(parts[target], Scalars) or alignments[target] == _DATA_ALIGNMENT for target in leads):
            return 0, -number
        return 2, *large

    return key


def _size(part: Part) -> int:
    """The bytes of a part, without its vtable."""
    match part:
        case Scalars(payload=payload):
            return 4 + len(payload)
        case Offsets(leads):
            return 4 + 4 * len(leads)
        case Table(fields):
            return 4 + sum(field.width for field in fields)


def _arranged(table: Table) -> list[tuple[Field, int]]:
    """The fields and where they lie within the table: the widest first, so that nothing lies between them."""
    fields, at = [], 4
    for field in sorted(table.fields, key=lambda field: (-field.width, field.slot)):
        fields.append((field, at))
        at += field.width
    return fields


def _vtable(table: Table) -> bytes:
    """The layout of a table: its own size, the table's, and where each field is, 0 where it is left out."""
    offsets = [0] * (1 + max((field.slot for field in table.fields), default=-1))
    for field, at in _arranged(table):
        offsets[field.slot] = at
    return struct.pack(f"<{2 + len(offsets)}H", 4 + 2 * len(offsets), _size(table), *offsets)


class _Space:
    """The bytes of a file as they are given out.

    Args:
        start: the first byte that is free.
    """

    def __init__(self, start: int) -> None:
        self._gaps: list[tuple[float, int]] = [(math.inf, start)]  # (end, start)

    @property
    def end(self) -> int:
        """The end of what was given out."""
        return max(start for _, start in self._gaps)

    def take(self, size: int, alignment: int, *, head: int = 4, after: int = 0) -> int:
        """A place in the tightest gap, `head` bytes before a multiple of the alignment, and not before `after`."""
        fitting = []
        for stop, start in self._gaps:
            place = start + (-start - head) % alignment
            if place + size <= stop and place > after:
                fitting.append((stop - start, place, start, stop))
        _, place, start, stop = min(fitting)
        self._gaps.remove((stop, start))
        self._gaps += [(end, begin) for begin, end in ((start, place), (place + size, stop)) if end - begin >= _SMALLEST]
        return place
