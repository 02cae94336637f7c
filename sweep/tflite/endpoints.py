"""The input and the output of a `.tflite` file of any origin, from its tensors. Nothing is run.

The input of this project's files is pixels divided by 255. Other files expect pixels of 0 to 255, or of -1 to 1. The scale and
zero point of an integer input show which: they span the calibrated range. A float input has no such information.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from sweep.tflite import audit
from sweep.tflite.interface import Interface

_INTEGERS = {"INT8": (-128, 127), "UINT8": (0, 255), "INT16": (-32768, 32767)}
"""The types of quantised inputs, with their smallest and largest value."""
_TYPES = (*_INTEGERS, "FLOAT32")
_SCORES = ("INT8", "UINT8", "INT16", "INT32", "FLOAT32")
_MOVING = ("DEQUANTIZE", "QUANTIZE", "RESHAPE")
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
        """The inferred real values of black and white; (0, 1), as in files of this project, for floats.

        A span that is nearly non-negative means [0, 1] where its maximum is at most 1.5, and [0, 255] where that is between 64
        and 320. A span from about -1 to 1 (each limit between 0.5 and 1.5 in magnitude) means [-1, 1]. Integers of 16 bits
        always have the zero point 0, so only the maximum of their span counts.

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
        """The interface of the file.

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

    Raises:
        AuditError: for bytes that are no `.tflite`, several inputs or outputs, and unsupported types.
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
        return Endpoints(
            shape=tuple(int(length) for length in shape[1:]),
            input_type=input_type,
            span=_span(input_type, source.quantization),
            outputs=math.prod(int(length) for length in scores[1:]),
            output_type=output_type,
            sigmoid=computing[-1:] == ["LOGISTIC"],
        )


def _span(kind: str, quantization: object) -> tuple[float, float] | None:
    """The real values of the smallest and the largest integer of a type."""
    scales = getattr(quantization, "scale", None)
    scale = 0.0 if scales is None or not len(scales) else float(scales[0])
    if kind not in _INTEGERS or not (scale > 0 and math.isfinite(scale)):
        if kind in ("INT8", "INT16"):
            raise audit.AuditError(f"expected an input of type {kind} to have a scale, found none")
        return None
    points = getattr(quantization, "zeroPoint", None)
    zero = 0 if points is None or not len(points) else int(points[0])
    low, high = ((limit - zero) * scale for limit in _INTEGERS[kind])
    return low, high
