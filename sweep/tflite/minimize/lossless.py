"""Rewrites a `.tflite` file in fewer bytes with the same computation: without duplicate and redundant content."""

from __future__ import annotations

from typing import Any

from sweep.tflite import flatbuffer
from sweep.tflite.minimize import names, redundant
from sweep.tflite.minimize.difference import difference
from sweep.tflite.minimize.serialise import serialised
from sweep.tflite.schema import parsed

_REFERS_TO_LAYOUT = (b"COMPRESSION_METADATA", b"DISPATCH_OP")
"""TFLM's compression refers to buffers by index, and LiteRT's compiled code to an offset in the file."""


class NotPackedError(ValueError):
    """The file cannot be rewritten without loss."""


def packed(content: bytes, *, strip: bool) -> bytes:
    """Rewrites a file in fewer bytes.

    Equal vectors, strings, tables and buffers are written once. Ranges, metadata, the description, shape signatures that equal
    the shape, and unused tensors, buffers and operator codes are removed.

    Args:
        content: the bytes of a `.tflite`.
        strip: whether the names and the signature are removed too.

    Returns:
        The bytes of the new file; `content` itself where the new file is not smaller.

    Raises:
        DamagedError: for bytes that are not a well-formed `.tflite` file.
        NotPackedError: for a file that is too large, depends on its own layout, or has fields of a newer schema.
    """
    if len(content) > flatbuffer.MAX_BYTES:
        raise NotPackedError(f"expected at most {flatbuffer.MAX_BYTES} bytes, found {len(content)}")
    model, _, _ = parsed(content)
    if reason := _unsupported(content, model):
        raise NotPackedError(reason)
    with flatbuffer.damage_errors():
        redundant.remove(model)
        if strip:
            names.strip(model)
        smaller = serialised(model)
    if len(smaller) >= len(content):
        return content
    if where := difference(content, smaller, names=not strip):
        raise NotPackedError(f"the packed file would differ in {where}")
    return smaller


def _unsupported(content: bytes, model: Any) -> str:
    """The reason why a file cannot be rewritten without loss; an empty string where it can."""
    if field := flatbuffer.unknown_field(content):
        return f"expected the fields of the schema, found another ({field})"
    names = [*(entry.name for entry in model.metadata or []), *(code.customCode for code in model.operatorCodes or [])]
    for name in names:
        if name in _REFERS_TO_LAYOUT:
            return f"expected nothing that refers to places in the file, found {name.decode()}"
    for operator in (operator for graph in model.subgraphs for operator in graph.operators):
        for kind, options in (
            (operator.builtinOptionsType, operator.builtinOptions),
            (operator.builtinOptions2Type, operator.builtinOptions2),
        ):
            if kind and options is None:
                return f"expected the operators of the schema, found one with options of another kind ({kind})"
    return ""
