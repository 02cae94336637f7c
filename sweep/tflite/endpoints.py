"""The input and the output of a `.tflite` file of any origin, from its tensors. Nothing is run.

The input of this project's files is pixels divided by 255. Other files expect pixels of 0 to 255, or of -1 to 1. The scale and
zero point of an integer input show which: they span the calibrated range. A float input has no such information.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from sweep.tflite import audit
from sweep.tflite.interface import Interface

_INTEGERS = {"INT8": (-128, 127), "UINT8": (0, 255), "INT16": (-32768, 32767)}
"""The types of quantised inputs, with their smallest and largest value."""
_INPUT_TYPES = (*_INTEGERS, "FLOAT32")
_OUTPUT_TYPES = ("INT8", "UINT8", "INT16", "INT32", "FLOAT32")
_PASS_THROUGH = ("DEQUANTIZE", "QUANTIZE", "RESHAPE")
"""Operators that may follow a final sigmoid without changing its values."""


class UnknownRangeError(ValueError):
    """The range of the input cannot be inferred from the file."""


@dataclass(frozen=True)
class Endpoints:
    """The input and the output of a file.

    Attributes:
        shape: the shape of one image, without the batch dimension.
        input_type: the type of the input, such as `INT8`.
        span: the real values of the smallest and the largest integer of the input; None for floats, and for integers without a
            scale, which are the values themselves.
        outputs: the number of output values for one image.
        output_type: the type of the output.
        sigmoid: whether the last computing operator is a sigmoid.
    """

    shape: tuple[int, ...]
    input_type: str
    span: tuple[float, float] | None
    outputs: int
    output_type: str
    sigmoid: bool

    @property
    def range(self) -> tuple[float, float]:
        """The real values of black and white, inferred from the span (low, high): (0, 1), (0, 255) or (-1, 1).

        With low >= -high / 4 it is (0, 1) for a high up to 1.5, and (0, 255) for a high of 64 to 320. Otherwise it is (-1, 1)
        where both -low and high are in [0.5, 1.5]. For int16 only high counts, since its zero point is always 0. Without a span
        it is (0, 255) for uint8, and (0, 1), as in files of this project, for floats.

        Raises:
            UnknownRangeError: for any other span, with its limits.
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

    def interface(self, value_range: tuple[float, float] | None = None) -> Interface:
        """The scaling of the input and the meaning of the output. A single output has a threshold: 0.5 for a sigmoid, else 0.

        Args:
            value_range: the real values of black and white; None to infer them.

        Raises:
            UnknownRangeError: where they cannot be inferred.
        """
        threshold = None
        if self.outputs == 1:
            threshold = 0.5 if self.sigmoid else 0.0
        return Interface(*(self.range if value_range is None else value_range), threshold)


def read(content: bytes) -> Endpoints:
    """Reads the input and the output of a file.

    Args:
        content: the file's bytes.

    Raises:
        AuditError: for bytes that are not a well-formed `.tflite` file, several inputs or outputs, or an unsupported type.
    """
    with audit.audit_errors():
        file = audit.File(content)
        if len(file.inputs) != 1 or len(file.outputs) != 1:
            raise audit.AuditError(f"expected one input and one output, found {len(file.inputs)} and {len(file.outputs)}")
        input_tensor, output_tensor = file.tensors[file.inputs[0]], file.tensors[file.outputs[0]]
        input_type, output_type = file.types[file.inputs[0]], file.types[file.outputs[0]]
        if input_type not in _INPUT_TYPES:
            raise audit.AuditError(f"expected an input of type {', '.join(_INPUT_TYPES)}, found {input_type}")
        if output_type not in _OUTPUT_TYPES:
            raise audit.AuditError(f"expected an output of type {', '.join(_OUTPUT_TYPES)}, found {output_type}")
        computing = [operator for operator, _, _ in file.operators if operator not in _PASS_THROUGH]
        return Endpoints(
            shape=_without_batch(input_tensor),
            input_type=input_type,
            span=_span(input_type, input_tensor.quantization),
            outputs=math.prod(_without_batch(output_tensor)),
            output_type=output_type,
            sigmoid=computing[-1:] == ["LOGISTIC"],
        )


def _without_batch(tensor: Any) -> tuple[int, ...]:
    """The shape of a tensor without its first dimension."""
    return () if tensor.shape is None else tuple(int(length) for length in tensor.shape[1:])


def _span(kind: str, quantization: object) -> tuple[float, float] | None:
    """The real values of the smallest and the largest integer of a type; None where it has no scale."""
    scales = getattr(quantization, "scale", None)
    scale = 0.0 if scales is None or not len(scales) else float(scales[0])
    if kind not in _INTEGERS or not (scale > 0 and math.isfinite(scale)):
        if kind in ("INT8", "INT16"):
            raise audit.AuditError(f"expected an input of type {kind} to have a scale, found none")
        return None
    zero_points = getattr(quantization, "zeroPoint", None)
    zero_point = 0 if zero_points is None or not len(zero_points) else int(zero_points[0])
    low, high = _INTEGERS[kind]
    return (low - zero_point) * scale, (high - zero_point) * scale
