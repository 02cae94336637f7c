"""Removes redundant content from a parsed `.tflite` file: ranges, metadata, duplicates, and unused tensors and buffers.

All functions work in place. An interpreter ignores `min` and `max`, and treats a missing vector as empty and a missing shape
signature as the shape. The scale of a bias is the product of two other scales, but the outputs of XNNPACK change without it, so
it stays.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

READ_AT_RUN_TIME = frozenset({b"OfflineMemoryAllocation", b"reduced_precision_support"})
"""Metadata that changes execution: TFLM's placement of tensors, and the permission for a delegate to compute in float16."""


def remove(model: Any) -> None:
    """Removes all redundant content.

    Args:
        model: a `ModelT` whose buffers lie within the file, changed in place.
    """
    _metadata(model)
    for graph in model.subgraphs:
        for tensor in graph.tensors:
            _details(tensor)
        for operator in graph.operators:
            if operator.customOptions is not None:  # they may have been stored behind the flatbuffer
                operator.customOptions = np.frombuffer(bytes(operator.customOptions), np.uint8)
            operator.intermediates = _unless_empty(operator.intermediates)
            operator.mutatingVariableInputs = _unless_empty(operator.mutatingVariableInputs)
    if not _has_opaque_indices(model):
        for number, graph in enumerate(model.subgraphs):
            signatures = [signature for signature in model.signatureDefs or [] if signature.subgraphIndex == number]
            _unused_tensors(graph, signatures)
    _operator_codes(model)
    _equal_buffers(model)


def _metadata(model: Any) -> None:
    model.description = model.metadataBuffer = None
    model.metadata = _unless_empty([entry for entry in model.metadata or [] if entry.name in READ_AT_RUN_TIME])
    model.signatureDefs = _unless_empty(model.signatureDefs)
    for graph in model.subgraphs:
        for element in (graph, *graph.operators):
            element.debugMetadataIndex = -1


def _details(tensor: Any) -> None:
    """Removes the range of a tensor, quantisation parameters that are empty, and a shape signature that equals the shape."""
    quantization, signature = tensor.quantization, tensor.shapeSignature
    if quantization is not None:
        quantization.min = quantization.max = None
        if _empty(quantization.scale) and _empty(quantization.zeroPoint) and quantization.details is None:
            tensor.quantization = None
    if signature is not None and -1 not in signature and np.array_equal(signature, _list(tensor.shape)):
        tensor.shapeSignature = None


def _has_opaque_indices(model: Any) -> bool:
    """Whether indices of tensors may occur in data that is not parsed: metadata, custom operators, quantisation details."""
    if model.metadata or any(code.customCode for code in model.operatorCodes or []):
        return True
    quantizations = [tensor.quantization for graph in model.subgraphs for tensor in graph.tensors]
    return any(quantization is not None and quantization.details for quantization in quantizations)


def _unused_tensors(graph: Any, signatures: list[Any]) -> None:
    """Removes the tensors of a graph that no operator, input, output or signature refers to."""
    lists = [graph.inputs, graph.outputs]
    for operator in graph.operators:
        lists += [_list(operator.inputs), _list(operator.outputs), _list(operator.intermediates)]
    entries = [entry for signature in signatures for entry in (*_list(signature.inputs), *_list(signature.outputs))]
    used = {int(index) for indices in lists for index in indices if index >= 0} | {entry.tensorIndex for entry in entries}
    new_indices = {old: new for new, old in enumerate(sorted(used))}
    graph.tensors = [graph.tensors[old] for old in new_indices]
    for indices in lists:
        indices[:] = [new_indices.get(int(index), -1) for index in indices]
    for entry in entries:
        entry.tensorIndex = new_indices[entry.tensorIndex]


def _operator_codes(model: Any) -> None:
    """Removes unused and duplicate operator codes."""
    codes, new_indices = model.operatorCodes or [], dict[Any, int]()
    remaining: list[Any] = []
    for operator in _operators(model):
        code = codes[operator.opcodeIndex]
        key = (code.deprecatedBuiltinCode, code.builtinCode, code.customCode, code.version)
        if key not in new_indices:
            new_indices[key] = len(remaining)
            remaining.append(code)
        operator.opcodeIndex = new_indices[key]
    model.operatorCodes = remaining


def _equal_buffers(model: Any) -> None:
    """Removes unused buffers, and merges buffers with equal data; buffer 0 is the empty buffer."""
    new_indices = {b"": 0}
    remaining: list[Any] = [type(model.buffers[0])()]
    for user in (*(tensor for graph in model.subgraphs for tensor in graph.tensors), *(model.metadata or [])):
        buffer = model.buffers[user.buffer]
        data = b"" if buffer.data is None else bytes(buffer.data)
        if data not in new_indices:
            new_indices[data] = len(remaining)
            buffer.data = np.frombuffer(data, np.uint8)
            remaining.append(buffer)
        user.buffer = new_indices[data]
    model.buffers = remaining


def _operators(model: Any) -> Iterator[Any]:
    for graph in model.subgraphs:
        yield from graph.operators


def _unless_empty(values: Any) -> Any:
    return None if _empty(values) else values


def _empty(values: Any) -> bool:
    return values is None or len(values) == 0


def _list(values: Any) -> Any:
    return [] if values is None else values
