"""The input and the output of a `.tflite` file from anywhere, read off its tensors. Nothing is run.

A file of this project takes pixels divided by 255. Others take them as they are, or scaled to [-1, 1]. The quantisation of an
integer input tells which: its scale and zero point span the values that it was calibrated on. A float input tells nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from sweep.tflite import audit
from sweep.tflite.interface import Interface

_INTEGERS = {"INT8": (-128, 127), "UINT8": (0, 255), "INT16": (-32768, 32767)}
"""The types of quantised inputs, with their ends."""
_TYPES = (*_INTEGERS, "FLOAT32")
_SCORES = ("INT8", "UINT8", "INT16", "INT32", "FLOAT32")
_MOVING = ("DEQUANTIZE", "QUANTIZE", "RESHAPE")
"""Operators that hand on what a sigmoid before them gives."""


class UnknownRangeError(ValueError):
    """The values that the input takes cannot be told from the file."""


@dataclass(frozen=True)
class Ends:
    """The input and the output of a file.

    Attributes:
        shape: of one image, without the first dimension.
        input_type: `INT8`, say.
        span: the real values that the integers of the input stand for, lowest and highest; None for floats, and where the
            integers are the values themselves.
        outputs: how many numbers an image gets.
        output_type: their type.
        sigmoid: whether the last operator that computes is a sigmoid.
    """

    shape: tuple[int, ...]
    input_type: str
    span: tuple[float, float] | None
    outputs: int
    output_type: str
    sigmoid: bool

    @property
    def range(self) -> tuple[float, float]:
        """The real values of black and white, as far as the file tells; (0, 1), as files of this project have it, for floats.

        Integers that are all but non-negative take [0, 1] where they end by 1.5, and [0, 255] where they end between 64 and
        320; those that end between 0.5 and 1.5 on both sides take [-1, 1]. Integers of 16 bits have a zero point of 0
        whatever they take: what they span below zero says nothing.

        Raises:
            UnknownRangeError: for another span, with it.
        """
        if self.span is None:
            return (0.0, 255.0) if self.input_type == "UINT8" else (0.0, 1.0)
        low, high = self.span
        if self.input_type == "INT16" or low >= -high / 4:
            if high <= 1.5:
                return 0.0, 1.0
            if 64 <= high <= 320:
                return 0.0, 255.0
        elif 0.5 <= -low <= 1.5 and 0.5 <= high <= 1.5:
            return -1.0, 1.0
        raise UnknownRangeError(f"{low:.4g} to {high:.4g}")

    def interface(self, given: tuple[float, float] | None = None) -> Interface:
        """How to run the file.

        Args:
            given: the values of black and white, where a person says so.

        Raises:
            UnknownRangeError: where nobody does and the file does not tell.
        """
        threshold = None
        if self.outputs == 1:
            threshold = 0.5 if self.sigmoid else 0.0
        return Interface(*(self.range if given is None else given), threshold)


def read(content: bytes) -> Ends:
    """The ends of a file with one input and one output.

    Raises:
        AuditError: for bytes that are no such file, and for types that images or scores do not have.
    """
    with audit.audit_errors():
        file = audit.File(content)
        if len(file.inputs) != 1 or len(file.outputs) != 1:
            raise audit.AuditError(f"expected one input and one output, found {len(file.inputs)} and {len(file.outputs)}")
        source, target = file.tensors[file.inputs[0]], file.tensors[file.outputs[0]]
        input_type, output_type = file.types[file.inputs[0]], file.types[file.outputs[0]]
        if input_type not in _TYPES:
            raise audit.AuditError(f"expected an input of type {', '.join(_TYPES)}, found {input_type}")
        if output_type not in _SCORES:
            raise audit.AuditError(f"expected an output of type {', '.join(_SCORES)}, found {output_type}")
        shape, scores = ([] if tensor.shape is None else tensor.shape for tensor in (source, target))
        computing = [operator for operator, _, _ in file.operators if operator not in _MOVING]
        return Ends(
            shape=tuple(int(length) for length in shape[1:]),
            input_type=input_type,
            span=_span(input_type, source.quantization),
            outputs=math.prod(int(length) for length in scores[1:]),
            output_type=output_type,
            sigmoid=computing[-1:] == ["LOGISTIC"],
        )


def _span(kind: str, quantization: object) -> tuple[float, float] | None:
    """The real values of a type's lowest and highest integer."""
    scales = getattr(quantization, "scale", None)
    scale = 0.0 if scales is None or not len(scales) else float(scales[0])
    if kind not in _INTEGERS or not (scale > 0 and math.isfinite(scale)):
        if kind in ("INT8", "INT16"):
            raise audit.AuditError(f"expected an input of type {kind} to have a scale, found none")
        return None
    points = getattr(quantization, "zeroPoint", None)
    zero = 0 if points is None or not len(points) else int(points[0])
    low, high = ((end - zero) * scale for end in _INTEGERS[kind])
    return low, high
