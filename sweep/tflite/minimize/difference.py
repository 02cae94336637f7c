"""Verifies that two `.tflite` files describe the same computation, without running them.

The indices of tensors, buffers and operator codes may differ, so each is compared where it is used: an operator with its code,
its options and all properties of its tensors, in order. As an independent check, this shares no code with the modules that
remove content.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from sweep.tflite import flatbuffer
from sweep.tflite.schema import parsed

_NOT_COMPARED = frozenset({"buffer", "debugMetadataIndex", "min", "max", "opcodeIndex", "shapeSignature"})


def difference(first: bytes, second: bytes, *, names: bool) -> str:
    """The first difference of two files; an empty string without one.

    Descriptions, metadata, ranges and unused parts are not compared.

    Args:
        first: the bytes of a file.
        second: the bytes of another file.
        names: whether the names of tensors, graphs and signatures are compared.

    Returns:
        The first part of the file that differs, such as `graph 0, operator 3`.

    Raises:
        DamagedError: for bytes that are not a well-formed `.tflite` file.
    """
    with flatbuffer.damage_errors():
        first_facts, second_facts = _Description(first, names).facts(), _Description(second, names).facts()
    if len(first_facts) != len(second_facts):
        return f"{len(first_facts)} parts and {len(second_facts)}"
    for before, after in zip(first_facts, second_facts, strict=True):
        if before != after:
            return before[0]
    return ""


class _Description:
    """The computation of a file as plain values, to compare."""

    def __init__(self, content: bytes, names: bool) -> None:
        self._model, _, _ = parsed(content)
        self._names = names
        self._order: dict[int, int] = {}  # the tensors of the current graph, index to rank by first use

    def facts(self) -> list[tuple[str, Any]]:
        """(location, value) of each part of the file."""
        model = self._model
        facts = [("the version", model.version), ("the external buffers", _plain(model.externalBuffers))]
        facts.append(("the groups of external buffers", _plain(model.externalBufferGroups)))
        for number, graph in enumerate(model.subgraphs):
            self._order = {}
            where = f"graph {number}"
            facts.append((f"{where}, its name", graph.name if self._names else None))
            facts.append((f"{where}, its inputs", self._tensors(graph, graph.inputs)))
            facts.append((f"{where}, its outputs", self._tensors(graph, graph.outputs)))
            for position, operator in enumerate(graph.operators):
                facts.append((f"{where}, operator {position}", self._operator(graph, operator)))
            if self._names or len(model.signatureDefs or []) > 1:
                signatures = [entry for entry in model.signatureDefs or [] if entry.subgraphIndex == number]
                facts.append((f"{where}, its signatures", [self._signature(graph, entry) for entry in signatures]))
        return facts

    def _operator(self, graph: Any, operator: Any) -> Any:
        code = self._model.operatorCodes[operator.opcodeIndex]
        tensor_lists = ("inputs", "outputs", "intermediates")
        tensors = [self._tensors(graph, getattr(operator, name)) for name in tensor_lists]
        other_fields = {name: value for name, value in vars(operator).items() if name not in tensor_lists}
        other_fields["customOptions"] = None if operator.customOptions is None else bytes(operator.customOptions)
        return _plain(code), tensors, _plain(other_fields)

    def _signature(self, graph: Any, signature: Any) -> Any:
        inputs = [(entry.name, self._tensors(graph, [entry.tensorIndex])) for entry in signature.inputs or []]
        outputs = [(entry.name, self._tensors(graph, [entry.tensorIndex])) for entry in signature.outputs or []]
        return signature.signatureKey, [inputs, outputs]

    def _tensors(self, graph: Any, indices: Any) -> list[Any]:
        return [None if index < 0 else self._tensor(graph, int(index)) for index in ([] if indices is None else indices)]

    def _tensor(self, graph: Any, index: int) -> Any:
        """The tensor's rank in the order of first use; at its first use also all of its properties."""
        if index in self._order:
            return self._order[index]
        self._order[index] = len(self._order)
        tensor = graph.tensors[index]
        data = self._model.buffers[tensor.buffer].data
        shape = [] if tensor.shape is None else list(tensor.shape)
        excluded = {"quantization"} if self._names else {"quantization", "name"}
        other_fields = {name: value for name, value in vars(tensor).items() if name not in excluded}
        return (
            self._order[index],
            b"" if data is None else bytes(data),
            shape if tensor.shapeSignature is None else list(tensor.shapeSignature),
            _plain(other_fields),
            self._quantization(graph, tensor.quantization),
        )

    def _quantization(self, graph: Any, quantization: Any) -> Any:
        if quantization is None:
            return None
        fields, details = _plain(quantization), quantization.details
        if not (fields["scale"] or fields["zeroPoint"] or details):
            return None
        # Blockwise quantisation refers to its scales and zero points by the indices of tensors.
        indices = [getattr(details, name) for name in ("scales", "zeroPoints") if hasattr(details, name)]
        return fields, self._tensors(graph, indices)


def _plain(value: Any) -> Any:
    """A value of the schema as built-in types, arrays as bytes; None for an empty vector."""
    if isinstance(value, np.ndarray):
        return value.tobytes() or None
    if isinstance(value, (list, tuple)):
        return [_plain(element) for element in value] or None
    if isinstance(value, dict) or hasattr(value, "__dict__"):
        fields = value if isinstance(value, dict) else vars(value)
        return {name: _plain(field) for name, field in fields.items() if name not in _NOT_COMPARED}
    return value
