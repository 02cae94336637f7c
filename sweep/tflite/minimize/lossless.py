"""Writes a `.tflite` file anew with everything once and nothing that is redundant: fewer bytes, the same computation."""

from __future__ import annotations

from typing import Any

from sweep.tflite import flatbuffer
from sweep.tflite.minimize import names, redundant
from sweep.tflite.minimize.difference import difference
from sweep.tflite.minimize.serialise import serialised
from sweep.tflite.schema import parsed

_BY_PLACE = (b"COMPRESSION_METADATA", b"DISPATCH_OP")
"""TFLM's compression, which names buffers by their numbers, and LiteRT's compiled code, which lies at a place in the file."""


class NotPackedError(ValueError):
    """The file is none that can be written anew without a loss."""


def packed(content: bytes, *, strip: bool) -> bytes:
    """The file in fewer bytes.

    Equal vectors, strings, tables and buffers are written once. Left out are ranges, metadata, the description, signatures that
    are the shape, and the tensors, buffers and operator codes that nothing uses.

    Args:
        content: the bytes of a `.tflite`.
        strip: whether the names and the signature are left out too.

    Returns:
        The file's bytes; those of `content` where they are no more.

    Raises:
        DamagedError: for bytes that are no such file.
        NotPackedError: for a file that is too large, refers to places in itself, or is of a newer schema.
    """
    if len(content) > flatbuffer.MAX_BYTES:
        raise NotPackedError(f"expected at most {flatbuffer.MAX_BYTES} bytes, found {len(content)}")
    model, _, _ = parsed(content)
    if reason := _reason_against(content, model):
        raise NotPackedError(reason)
    with flatbuffer.damage_errors():
        redundant.leave_out(model)
        if strip:
            names.strip(model)
        smaller = serialised(model)
    if len(smaller) >= len(content):
        return content
    if where := difference(content, smaller, names=not strip):
        raise NotPackedError(f"the packed file would differ in {where}")
    return smaller


def _reason_against(content: bytes, model: Any) -> str:
    """Why a file would not be the same if it were written anew; an empty string where it would."""
    if field := flatbuffer.unknown_field(content):
        return f"expected the fields of the schema, found another ({field})"
    named = [*(entry.name for entry in model.metadata or []), *(code.customCode for code in model.operatorCodes or [])]
    if places := [name for name in named if name in _BY_PLACE]:
        return f"expected nothing that refers to places in the file, found {places[0].decode()}"
    for operator in (operator for graph in model.subgraphs for operator in graph.operators):
        for kind, options in (
            (operator.builtinOptionsType, operator.builtinOptions),
            (operator.builtinOptions2Type, operator.builtinOptions2),
        ):
            if kind and options is None:
                return f"expected the operators of the schema, found one with options of another kind ({kind})"
    return ""
