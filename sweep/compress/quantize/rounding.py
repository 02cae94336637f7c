"""Quantises a kernel to a symmetric grid."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from sweep.core.types import Array
from sweep.tflite import requantize
from sweep.tflite.weight_storage import largest

if TYPE_CHECKING:
    from sweep.compress.quantize.clipping import ClippingMethod


def quantize_kernel(kernel: Any, bits: int, weight_range: ClippingMethod, *, per_tensor: bool) -> requantize.QuantizedKernel:
    """Quantises a kernel to integers of at most 2^(bits - 1) - 1 in magnitude, with a zero point of 0.

    A scale is the clipping threshold over the largest integer; a threshold of 0 counts as 1. Ties round to even.

    Args:
        kernel: a Keras kernel variable. Its channels are the output channels, of a depthwise kernel too.
        bits: of the grid, 2 to 8.
        weight_range: chooses the clipping thresholds.
        per_tensor: whether the scale is per tensor; of a dense kernel it always is.

    Returns:
        The kernel as (weights of a channel, channels), its integers and its scales.
    """
    values: Array = kernel.numpy()
    columns = values.reshape(-1, math.prod(values.shape[-2:]) if is_depthwise(kernel) else values.shape[-1])
    thresholds = weight_range.thresholds(columns.reshape(-1, 1) if per_tensor or values.ndim == 2 else columns, bits)
    grid = largest(bits)
    scales = (np.where(thresholds > 0, thresholds, 1.0) / grid).astype(np.float32)
    integers = np.clip(np.round(columns / scales), -grid, grid).astype(np.int8)
    return requantize.QuantizedKernel(columns, bits, integers, scales)


def is_depthwise(kernel: Any) -> bool:
    """Whether a kernel variable is that of a depthwise convolution."""
    return bool(kernel.name.endswith("depthwise_kernel:0"))
