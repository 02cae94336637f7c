"""Rewritten files: redundant content is removed, everything else is unchanged, and every difference is found."""

from __future__ import annotations

import runpy
import struct
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from ai_edge_litert.tools import flatbuffer_utils
from fuzzing import corpus
from made_files import tflite

from sweep.tflite import audit, flatbuffer, litert
from sweep.tflite.minimize import lossless
from sweep.tflite.minimize.difference import difference

INDEPENDENT = runpy.run_path(str(Path(__file__).parents[2] / "independent.py"))
WHOLE = [path for path in corpus("tflite") if path.stem != "cut"]


def parsed(content: bytes) -> Any:
    return flatbuffer_utils.read_model_from_bytearray(content)


def changed(content: bytes, change: Any) -> bytes:
    model = parsed(content)
    change(model)
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def made(cls: Any, **fields: Any) -> Any:
    table = cls()
    for name, value in fields.items():
        setattr(table, name, value)
    return table


def signature(key: bytes, graph: int) -> Any:
    inputs, outputs = ([made(schema.TensorMapT, name=name, tensorIndex=index)] for name, index in ((b"x", 0), (b"y", 3)))
    return made(schema.SignatureDefT, signatureKey=key, inputs=inputs, outputs=outputs, subgraphIndex=graph)


def rich(model: Any) -> None:
    """Two graphs with a signature each, and all kinds of redundant content."""
    graph = model.subgraphs[0]
    other = parsed(tflite(seed=0)).subgraphs[0]
    other.name = b"other"
    model.subgraphs.append(other)
    model.signatureDefs = [signature(b"one", 0), signature(b"two", 1)]
    model.description = b"a description"
    model.metadata = [made(schema.MetadataT, name=b"CONVERSION_METADATA", buffer=1)]
    model.metadataBuffer = [1]
    for tensor in (*graph.tensors, *other.tensors):
        tensor.shapeSignature = list(tensor.shape)
        tensor.quantization.min, tensor.quantization.max = np.float32([-1]), np.float32([1])
    graph.tensors[0].shapeSignature = [-1, 4]
    unused = made(schema.TensorT, name=b"unused", shape=[4], type=schema.TensorType.INT8, buffer=3)
    graph.tensors.insert(0, unused)
    for indices in (graph.inputs, graph.outputs, graph.operators[0].inputs, graph.operators[0].outputs):
        indices[:] = [index + 1 for index in indices]
    for entry in (*model.signatureDefs[0].inputs, *model.signatureDefs[0].outputs):
        entry.tensorIndex += 1
    graph.operators[0].intermediates = graph.operators[0].mutatingVariableInputs = []
    model.buffers += [
        made(schema.BufferT, data=np.frombuffer(b"none", np.uint8)),
        made(schema.BufferT, data=model.buffers[1].data),
    ]
    other.tensors[1].buffer = 4
    model.operatorCodes += [model.operatorCodes[0], made(schema.OperatorCodeT, builtinCode=schema.BuiltinOperator.ADD)]
    other.operators[0].opcodeIndex = 1


RICH = changed(tflite(), rich)


def test_unused_content_is_removed_and_equal_parts_are_merged():
    model = parsed(lossless.packed(RICH, strip=False))
    assert (model.description, model.metadata, model.metadataBuffer) == (None, None, None)
    assert len(model.operatorCodes) == 1
    assert [None if buffer.data is None else len(buffer.data) for buffer in model.buffers] == [None, 12, 12]
    first, second = model.subgraphs
    assert [tensor.name for tensor in first.tensors] == [b"in", b"kernel", b"bias", b"out"]
    assert [tensor.buffer for tensor in first.tensors] == [tensor.buffer for tensor in second.tensors]
    assert [tensor.shapeSignature for tensor in first.tensors] == [[-1, 4], None, None, None]
    assert all(tensor.quantization.min is tensor.quantization.max is None for tensor in first.tensors)
    assert first.operators[0].intermediates is first.operators[0].mutatingVariableInputs is None
    names = [(entry.signatureKey, entry.inputs[0].name, entry.inputs[0].tensorIndex) for entry in model.signatureDefs]
    assert names == [(b"one", b"x", 0), (b"two", b"x", 0)]
    assert second.name == b"other"


def test_the_outputs_of_every_signature_are_unchanged():
    packed = lossless.packed(RICH, strip=False)
    assert len(litert.random_outputs(RICH, 5)) == 15
    for strip in (False, True):
        assert litert.random_outputs(lossless.packed(RICH, strip=strip), 5) == litert.random_outputs(RICH, 5)
    assert sorted(Interpreter(model_content=packed).get_signature_list()) == ["one", "two"]


def test_strip_removes_a_single_signature_and_keeps_several():
    model = parsed(lossless.packed(RICH, strip=True))
    assert [tensor.name for graph in model.subgraphs for tensor in graph.tensors] == [None] * 8
    assert [graph.name for graph in model.subgraphs] == [None, None]
    assert len(model.signatureDefs) == 2
    single = changed(tflite(), lambda model: setattr(model, "signatureDefs", [signature(b"one", 0)]))
    assert len(parsed(lossless.packed(single, strip=False)).signatureDefs) == 1
    assert parsed(lossless.packed(single, strip=True)).signatureDefs is None


@pytest.mark.parametrize("strip", [False, True])
@pytest.mark.parametrize("content", [RICH, tflite(), *(path.read_bytes() for path in WHOLE)])
def test_packing_is_idempotent_and_deterministic(content, strip):
    packed = lossless.packed(content, strip=strip)
    assert len(packed) < len(content)
    assert lossless.packed(content, strip=strip) == packed
    assert lossless.packed(packed, strip=strip) == packed
    assert difference(content, packed, names=not strip) == ""


@pytest.mark.parametrize("path", WHOLE, ids=lambda path: path.stem)
def test_the_counts_are_unchanged(path):
    content = path.read_bytes()
    assert audit.read(lossless.packed(content, strip=False)) == audit.read(content)
    assert audit.same(audit.read(lossless.packed(content, strip=True)), audit.read(content))


@pytest.mark.parametrize("content", [RICH, *(path.read_bytes() for path in WHOLE)])
def test_data_are_aligned_as_the_schema_requires(content):
    packed = lossless.packed(content, strip=False)
    table = INDEPENDENT["Table"]
    model = table(packed, struct.unpack_from("<I", packed, 0)[0])

    def start(owner: Any, field: int) -> int:
        where = owner.where(field)
        return where + struct.unpack_from("<I", packed, where)[0] + 4 if where else 0

    buffers = [start(buffer, 0) for buffer in model.tables(4)]
    assert any(buffers)
    assert not [place for place in buffers if place % 16]
    tensors = [tensor for graph in model.tables(2) for tensor in graph.tables(0)]
    for tensor in tensors:
        assert start(tensor, 0) % 4 == 0
        if where := tensor.where(4):
            quantization = table(packed, where + struct.unpack_from("<I", packed, where)[0])
            assert (start(quantization, 2) % 4, start(quantization, 3) % 8) == (0, 0)


def test_equal_vectors_share_a_position():
    def alike(model: Any) -> None:
        for tensor in model.subgraphs[0].tensors[1:3]:
            tensor.quantization.scale = np.linspace(1, 2, 50, dtype=np.float32)
            tensor.quantization.zeroPoint = np.zeros(50, np.int64)

    content = changed(tflite(), alike)
    packed = lossless.packed(content, strip=False)
    assert content.count(np.linspace(1, 2, 50, dtype=np.float32).tobytes()) == 2
    assert packed.count(np.linspace(1, 2, 50, dtype=np.float32).tobytes()) == 1
    assert len(content) - len(packed) > 600


def custom(model: Any) -> None:
    model.operatorCodes[0] = made(schema.OperatorCodeT, builtinCode=32, deprecatedBuiltinCode=32, customCode=b"mine")
    operator = model.subgraphs[0].operators[0]
    operator.builtinOptionsType, operator.builtinOptions = 0, None
    operator.customOptions = np.frombuffer(b"12345", np.uint8)


def test_a_custom_operator_keeps_its_code_its_options_and_the_tensor_indices():
    content = changed(changed(tflite(), rich), custom)
    model = parsed(lossless.packed(content, strip=True))
    assert {code.customCode for code in model.operatorCodes} == {b"mine", None}
    assert bytes(model.subgraphs[0].operators[0].customOptions) == b"12345"
    assert len(model.subgraphs[0].tensors) == 5


def behind(content: bytes) -> bytes:
    """The same file with the data of its buffers behind the flatbuffer, where offsets lead to them."""
    model, data = parsed(content), b""
    for buffer in model.buffers[1:]:
        buffer.offset, buffer.size = len(data) + 2, len(buffer.data)  # placeholders, of the final width
        data += bytes(buffer.data) + bytes(-len(buffer.data) % 16)
        buffer.data, buffer.kept = None, buffer
    flat = bytearray(flatbuffer_utils.convert_object_to_bytearray(model))
    flat += bytes(-len(flat) % 16)
    packed = schema.Model.GetRootAs(flat, 0)
    for index, buffer in enumerate(model.buffers[1:], 1):
        flatbuffer_utils.update_packed_buffer(packed.Buffers(index), len(flat) + buffer.offset - 2, buffer.size)
    return bytes(flat + data)


def test_data_behind_the_flatbuffer_are_moved_into_it():
    content = behind(tflite())
    assert litert.random_outputs(content, 5) == litert.random_outputs(tflite(), 5)
    packed = lossless.packed(content, strip=False)
    assert packed == lossless.packed(tflite(), strip=False)
    assert litert.random_outputs(packed, 5) == litert.random_outputs(content, 5)


def test_variables_are_not_treated_as_constants():
    def stateful(model: Any) -> None:
        graph = model.subgraphs[0]
        graph.tensors[0].isVariable = True
        model.buffers.append(made(schema.BufferT, data=None))
        graph.tensors[0].buffer = 3

    model = parsed(lossless.packed(changed(tflite(), stateful), strip=False))
    assert [tensor.isVariable for tensor in model.subgraphs[0].tensors] == [True, False, False, False]
    assert (len(model.buffers), model.subgraphs[0].tensors[0].buffer) == (3, 0)


def test_metadata_that_changes_execution_stays():
    def placed(model: Any) -> None:
        rich(model)
        model.metadata.append(made(schema.MetadataT, name=b"OfflineMemoryAllocation", buffer=2))

    model = parsed(lossless.packed(changed(tflite(), placed), strip=True))
    [entry] = model.metadata
    assert entry.name == b"OfflineMemoryAllocation"
    assert len(model.buffers[entry.buffer].data) == 12
    assert len(model.subgraphs[0].tensors) == 5, "the metadata refers to tensors by index"


def test_the_tensors_of_blockwise_scales_stay():
    def blocks(model: Any) -> None:
        rich(model)
        kernel = model.subgraphs[0].tensors[2]
        kernel.quantization.scale = kernel.quantization.zeroPoint = None
        kernel.quantization.detailsType = schema.QuantizationDetails.BlockwiseQuantization
        kernel.quantization.details = made(schema.BlockwiseQuantizationT, scales=0, zeroPoints=-1, blockSize=32)

    content = changed(tflite(), blocks)
    packed = lossless.packed(content, strip=False)
    tensors = parsed(packed).subgraphs[0].tensors
    assert tensors[0].name == b"unused"
    assert tensors[2].quantization.details.blockSize == 32

    def other_scales(model: Any) -> None:
        model.buffers[model.subgraphs[0].tensors[0].buffer].data = np.frombuffer(b"some", np.uint8)

    assert difference(content, changed(packed, other_scales), names=True) == "graph 0, operator 0"


def test_a_file_of_more_than_the_maximum_size_is_refused(monkeypatch):
    monkeypatch.setattr(flatbuffer, "MAX_BYTES", 1000)
    with pytest.raises(lossless.NotPackedError, match="expected at most 1000 bytes, found"):
        lossless.packed(RICH, strip=False)


@pytest.mark.parametrize(
    "change",
    [
        lambda model: setattr(model, "metadata", [made(schema.MetadataT, name=b"COMPRESSION_METADATA", buffer=1)]),
        lambda model: (custom(model), setattr(model.operatorCodes[0], "customCode", b"DISPATCH_OP")),
    ],
)
def test_a_file_that_depends_on_its_layout_is_refused(change):
    with pytest.raises(
        lossless.NotPackedError, match=r"refers to places in the file, found (COMPRESSION_METADATA|DISPATCH_OP)"
    ):
        lossless.packed(changed(tflite(), change), strip=False)


def test_a_field_of_a_newer_schema_is_refused():
    class Builder(flatbuffers.Builder):
        """Writes a field 6 into each graph, whose table ends at 5."""

        def StartObject(self, fields):  # noqa: N802
            super().StartObject(7 if fields == 6 else fields)

        def EndObject(self):  # noqa: N802
            if len(self.current_vtable) == 7 and self.current_vtable[3]:
                self.PrependInt32Slot(6, 5, 0)
            return super().EndObject()

    builder = Builder(0)
    builder.Finish(parsed(tflite()).Pack(builder), b"TFL3")
    with pytest.raises(lossless.NotPackedError, match=r"expected the fields of the schema, found another \(SubGraph, 6\)"):
        lossless.packed(bytes(builder.Output()), strip=False)


def test_options_of_an_unknown_kind_are_refused():
    content = changed(tflite(), lambda model: setattr(model.subgraphs[0].operators[0], "builtinOptions", None))
    with pytest.raises(lossless.NotPackedError, match="expected the operators of the schema, found one with options"):
        lossless.packed(content, strip=False)


@pytest.mark.parametrize("content", [b"", b"TFL3", RICH[: len(RICH) // 2], bytes(100)])
def test_a_damaged_file_is_refused(content):
    with pytest.raises(flatbuffer.DamagedError):
        lossless.packed(content, strip=False)


def test_a_file_whose_copy_differs_is_refused(monkeypatch):
    monkeypatch.setattr(lossless, "difference", lambda *_, names: "graph 0, operator 3")
    with pytest.raises(lossless.NotPackedError, match="the packed file would differ in graph 0, operator 3"):
        lossless.packed(RICH, strip=False)


def kernel(model: Any) -> Any:
    return model.subgraphs[0].tensors[1]


def data(values: Any) -> Any:
    """The values with another last element."""
    changed_values = np.array(values)
    changed_values[-1] += 1
    return changed_values


CHANGES = {
    "a weight": lambda m: setattr(m.buffers[1], "data", data(m.buffers[1].data)),
    "a scale": lambda m: setattr(kernel(m).quantization, "scale", np.float32([0.02])),
    "a zero point": lambda m: setattr(kernel(m).quantization, "zeroPoint", np.int64([1])),
    "the quantised dimension": lambda m: setattr(kernel(m).quantization, "quantizedDimension", 1),
    "no quantisation": lambda m: setattr(kernel(m), "quantization", None),
    "the shape": lambda m: setattr(kernel(m), "shape", [4, 3]),
    "the signature": lambda m: setattr(kernel(m), "shapeSignature", [-1, 4]),
    "the type": lambda m: setattr(kernel(m), "type", schema.TensorType.UINT8),
    "a variable": lambda m: setattr(kernel(m), "isVariable", True),
    "the rank": lambda m: setattr(kernel(m), "hasRank", True),
    "a name": lambda m: setattr(kernel(m), "name", b"colonel"),
    "sparsity": lambda m: setattr(kernel(m), "sparsity", made(schema.SparsityParametersT, traversalOrder=[0])),
    "an option": lambda m: setattr(m.subgraphs[0].operators[0].builtinOptions, "fusedActivationFunction", 1),
    "custom options": lambda m: setattr(m.subgraphs[0].operators[0], "customOptions", np.uint8([1])),
    "the operator": lambda m: setattr(m.operatorCodes[0], "builtinCode", schema.BuiltinOperator.ADD),
    "the operator's version": lambda m: setattr(m.operatorCodes[0], "version", 9),
    "an input left out": lambda m: m.subgraphs[0].operators[0].inputs.pop(),
    "inputs in another order": lambda m: m.subgraphs[0].operators[0].inputs.reverse(),
    "an intermediate": lambda m: setattr(m.subgraphs[0].operators[0], "intermediates", [0]),
    "another output": lambda m: setattr(m.subgraphs[0], "outputs", [0]),
    "an operator less": lambda m: m.subgraphs[0].operators.clear(),
    "a graph's name": lambda m: setattr(m.subgraphs[0], "name", b"main"),
    "a graph more": lambda m: m.subgraphs.append(m.subgraphs[0]),
    "a signature": lambda m: setattr(m, "signatureDefs", [signature(b"one", 0)]),
    "the version": lambda m: setattr(m, "version", 4),
    "an external buffer": lambda m: setattr(m, "externalBuffers", [made(schema.ExternalBufferT, id=1)]),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_difference_is_found(name):
    content = tflite()
    assert difference(content, changed(content, lambda model: None), names=True) == ""
    location = difference(content, changed(content, CHANGES[name]), names=True)
    assert location
    assert "\n" not in location
    named = name in ("a name", "a graph's name", "a signature")
    assert bool(difference(content, changed(content, CHANGES[name]), names=False)) is not named


def test_a_difference_in_a_second_signature_is_found_without_names():
    def rename(model: Any) -> None:
        model.signatureDefs[1].outputs[0].name = b"z"

    assert difference(RICH, changed(RICH, rename), names=False) == "graph 1, its signatures"
