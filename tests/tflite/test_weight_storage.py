"""The storage of weights: packing against numbers written by hand, and both ways; the tables against each other."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweep.tflite import weight_storage


@pytest.mark.parametrize(
    ("values", "bits", "data"),
    [
        ([1, -2], 4, [0xE1]),
        ([-8, 7, -1], 4, [0x78, 0x0F]),
        ([1, -2, 0, -1], 2, [0b11_00_10_01]),
        ([1], 2, [1]),
        ([-128, 127], 8, [0x80, 0x7F]),
        ([], 4, []),
    ],
)
def test_values_are_packed_lowest_bits_first(values, bits, data):
    packed = weight_storage.pack(np.array(values, np.int8), bits)
    assert packed.dtype == np.uint8
    assert packed.tolist() == data
    assert weight_storage.unpack(packed, bits)[: len(values)].tolist() == values


@given(
    st.sampled_from([2, 4, 8]).flatmap(
        lambda bits: st.tuples(st.just(bits), st.lists(st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)))
    )
)
def test_unpack_inverts_pack(case):
    bits, values = case
    packed = weight_storage.pack(np.array(values, float), bits)
    unpacked = weight_storage.unpack(packed, bits)
    assert len(packed) == weight_storage.packed_bytes(len(values), bits)
    assert unpacked.dtype == np.int8
    assert unpacked.tolist() == values + [0] * (len(unpacked) - len(values))


def test_a_grid_is_stored_in_the_smallest_type_that_runs():
    assert [weight_storage.container(bits) for bits in range(2, 9)] == ["INT4"] * 3 + ["INT8"] * 4
    assert [weight_storage.largest(bits) for bits in range(2, 9)] == [1, 3, 7, 15, 31, 63, 127]
    assert [weight_storage.kernel_bytes(5, bits) for bits in range(2, 9)] == [3] * 3 + [5] * 4
    for bits in range(2, 9):
        assert weight_storage.largest(bits) <= weight_storage.largest(weight_storage.TYPES[weight_storage.container(bits)].bits)


def test_every_rewritten_operator_has_its_kernel_and_bias_at_the_same_inputs():
    for operator in weight_storage.REWRITTEN:
        assert weight_storage.OPERANDS[operator] == (weight_storage.KERNEL, weight_storage.BIAS)
