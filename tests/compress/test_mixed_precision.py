"""Sensitivity and the assignment of bits: closed forms, and every assignment of small networks tried."""

from __future__ import annotations

import itertools
import operator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweep.compress.quantize import mixed_precision


def test_divergence_is_that_of_the_textbook():
    expected, found = np.array([[1.0, 2.0, 0.5], [0.0, 0.0, 3.0]]), np.array([[0.5, 2.5, 0.0], [1.0, -1.0, 2.0]])
    p, q = (np.exp(one) / np.exp(one).sum(axis=1, keepdims=True) for one in (expected, found))
    assert mixed_precision.divergence(expected, found) == pytest.approx((p * np.log(p / q)).sum(axis=1).mean())
    assert mixed_precision.divergence(expected, expected + 7.0) == pytest.approx(
        0, abs=1e-12
    )  # logits have no zero of their own
    assert mixed_precision.divergence(np.array([[2000.0, 0.0]]), np.array([[0.0, 2000.0]])) == pytest.approx(2000)


widths = st.dictionaries(st.integers(2, 8), st.floats(0, 10), min_size=1, max_size=4)


@given(st.lists(st.tuples(st.integers(1, 50), widths), min_size=1, max_size=4), st.integers(0, 1500))
def test_the_assignment_is_the_best_of_all(layers, budget):
    losses = {f"layer{number}": options for number, (_, options) in enumerate(layers)}
    sizes = {f"layer{number}": size for number, (size, _) in enumerate(layers)}
    every = [dict(zip(losses, choice, strict=True)) for choice in itertools.product(*losses.values())]
    costs = [sum(sizes[name] * bits for name, bits in one.items()) for one in every]
    fitting = [sum(losses[name][bits] for name, bits in one.items()) for one, cost in zip(every, costs, strict=True)
               if cost <= budget]  # fmt: skip
    if not fitting:
        with pytest.raises(mixed_precision.OverBudget) as refused:
            mixed_precision.assignment(losses, sizes, operator.mul, budget)
        assert refused.value.least == min(costs)
        return
    chosen = mixed_precision.assignment(losses, sizes, operator.mul, budget)
    assert list(chosen) == list(losses)
    assert sum(sizes[name] * bits for name, bits in chosen.items()) <= budget
    assert sum(losses[name][bits] for name, bits in chosen.items()) == pytest.approx(min(fitting))
