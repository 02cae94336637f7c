"""How a `.tflite` file stores the weights of an operator: which inputs hold them, in which type, and how bits are packed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from sweep.core.types import Array


class Operands(NamedTuple):
    """Positions among the inputs of an operator.

    Attributes:
        kernel: of the kernel.
        bias: of the bias, which may be absent.
    """

    kernel: int
    bias: int


OPERANDS: Mapping[str, Operands] = {
    "CONV_2D": Operands(1, 2),
    "DEPTHWISE_CONV_2D": Operands(1, 2),
    "FULLY_CONNECTED": Operands(1, 2),
    "TRANSPOSE_CONV": Operands(1, 3),
}
"""Every operator with a kernel."""
REWRITTEN = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
"""The operators whose kernels are requantised and compressed here."""
KERNEL, BIAS = OPERANDS["CONV_2D"]  # the same for all of REWRITTEN


class TensorType(NamedTuple):
    """A type of tensor.

    Attributes:
        bits: stored bits of an element.
        dtype: the numpy type that holds an unpacked element.
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
"""Every type of a weight or a bias."""
FEWEST_BITS, MOST_BITS = 2, 8
"""The bits of a grid that weights may live on."""


def container(bits: int) -> str:
    """The type that stores a grid of so many bits: INT4 for 2 to 4, INT8 for 5 to 8."""
    return "INT4" if bits <= TYPES["INT4"].bits else "INT8"


def largest(bits: int) -> int:
    """The largest integer of a symmetric grid of so many bits: 1 for 2 bits, 127 for 8."""
    return int(2 ** (bits - 1) - 1)


def kernel_bytes(weights: int, bits: int) -> int:
    """The bytes of so many weights on a grid of so many bits."""
    return packed_bytes(weights, TYPES[container(bits)].bits)


def packed_bytes(count: int, bits: int) -> int:
    """The bytes of so many packed values of so many bits; the last byte may be filled in part."""
    return -(-count * bits // 8)


def unpack(data: Array, bits: int) -> Array:
    """Unpacks signed integers.

    Args:
        data: uint8 (bytes,), the lowest bits of a byte first.
        bits: of each integer: 2, 4 or 8.

    Returns:
        int8 (bytes * 8 // bits,), what fills the last byte included.
    """
    fields = data[:, None] >> np.arange(0, 8, bits, dtype=np.uint8)
    return (fields << (8 - bits)).view(np.int8).ravel() >> (8 - bits)


def pack(values: Array, bits: int) -> Array:
    """Packs signed integers, the inverse of `unpack`.

    Args:
        values: (n,), whole numbers that fit into so many bits.
        bits: of each integer: 2, 4 or 8.

    Returns:
        uint8 (bytes,); zeros fill the last byte.
    """
    each = 8 // bits
    fields = np.pad(values.astype(np.int8).view(np.uint8), (0, -len(values) % each)).reshape(-1, each) & (2**bits - 1)
    packed: Array = np.bitwise_or.reduce(fields << np.arange(0, 8, bits, dtype=np.uint8), axis=1)
    return packed
