"""A kernel rounded to its grid."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from sweep.core.types import Array
from sweep.tflite import requantize
from sweep.tflite.weight_storage import largest

if TYPE_CHECKING:
    from sweep.compress.quantize.clipping import Range


def rounded(kernel: Any, bits: int, weight_range: Range, *, one: bool) -> requantize.QuantizedKernel:
    """A kernel on its grid.

    Args:
        kernel: a kernel variable of Keras; its channels are those of the output, of a depthwise one too.
        bits: of the grid.
        weight_range: where it ends.
        one: whether all channels share one grid; those of a dense kernel always do.
    """
    values: Array = kernel.numpy()
    columns = values.reshape(-1, math.prod(values.shape[-2:]) if is_depthwise(kernel) else values.shape[-1])
    ends = weight_range.ends(columns.reshape(-1, 1) if one or values.ndim == 2 else columns, bits)
    grid = largest(bits)
    steps = (np.where(ends > 0, ends, 1.0) / grid).astype(np.float32)
    return requantize.QuantizedKernel(columns, bits, np.clip(np.round(columns / steps), -grid, grid).astype(np.int8), steps)


def is_depthwise(kernel: Any) -> bool:
    """Whether a kernel variable is that of a depthwise convolution."""
    return bool(kernel.name.endswith("depthwise_kernel:0"))
