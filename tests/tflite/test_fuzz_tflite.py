"""Damaged `.tflite` files: each is read, or refused with the documented error, quickly and in one line."""

from __future__ import annotations

import struct
import time
from itertools import pairwise

import numpy as np
import pytest
from fuzzing import corpus, damaged, fuzz

from sweep.core.types import Storage
from sweep.tflite import audit, contents, expectations, flatbuffer, schema
from sweep.tflite.minimize import lossless, sparse

CORPUS = corpus("tflite")
LONGEST = 5.0  # seconds for a file of a few kB, on a busy machine


def read(content: bytes) -> None:
    expectations.expect(audit.read(content), storage=Storage.FLOAT32)


def read_weights(content: bytes) -> None:
    expectations.expect_weights(content, {"conv": np.ones((3, 3, 1, 2), bool)}, {"logits": np.zeros((32, 3), np.int32)})


def stripped(content: bytes) -> None:
    lossless.packed(content, strip=True)


def check(content: bytes) -> None:
    """Every reader of a `.tflite` on the same bytes."""
    began = time.perf_counter()
    for reader in (read, read_weights, schema.parsed, sparse.compress, stripped, contents.bytes_by_kind):
        refusal = ""
        try:
            reader(content)
        except (audit.AuditError, flatbuffer.DamagedError, lossless.NotPackedError) as error:
            refusal = str(error)
        assert "\n" not in refusal
    assert time.perf_counter() - began < LONGEST


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.stem)
def test_the_corpus_is_read_or_refused(path):
    check(path.read_bytes())


@pytest.mark.parametrize("name", ["float32", "float16", "int4", "int8", "sparse", "transposed"])
def test_an_undamaged_file_is_read(name):
    content = next(path for path in CORPUS if path.stem == name).read_bytes()
    assert audit.read(content).parameters > 0


def referring(depth: int, width: int) -> bytes:
    """A file of a few kB whose model refers `width` times to one graph, which refers as often to one operator, and so on."""
    # Each table has one field, a vector of offsets that all lead to the next table.
    content = bytearray(struct.pack("<I4s", 8, b"TFL3"))
    tables = []
    fields = (2, 3, 4)[:depth]
    for field in fields:
        vtable = len(content)
        size = 4 + 2 * (field + 1)
        content += struct.pack("<HH", size, 8) + b"\0\0" * field + struct.pack("<H", 4)
        content += b"\0" * (-len(content) % 4)
        tables.append(len(content))
        content += struct.pack("<iI", len(content) - vtable, 4)
        vector = len(content)
        content += struct.pack("<I", width) + b"\0" * 4 * width
        tables[-1] = (tables[-1], vector)
    for (_, vector), (table, _) in pairwise(tables):
        for number in range(width):
            at = vector + 4 + 4 * number
            struct.pack_into("<I", content, at, table - at)
    struct.pack_into("<I", content, 0, tables[0][0])
    return bytes(content)


def test_tables_with_a_million_references_are_refused_at_once():
    with pytest.raises(audit.AuditError, match="damaged at byte"):
        audit.read(referring(3, 1000))


@pytest.mark.slow
def test_damaged_files():
    fuzz(damaged([path.read_bytes() for path in CORPUS]), check)
