"""Serialises a parsed `.tflite` file with equal parts merged and nearly no padding.

Offsets are unsigned, so a part is placed after all parts that refer to it. The data of buffers are aligned to 16 bytes, and
smaller parts fill the gaps between them. Only a vtable, to which the offset is signed, may lie anywhere.
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
    """Serialises a parsed file. The result is deterministic.

    Args:
        model: a `ModelT` of the schema, of less than 2 GiB.

    Returns:
        The file's bytes.
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
    """Lays out the parts and writes them to a file."""
    free_space, positions, minima = _FreeSpace(_HEADER), [0] * len(parts), [0] * len(parts)
    for number in sorted(range(1, len(parts)), key=_placement_order(parts, alignments)):
        positions[number] = free_space.allocate(_size(parts[number]), alignments[number], after=minima[number])
        for target in targets(parts[number]):
            minima[target] = max(minima[target], positions[number])
    layouts = sorted({_vtable(part) for part in parts if isinstance(part, Table)}, key=lambda vtable: (-len(vtable), vtable))
    vtables = {vtable: free_space.allocate(len(vtable), 2, head=0) for vtable in layouts}
    content = bytearray(free_space.end)
    struct.pack_into("<I4s", content, 0, positions[root], b"TFL3")
    for vtable, position in vtables.items():
        content[position : position + len(vtable)] = vtable
    for part, position in zip(parts[1:], positions[1:], strict=True):
        match part:
            case Scalars(length, payload):
                content[position : position + 4 + len(payload)] = struct.pack("<I", length) + payload
            case Offsets(numbers):
                offsets = [positions[target] - position - 4 * index for index, target in enumerate(numbers, 1)]
                struct.pack_into(f"<{1 + len(offsets)}I", content, position, len(offsets), *offsets)
            case Table():
                struct.pack_into("<i", content, position, position - vtables[_vtable(part)])
                for field, offset in _arranged(part):
                    start = position + offset
                    content[start : start + field.width] = field.payload or struct.pack("<I", positions[field.target] - start)
    return bytes(content)


def _placement_order(parts: Sequence[Part], alignments: Sequence[int]) -> Callable[[int], tuple[int, ...]]:
    """The sort key, of the number of a part, for the order in which parts are placed.

    Parts that lead to tables or to aligned data are placed first, so that all other parts come after them. Then the aligned
    data, then the other tables, which fill the gaps between them, then all other parts. Within these groups the largest part,
    which is the hardest to place, comes first.
    """

    def key(number: int) -> tuple[int, ...]:
        part, by_size = parts[number], (-alignments[number], -_size(parts[number]), number)
        if isinstance(part, Scalars):
            return 1 if alignments[number] == _DATA_ALIGNMENT else 3, *by_size
        if any(not isinstance(parts[target], Scalars) or alignments[target] == _DATA_ALIGNMENT for target in targets(part)):
            return 0, -number
        return 2, *by_size

    return key


def _size(part: Part) -> int:
    """The bytes of a part, without its vtable."""
    match part:
        case Scalars(payload=payload):
            return 4 + len(payload)
        case Offsets(numbers):
            return 4 + 4 * len(numbers)
        case Table(fields):
            return 4 + sum(field.width for field in fields)


def _arranged(table: Table) -> list[tuple[Field, int]]:
    """The fields with their offsets within the table: the widest first, so that no padding is needed."""
    fields, offset = [], 4
    for field in sorted(table.fields, key=lambda field: (-field.width, field.slot)):
        fields.append((field, offset))
        offset += field.width
    return fields


def _vtable(table: Table) -> bytes:
    """The vtable of a table: its own size, the table's size, and the offset of each field, 0 for a field that is absent."""
    offsets = [0] * (1 + max((field.slot for field in table.fields), default=-1))
    for field, offset in _arranged(table):
        offsets[field.slot] = offset
    return struct.pack(f"<{2 + len(offsets)}H", 4 + 2 * len(offsets), _size(table), *offsets)


class _FreeSpace:
    """The free ranges of a file that is laid out.

    Args:
        start: the first free byte.
    """

    def __init__(self, start: int) -> None:
        self._gaps: list[tuple[float, int]] = [(math.inf, start)]  # (end, start)

    @property
    def end(self) -> int:
        """The end of the last allocated range."""
        return max(start for _, start in self._gaps)

    def allocate(self, size: int, alignment: int, *, head: int = 4, after: int = 0) -> int:
        """Allocates a range in the smallest gap that fits.

        Args:
            size: the bytes of the range.
            alignment: the alignment of the byte at `head`, relative to the start of the range.
            head: the bytes before the aligned contents.
            after: the range starts behind this position.

        Returns:
            The start of the range.
        """
        fitting = []
        for stop, start in self._gaps:
            position = start + (-start - head) % alignment
            if position + size <= stop and position > after:
                fitting.append((stop - start, position, start, stop))
        _, position, start, stop = min(fitting)
        self._gaps.remove((stop, start))
        for gap_start, gap_end in ((start, position), (position + size, stop)):
            if gap_end - gap_start >= _SMALLEST:
                self._gaps.append((gap_end, gap_start))
        return position
