"""What a parsed `.tflite` file holds for nothing: ranges, metadata, copies, and what no operator uses.

All work in place. An interpreter reads no `min` and `max`, takes an empty vector for a missing one, and a tensor's shape for
its signature. The scale of a bias is the product of two others, but the outputs of XNNPACK change without it, so it stays.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

READ_AT_RUN_TIME = frozenset({b"OfflineMemoryAllocation", b"reduced_precision_support"})
"""The metadata by which TFLM places tensors, and by which a delegate may compute in float16."""


def leave_out(model: Any) -> None:
    """Leaves out everything that is redundant.

    Args:
        model: a `ModelT` whose buffers lie within the file.
    """
    _metadata(model)
    for graph in model.subgraphs:
        for tensor in graph.tensors:
            _details(tensor)
        for operator in graph.operators:
            if operator.customOptions is not None:  # which may have lain behind the flatbuffer
                operator.customOptions = np.frombuffer(bytes(operator.customOptions), np.uint8)
            operator.intermediates = _unless_empty(operator.intermediates)
            operator.mutatingVariableInputs = _unless_empty(operator.mutatingVariableInputs)
    if not _numbered_elsewhere(model):
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
        for described in (graph, *graph.operators):
            described.debugMetadataIndex = -1


def _details(tensor: Any) -> None:
    """Leaves out the range of a tensor, its quantisation parameters where it has none, and a signature that is its shape."""
    quantization, signature = tensor.quantization, tensor.shapeSignature
    if quantization is not None:
        quantization.min = quantization.max = None
        if _empty(quantization.scale) and _empty(quantization.zeroPoint) and quantization.details is None:
            tensor.quantization = None
    if signature is not None and -1 not in signature and np.array_equal(signature, _list(tensor.shape)):
        tensor.shapeSignature = None


def _numbered_elsewhere(model: Any) -> bool:
    """Whether tensors may be named by their numbers in places that are not followed: in metadata, by custom operators."""
    custom = any(code.customCode for code in model.operatorCodes or [])
    tensors = [tensor for graph in model.subgraphs for tensor in graph.tensors]
    return bool(model.metadata) or custom or any(t.quantization is not None and t.quantization.details for t in tensors)


def _unused_tensors(graph: Any, signatures: list[Any]) -> None:
    """Leaves out the tensors of a graph that nothing names."""
    lists = [graph.inputs, graph.outputs]
    for operator in graph.operators:
        lists += [_list(operator.inputs), _list(operator.outputs), _list(operator.intermediates)]
    entries = [entry for signature in signatures for entry in (*_list(signature.inputs), *_list(signature.outputs))]
    used = {int(index) for indices in lists for index in indices if index >= 0} | {entry.tensorIndex for entry in entries}
    numbers = {old: new for new, old in enumerate(sorted(used))}
    graph.tensors = [graph.tensors[old] for old in numbers]
    for indices in lists:
        indices[:] = [numbers.get(int(index), -1) for index in indices]
    for entry in entries:
        entry.tensorIndex = numbers[entry.tensorIndex]


def _operator_codes(model: Any) -> None:
    """Leaves out the operator codes that no operator has, and equal ones."""
    codes, numbers = model.operatorCodes or [], dict[Any, int]()
    remaining: list[Any] = []
    for operator in _operators(model):
        code = codes[operator.opcodeIndex]
        key = (code.deprecatedBuiltinCode, code.builtinCode, code.customCode, code.version)
        if key not in numbers:
            numbers[key] = len(remaining)
            remaining.append(code)
        operator.opcodeIndex = numbers[key]
    model.operatorCodes = remaining


def _equal_buffers(model: Any) -> None:
    """Leaves out the buffers that nothing names, and all but one of those with equal data; buffer 0 is the empty one."""
    numbers = {b"": 0}
    remaining: list[Any] = [type(model.buffers[0])()]
    for user in (*(tensor for graph in model.subgraphs for tensor in graph.tensors), *(model.metadata or [])):
        buffer = model.buffers[user.buffer]
        data = b"" if buffer.data is None else bytes(buffer.data)
        if data not in numbers:
            numbers[data] = len(remaining)
            buffer.data = np.frombuffer(data, np.uint8)
            remaining.append(buffer)
        user.buffer = numbers[data]
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
