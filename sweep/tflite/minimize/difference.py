"""Proves that two `.tflite` files describe the same computation, without running either.

Tensors, buffers and operator codes may be numbered otherwise, so each is compared where it is used: an operator with its code,
its options and the whole of its tensors, in order. Nothing here is shared with what leaves things out.
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
        names: whether the names of tensors, graphs and signatures count.

    Raises:
        DamagedError: for bytes that are no such file.
    """
    with flatbuffer.damage_errors():
        left, right = _Description(first, names).facts(), _Description(second, names).facts()
    if len(left) != len(right):
        return f"{len(left)} parts and {len(right)}"
    return next((before[0] for before, after in zip(left, right, strict=True) if before != after), "")


class _Description:
    """The computation of a file as plain values, to compare."""

    def __init__(self, content: bytes, names: bool) -> None:
        self._model, _, _ = parsed(content)
        self._names = names
        self._order: dict[int, int] = {}  # the tensors of a graph by their first use

    def facts(self) -> list[tuple[str, Any]]:
        """Each part of the file with where it is."""
        model = self._model
        facts = [("the version", model.version), ("the external buffers", _plain(model.externalBuffers))]
        facts.append(("the groups of external buffers", _plain(model.externalBufferGroups)))
        for number, graph in enumerate(model.subgraphs):
            self._order = {}
            where = f"graph {number}"
            facts.append((f"{where}, its name", graph.name if self._names else None))
            facts += [(f"{where}, its {end}", self._tensors(graph, getattr(graph, end))) for end in ("inputs", "outputs")]
            for position, operator in enumerate(graph.operators):
                facts.append((f"{where}, operator {position}", self._operator(graph, operator)))
            if self._names or len(model.signatureDefs or []) > 1:
                signatures = [entry for entry in model.signatureDefs or [] if entry.subgraphIndex == number]
                facts.append((f"{where}, its signatures", [self._signature(graph, entry) for entry in signatures]))
        return facts

    def _operator(self, graph: Any, operator: Any) -> Any:
        code = self._model.operatorCodes[operator.opcodeIndex]
        tensors = [self._tensors(graph, getattr(operator, ends)) for ends in ("inputs", "outputs", "intermediates")]
        rest = {name: value for name, value in vars(operator).items() if name not in ("inputs", "outputs", "intermediates")}
        rest["customOptions"] = None if operator.customOptions is None else bytes(operator.customOptions)
        return _plain(code), tensors, _plain(rest)

    def _signature(self, graph: Any, signature: Any) -> Any:
        ends = [
            [(entry.name, self._tensors(graph, [entry.tensorIndex])) for entry in end or []]
            for end in (signature.inputs, signature.outputs)
        ]
        return signature.signatureKey, ends

    def _tensors(self, graph: Any, indices: Any) -> list[Any]:
        return [None if index < 0 else self._tensor(graph, int(index)) for index in ([] if indices is None else indices)]

    def _tensor(self, graph: Any, index: int) -> Any:
        """The tensor's number in the order of use, and at its first use all of it."""
        if index in self._order:
            return self._order[index]
        self._order[index] = len(self._order)
        tensor = graph.tensors[index]
        data = self._model.buffers[tensor.buffer].data
        shape = [] if tensor.shape is None else list(tensor.shape)
        left_out = {"quantization"} if self._names else {"quantization", "name"}
        rest = {name: value for name, value in vars(tensor).items() if name not in left_out}
        return (
            self._order[index],
            b"" if data is None else bytes(data),
            shape if tensor.shapeSignature is None else list(tensor.shapeSignature),
            _plain(rest),
            self._quantization(graph, tensor.quantization),
        )

    def _quantization(self, graph: Any, quantization: Any) -> Any:
        if quantization is None:
            return None
        facts, details = _plain(quantization), quantization.details
        if not (facts["scale"] or facts["zeroPoint"] or details):
            return None
        numbers = [getattr(details, name) for name in ("scales", "zeroPoints") if hasattr(details, name)]  # of blocks
        return facts, self._tensors(graph, numbers)


def _plain(value: Any) -> Any:
    """A value of the schema as plain Python, to the bit; None for an empty vector."""
    if isinstance(value, np.ndarray):
        return value.tobytes() or None
    if isinstance(value, (list, tuple)):
        return [_plain(element) for element in value] or None
    if isinstance(value, dict) or hasattr(value, "__dict__"):
        fields = value if isinstance(value, dict) else vars(value)
        return {name: _plain(field) for name, field in fields.items() if name not in _NOT_COMPARED}
    return value
