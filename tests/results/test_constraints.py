"""The grammar of constraints: what the search takes, the report reads."""

from __future__ import annotations

import math

import pytest

from sweep.results.constraints import Bound
from sweep.search.constraints import Constraint


@pytest.mark.parametrize(
    ("text", "limits"),
    [
        ("<=50000", (-math.inf, 50000)),
        (" >= 9.7e-1 ", (0.97, math.inf)),
        ("<= 50 000", (-math.inf, 50000)),
        ("<-0.0", (-math.inf, -5e-324)),
        ("<3", (-math.inf, math.nextafter(3, 0))),
        (">3", (math.nextafter(3, 4), math.inf)),
    ],
)
def test_a_bound_is_the_values_that_keep_it(text, limits):
    assert Bound.parse(text).limits == limits


@pytest.mark.parametrize("text", ["", "50000", "<=", "=3", "==3", "<=>3", "<==3", "<=many", "<=nan", ">=inf", "3<=", "<=1e999"])
def test_another_form_is_no_bound(text):
    assert Bound.parse(text) is None


@pytest.mark.parametrize("text", ["<=50000", "<= 5e4", ">=0.97", "<= 50 000", "< = 3", "\t>=\n3"])
def test_what_the_search_takes_the_report_reads(text):
    constraint = Constraint.parse("size_bytes", text)
    low, high = Bound.parse(text).limits
    for value in (low, high):
        assert math.isinf(value) or constraint.violation({"size_bytes": value}) == 0
