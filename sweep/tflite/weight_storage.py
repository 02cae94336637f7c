"""How a `.tflite` file stores the weights of an operator: as which inputs, of which type, and how the bits are packed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from sweep.core.types import Array


class Operands(NamedTuple):
    """Positions of the constants among the inputs of an operator.

    Attributes:
        kernel: the position of the kernel.
        bias: the position of the bias, which may be absent.
    """

    kernel: int
    bias: int


OPERANDS: Mapping[str, Operands] = {
    "CONV_2D": Operands(1, 2),
    "DEPTHWISE_CONV_2D": Operands(1, 2),
    "FULLY_CONNECTED": Operands(1, 2),
    "TRANSPOSE_CONV": Operands(1, 3),
}
"""All operators with a kernel."""
REWRITTEN = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
"""The operators whose kernels are requantised and stored sparsely."""
KERNEL, BIAS = OPERANDS["CONV_2D"]  # the same for all operators of REWRITTEN


class TensorType(NamedTuple):
    """The type of a tensor's elements.

    Attributes:
        bits: the bits of a stored element.
        dtype: the numpy type of an unpacked element.
    """

    bits: int
    dtype: type[np.generic]


TYPES: Mapping[str, TensorType] = {
    "FLOAT64": TensorType(64, np.float64),
    "FLOAT32": TensorType(32, np.float32),
    "FLOAT16": TensorType(16, np.float16),
    "INT64": TensorType(64, np.int64),
    "INT32": TensorType(32, np.int32),
    "INT16": TensorType(16, np.int16),
    "INT8": TensorType(8, np.int8),
    "UINT8": TensorType(8, np.uint8),
    "INT4": TensorType(4, np.int8),
    "INT2": TensorType(2, np.int8),
}
"""All types of weights and biases."""
FEWEST_BITS, MOST_BITS = 2, 8
"""The limits of the bits of a weight's grid."""


def container(bits: int) -> str:
    """The type that stores the integers of a grid: INT4 for 2 to 4 bits, INT8 for 5 to 8."""
    return "INT4" if bits <= TYPES["INT4"].bits else "INT8"


def largest(bits: int) -> int:
    """The largest integer of a symmetric grid, 2^(bits - 1) - 1: 1 for 2 bits, 127 for 8."""
    return int(2 ** (bits - 1) - 1)


def kernel_bytes(weights: int, bits: int) -> int:
    """The bytes of a kernel in a file.

    Args:
        weights: the number of weights.
        bits: the bits of their grid, 2 to 8.
    """
    return packed_bytes(weights, TYPES[container(bits)].bits)


def packed_bytes(count: int, bits: int) -> int:
    """The bytes of `count` packed values of `bits` bits each, rounded up."""
    return -(-count * bits // 8)


def unpack(data: Array, bits: int) -> Array:
    """Unpacks signed integers.

    Args:
        data: uint8 (bytes,), the lowest bits of a byte first.
        bits: the bits of an integer: 2, 4 or 8.

    Returns:
        int8 (bytes * 8 // bits,), including the padding of the last byte.
    """
    fields = data[:, None] >> np.arange(0, 8, bits, dtype=np.uint8)
    return (fields << (8 - bits)).view(np.int8).ravel() >> (8 - bits)


def pack(values: Array, bits: int) -> Array:
    """Packs signed integers, the inverse of `unpack`.

    Args:
        values: (n,), whole numbers in the range of signed integers of `bits` bits.
        bits: the bits of an integer: 2, 4 or 8.

    Returns:
        uint8 (bytes,); the last byte is padded with zeros.
    """
    per_byte = 8 // bits
    fields = np.pad(values.astype(np.int8).view(np.uint8), (0, -len(values) % per_byte)).reshape(-1, per_byte) & (2**bits - 1)
    packed: Array = np.bitwise_or.reduce(fields << np.arange(0, 8, bits, dtype=np.uint8), axis=1)
    return packed
