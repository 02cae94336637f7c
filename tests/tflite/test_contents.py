"""The bytes of a file by kind: they add up, and equal the counts of an independent reader."""

from __future__ import annotations

import runpy
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools import flatbuffer_utils
from fuzzing import corpus
from made_files import tflite

from sweep.tflite import contents, flatbuffer
from sweep.tflite.minimize import lossless

TABLE = runpy.run_path(str(Path(__file__).parents[1] / "independent.py"))["Table"]
WHOLE = [path for path in corpus("tflite") if path.stem != "cut"]


def counted(content: bytes) -> dict[str, int]:
    """Scales, zero points and the names of tensors, counted directly; shared vectors count once."""
    model = TABLE(content, struct.unpack_from("<I", content, 0)[0])
    sizes: dict[str, dict[int, int]] = {"scales": {}, "zero points": {}, "names": {}}

    def note(kind: str, table: Any, field: int, code: str) -> None:
        if (where := table.where(field)) is not None:
            start = where + struct.unpack_from("<I", content, where)[0]
            sizes[kind][start] = len(table.vector(field, code)) * struct.calcsize(code) + (kind == "names")

    for graph in model.tables(2):
        note("names", graph, 4, "B")
        for tensor in graph.tables(0):
            note("names", tensor, 3, "B")
            if (where := tensor.where(4)) is not None:
                quantization = TABLE(content, where + struct.unpack_from("<I", content, where)[0])
                note("scales", quantization, 2, "f")
                note("zero points", quantization, 3, "q")
    for signature in model.tables(7):
        note("names", signature, 2, "B")
        for entry in (*signature.tables(0), *signature.tables(1)):
            note("names", entry, 0, "B")
    return {kind: sum(positions.values()) for kind, positions in sizes.items()}


@pytest.mark.parametrize("path", WHOLE, ids=lambda path: path.stem)
def test_the_bytes_add_up_and_equal_the_counts_of_an_independent_reader(path):
    content = path.read_bytes()
    for file in (content, *(lossless.packed(content, strip=strip) for strip in (False, True))):
        kinds = contents.bytes_by_kind(file)
        assert list(kinds) == list(contents.KINDS)
        assert sum(kinds.values()) == len(file)
        assert counted(file).items() <= kinds.items()
        assert kinds["weights"] > 0


def test_every_kind_is_counted():
    def change(model: Any) -> None:
        model.description = b"12345"
        model.metadata = [schema.MetadataT()]
        model.metadata[0].name, model.metadata[0].buffer = b"1234", 3
        model.buffers += [schema.BufferT(), schema.BufferT()]
        model.buffers[3].data, model.buffers[4].data = np.zeros(100, np.uint8), np.zeros(7, np.uint8)
        graph = model.subgraphs[0]
        graph.tensors[3].buffer = 4
        graph.tensors[0].quantization.min = np.float32([1, 2, 3])

    model = flatbuffer_utils.read_model_from_bytearray(tflite())
    change(model)
    content = bytes(flatbuffer_utils.convert_object_to_bytearray(model))
    kinds = contents.bytes_by_kind(content)
    assert sum(kinds.values()) == len(content)
    assert kinds == {
        "weights": 12,
        "biases": 12,
        "constants": 7,
        "scales": 4 * 4,
        "zero points": 4 * 8,
        "ranges": 12,
        "names": len("in0kernel0bias0out0"),
        "metadata": 100 + len("123450") + len("12340"),
        "structure": kinds["structure"],
    }


def test_sparse_kernels_count_with_their_indices():
    content = next(path for path in WHOLE if path.stem == "sparse").read_bytes()
    model = flatbuffer_utils.read_model_from_bytearray(content)
    expected = 0
    for tensor in model.subgraphs[0].tensors:
        if tensor.sparsity is not None:
            expected += len(model.buffers[tensor.buffer].data)
            for dimension in tensor.sparsity.dimMetadata:
                vectors = [vector for vector in (dimension.arraySegments, dimension.arrayIndices) if vector is not None]
                wide = {schema.Uint8VectorT: 1, schema.Uint16VectorT: 2, schema.Int32VectorT: 4}
                expected += sum(len(vector.values) * wide[type(vector)] for vector in vectors)
    assert expected > 0
    assert contents.bytes_by_kind(content)["weights"] >= expected


def test_a_damaged_file_is_refused():
    with pytest.raises(flatbuffer.DamagedError):
        contents.bytes_by_kind(tflite()[:-30])
