"""Random graphs of parts are read back from the serialised bytes, and the size has an upper bound."""

from __future__ import annotations

import struct
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from sweep.tflite.minimize import serialise
from sweep.tflite.minimize.parts import Field, Offsets, Part, Scalars, Table, targets


@st.composite
def graphs(draw: st.DrawFn) -> tuple[list[Part], list[int]]:
    """Parts, each of which leads to earlier ones, and the alignments of what follows their first four bytes."""
    parts: list[Part] = [Offsets(())]
    alignments = [4]
    for _ in range(draw(st.integers(1, 25))):
        earlier = st.integers(1, len(parts) - 1)
        kinds = ["scalars"] if len(parts) == 1 else ["scalars", "scalars", "offsets", "table", "table"]
        kind = draw(st.sampled_from(kinds))
        if kind == "scalars":
            parts.append(Scalars(len(parts), draw(st.binary(max_size=70))))
            alignments.append(draw(st.sampled_from([4, 8, 16])))
        elif kind == "offsets":
            parts.append(Offsets(tuple(draw(st.lists(earlier, min_size=1, max_size=4)))))
            alignments.append(4)
        else:
            fields = []
            for slot in sorted(draw(st.sets(st.integers(0, 9), max_size=6))):
                payload = draw(st.sampled_from([b"", b"a", b"bc", b"defg", b"12345678"]))
                fields.append(Field(slot, payload, 0 if payload else draw(earlier)))
            parts.append(Table(tuple(fields)))
            alignments.append(max([4, *(field.width for field in fields)]))
    parts.append(Table(tuple(Field(slot, b"", number) for slot, number in enumerate(range(1, len(parts))))))
    return parts, [*alignments, 4]


def read(content: bytes, position: int, number: int, parts: list[Part], positions: dict[int, int]) -> None:
    """Reads the part at a position and all parts below it, and asserts that each equals the original, at a single position."""
    if number in positions:
        assert positions[number] == position
        return
    positions[number] = position
    assert position % 2 == 0
    match parts[number]:
        case Scalars(length, payload):
            assert struct.unpack_from("<I", content, position) == (length,)
            assert content[position + 4 : position + 4 + len(payload)] == payload
        case Offsets(leads):
            count, *offsets = struct.unpack_from(f"<{1 + len(leads)}I", content, position)
            assert count == len(leads)
            for at, (offset, target) in enumerate(zip(offsets, leads, strict=True), 1):
                assert offset > 0
                read(content, position + 4 * at + offset, target, parts, positions)
        case Table(fields):
            vtable = position - struct.unpack_from("<i", content, position)[0]
            assert vtable % 2 == 0
            size, extent = struct.unpack_from("<HH", content, vtable)
            slots = struct.unpack_from(f"<{(size - 4) // 2}H", content, vtable + 4)
            assert {slot for slot, offset in enumerate(slots) if offset} == {field.slot for field in fields}
            for field in fields:
                at = position + slots[field.slot]
                assert slots[field.slot] + field.width <= extent
                assert at % field.width == 0, "a scalar is aligned to its own size"
                if field.payload:
                    assert content[at : at + field.width] == field.payload
                else:
                    read(content, at + struct.unpack_from("<I", content, at)[0], field.target, parts, positions)


@settings(deadline=None, max_examples=200)
@given(graphs())
def test_a_reader_finds_all_parts(graph):
    parts, alignments = graph
    content = serialise._written(parts, alignments, len(parts) - 1)
    assert content == serialise._written(parts, alignments, len(parts) - 1)
    assert content[4:8] == b"TFL3"
    positions: dict[int, int] = {}
    read(content, struct.unpack_from("<I", content, 0)[0], len(parts) - 1, parts, positions)
    assert set(positions) == set(range(1, len(parts)))
    assert all((position + 4) % alignments[number] == 0 for number, position in positions.items())
    assert all(positions[target] > positions[number] for number in positions for target in targets(parts[number]))
    vtables = {serialise._vtable(part) for part in parts if isinstance(part, Table)}
    min_size = 8 + sum(serialise._size(part) for part in parts[1:]) + sum(map(len, vtables))
    ends = sorted((position, position + serialise._size(parts[number])) for number, position in positions.items())
    assert all(end <= start for (_, end), (start, _) in pairwise(ends)), "no two parts overlap"
    assert min_size <= len(content) <= min_size + 16 * len(parts)


def test_a_small_part_fills_the_gap_of_an_alignment():
    space = serialise._FreeSpace(8)
    assert space.allocate(20, 16) == 12  # its contents begin at 16
    assert space.allocate(4, 4) == 8
    assert space.allocate(20, 16) == 44
    assert space.allocate(6, 2, head=0, after=40) == 64
    assert (space.allocate(6, 2, head=0), space.allocate(6, 2, head=0)) == (32, 38)
    assert space.end == 70
