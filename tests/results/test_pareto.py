"""Pareto arithmetic against closed forms, slow oracles and Optuna's, with ties, copies, NaN, infinities and nothing at all."""

from __future__ import annotations

import itertools
import math
import statistics
import time

import numpy as np
import optuna
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from optuna._hypervolume import compute_hypervolume

from sweep.results import pareto

INF, NAN = math.inf, math.nan
COORDINATES = st.integers(0, 6).map(float) | st.floats(-10, 10, width=32)  # the integers make ties and copies
OBJECTIVES = st.integers(1, 4)
PATIENT = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])  # on a machine that is shared


@st.composite
def clouds(draw, elements=COORDINATES, most=12, fewest=0):
    """Points (n, m) of one to four objectives."""
    shape = (draw(st.integers(fewest, most)), draw(OBJECTIVES))
    return draw(hnp.arrays(np.float64, shape, elements=elements))


def sphere(count, objectives, seed=0):
    """Different points, all on the front."""
    points = np.abs(np.random.default_rng(seed).normal(size=(count, objectives)))
    return 1 - points / np.linalg.norm(points, axis=1, keepdims=True)


def beats(left, right):
    return all(a <= b for a, b in zip(left, right, strict=True)) and any(a < b for a, b in zip(left, right, strict=True))


def front_by_pairs(points):
    return [not any(map(math.isnan, point)) and not any(beats(other, point) for other in points) for point in points.tolist()]


def volume_by_inclusion_and_exclusion(points, reference):
    """The sum over all subsets of the volume of their boxes' intersection, with alternating signs."""
    boxes = [reference - point for point in points if (point < reference).all()]
    return sum(
        (-1) ** (size + 1) * np.min(subset, axis=0).prod()
        for size in range(1, len(boxes) + 1)
        for subset in itertools.combinations(boxes, size)
    )


# The door.


def test_oriented_points_are_minimised_in_the_order_of_the_objectives():
    columns = {"size_bytes": [100, 50, None], "val_accuracy": np.array([0.9, NAN, 0.5]), "name": ["a", "b", "c"]}
    points = pareto.oriented(columns, {"val_accuracy": "maximize", "size_bytes": "minimize"})
    assert points.dtype == np.float64
    np.testing.assert_array_equal(points, [[-0.9, 100], [NAN, 50], [-0.5, NAN]])


def test_a_table_without_rows_has_no_points():
    assert pareto.oriented({"a": [], "b": []}, {"a": "minimize", "b": "maximize"}).shape == (0, 2)


@pytest.mark.parametrize(
    ("objectives", "message"),
    [
        ({}, r"expected names with minimize or maximize; received \{\}"),
        ({"a": "down"}, r"expected names with minimize or maximize; received \{'a': 'down'\}"),
        ({"z": "minimize"}, "column z: expected n numbers under one of the names a, b, c, d, e, short, deep"),
        ({"deep": "minimize"}, "column deep"),
        ({"a": "minimize", "short": "minimize"}, "same shape"),
        (dict.fromkeys("abcde", "minimize"), r"1 <= m <= 4; received \(2, 5\)"),
    ],
)
def test_the_door_refuses(objectives, message):
    columns = {name: [1.0, 2.0] for name in "abcde"} | {"short": [1.0], "deep": [[1.0], [2.0]]}
    with pytest.raises(ValueError, match=message):
        pareto.oriented(columns, objectives)


@pytest.mark.parametrize("points", [1.0, [1.0, 2.0], np.zeros((2, 0)), np.zeros((2, 5)), np.zeros((1, 1, 1))])
@pytest.mark.parametrize("function", [pareto.front, pareto.knee, pareto.reference_point])
def test_what_is_not_a_table_of_points_is_refused(function, points):
    with pytest.raises(ValueError, match="points: expected shape"):
        function(points)


# The front.


@PATIENT
@given(clouds(COORDINATES | st.sampled_from([NAN, INF, -INF, -0.0])))
def test_the_front_is_that_of_all_pairs(points):
    mask = pareto.front(points)
    assert mask.dtype == np.bool_
    assert mask.tolist() == front_by_pairs(points)


@PATIENT
@given(clouds(), st.data())
def test_the_front_does_not_depend_on_the_order_of_rows_columns_or_on_units(points, data):
    rows = data.draw(st.permutations(range(len(points))))
    columns = data.draw(st.permutations(range(points.shape[1])))
    scale = np.array(data.draw(st.lists(st.sampled_from([0.125, 1.0, 1024.0]), min_size=4, max_size=4)))[: points.shape[1]]
    np.testing.assert_array_equal(pareto.front((points * scale)[np.ix_(rows, columns)]), pareto.front(points)[list(rows)])


@PATIENT
@given(clouds(fewest=1), st.lists(st.sampled_from(["minimize", "maximize"]), min_size=4, max_size=4))
def test_the_front_is_optunas(values, directions):
    objectives = dict(zip("abcd"[: values.shape[1]], directions, strict=False))
    study = optuna.create_study(directions=list(objectives.values()))
    study.add_trials([optuna.trial.create_trial(values=row) for row in values.tolist()])
    points = pareto.oriented(dict(zip(objectives, values.T, strict=True)), objectives)
    assert np.flatnonzero(pareto.front(points)).tolist() == [trial.number for trial in study.best_trials]


def test_every_copy_of_a_point_on_the_front_is_on_it():
    assert pareto.front([[1, 2], [2, 1], [1, 2], [2, 2], [2, 2]]).tolist() == [True, True, True, False, False]
    assert pareto.front([[0.0], [-0.0], [1.0]]).tolist() == [True, True, False]


def test_infinities_are_ordered_and_nan_is_nowhere():
    assert pareto.front([[INF, 0], [5, INF], [INF, INF]]).tolist() == [True, True, False]
    assert pareto.front([[INF, INF]]).tolist() == [True]
    assert pareto.front([[-INF, 3], [0, 3], [NAN, -INF]]).tolist() == [True, False, False]
    assert pareto.front([[NAN, NAN]]).tolist() == [False]


def test_nothing_has_an_empty_front():
    assert pareto.front(np.empty((0, 3))).shape == (0,)
    assert pareto.front([]).shape == (0,)


# Domination with a margin.


@PATIENT
@given(clouds(COORDINATES | st.sampled_from([NAN, INF, -INF])), st.data())
def test_without_a_margin_it_is_plain_domination(points, data):
    bound = data.draw(hnp.arrays(np.float64, points.shape[1], elements=COORDINATES | st.sampled_from([NAN, INF, -INF])))
    assert pareto.dominated(bound, points) == any(beats(point, bound.tolist()) for point in points.tolist())


@PATIENT
@given(clouds(), st.data())
def test_a_candidate_that_is_given_up_would_not_have_been_on_the_front(points, data):
    vectors = hnp.arrays(np.float64, points.shape[1], elements=st.integers(0, 6).map(float))
    bound, margin, worse = (data.draw(vectors) for _ in range(3))
    if pareto.dominated(bound, points, margin):
        assert pareto.dominated(bound, points, margin / 2)
        for reached in (bound - margin, bound, bound + worse):
            assert not pareto.front(np.vstack([points, reached]))[-1]


def test_the_margin_is_each_objectives_own():
    finished = [[-0.9, 1000.0]]
    assert pareto.dominated([-0.88, 2000], finished, [0.01, 0])
    assert not pareto.dominated([-0.88, 2000], finished, [0.05, 0])
    assert not pareto.dominated([-0.88, 2000], finished, [0.01, 1500])
    assert not pareto.dominated([-0.9, 1000], finished, 0)  # an equal one would be on the front
    assert not pareto.dominated([0.0, 1.0], [], 0)
    assert not pareto.dominated([0.0, NAN], [[-1, -1]])


@pytest.mark.parametrize("margin", [-1, NAN, INF, [0, -1], [0, 0, 0]])
def test_margins_that_mean_nothing_are_refused(margin):
    with pytest.raises(ValueError, match="expected"):
        pareto.dominated([0, 0], [[1, 1]], margin)


def test_a_bound_of_another_length_is_refused():
    with pytest.raises(ValueError, match=r"expected shape \(2,\); received \(3,\) and \(\)"):
        pareto.dominated([0, 0, 0], [[1, 1]])


# Hypervolume.


@pytest.mark.parametrize("objectives", [1, 2, 3, 4])
def test_hypervolume_in_closed_form(objectives):
    zero, one = np.zeros((1, objectives)), np.ones(objectives)
    assert pareto.hypervolume(zero, 2 * one) == 2**objectives
    assert pareto.hypervolume(np.vstack([zero, zero]), one) == 1
    corners = 1 - np.eye(objectives)  # each covers the unit cube that they share, and one more beside it
    assert pareto.hypervolume(corners, 2 * one) == objectives + 1


def test_the_volume_of_a_staircase():
    steps = np.arange(10.0)
    assert pareto.hypervolume(np.column_stack([steps, 9 - steps]), [10, 10]) == 55  # 1 + 2 + ... + 10


@PATIENT
@given(clouds(most=7), st.data())
def test_hypervolume_is_inclusion_and_exclusion(points, data):
    reference = data.draw(hnp.arrays(np.float64, points.shape[1], elements=COORDINATES))
    expected = volume_by_inclusion_and_exclusion(points, reference)
    assert pareto.hypervolume(points, reference) == pytest.approx(expected, rel=1e-9, abs=1e-9 * 20.0 ** points.shape[1])


@PATIENT
@given(clouds(most=30, fewest=1))
def test_hypervolume_is_optunas(points):
    reference = points.max(axis=0) + 1
    assert pareto.hypervolume(points, reference) == pytest.approx(compute_hypervolume(points, reference), rel=1e-9)


@pytest.mark.parametrize("objectives", [1, 2, 3, 4])
def test_hypervolume_is_the_share_of_random_darts_that_hit(objectives):
    points = np.random.default_rng(1).random((40, objectives)) ** 0.5
    darts = np.random.default_rng(2).random((40_000, objectives))
    hits = (points[:, None] <= darts).all(axis=2).any(axis=0)
    assert pareto.hypervolume(points, np.ones(objectives)) == pytest.approx(hits.mean(), abs=4 * 0.5 / 200)


@PATIENT
@given(clouds(), st.data())
def test_hypervolume_ignores_order_and_what_is_dominated_and_scales_with_its_units(points, data):
    reference = np.full(points.shape[1], 5.0)
    volume = pareto.hypervolume(points, reference)
    rows, columns = data.draw(st.permutations(range(len(points)))), data.draw(st.permutations(range(points.shape[1])))
    assert pareto.hypervolume(points[np.ix_(rows, columns)], reference) == pytest.approx(volume, rel=1e-9)
    assert pareto.hypervolume(points[pareto.front(points)], reference) == pytest.approx(volume, rel=1e-9)
    scale, shift = np.array([2.0, 0.5, 64.0, 0.125])[: points.shape[1]], 3.0
    moved = pareto.hypervolume(points * scale + shift, reference * scale + shift)
    assert moved == pytest.approx(volume * scale.prod(), rel=1e-9, abs=1e-9)


@PATIENT
@given(clouds(COORDINATES | st.sampled_from([NAN, INF, -INF])))
def test_the_running_hypervolume_is_that_of_each_beginning_and_never_falls(points):
    reference = np.full(points.shape[1], 5.0)
    running = pareto.running_hypervolume(points, reference)
    assert running.shape == (len(points),)
    assert all(later >= earlier for earlier, later in itertools.pairwise(running))
    expected = [pareto.hypervolume(points[: trial + 1], reference) for trial in range(len(points))]
    np.testing.assert_allclose(running, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("function", [pareto.hypervolume, lambda *given: pareto.running_hypervolume(*given).max(initial=0)])
def test_what_contributes_nothing_and_what_is_infinite(function):
    assert function([], [1, 1]) == 0
    assert function(np.empty((0, 4)), [1, 1, 1, 1]) == 0
    assert function([[1, 0], [0, 1], [2, -9], [NAN, 0], [1, -INF], [INF, -INF]], [1, 1]) == 0
    assert function([[0, 0], [2, -9], [NAN, 0]], [1, 1]) == 1
    assert function([[0, 0], [-INF, 0.5], [0.5, -INF]], [1, 1]) == INF
    assert function([[0, 0]], [1, INF]) == INF
    assert function([[0, 2]], [1, -INF]) == 0


@pytest.mark.parametrize("reference", [[1], [1, 1, 1], [1, NAN], 1.0, [[1, 1]]])
@pytest.mark.parametrize("function", [pareto.hypervolume, pareto.running_hypervolume])
def test_a_reference_that_does_not_fit_is_refused(function, reference):
    with pytest.raises(ValueError, match="reference: expected 2 numbers without NaN"):
        function([[0, 0]], reference)


@pytest.mark.parametrize("objectives", [2, 3, 4])
def test_five_hundred_trials_all_on_the_front_take_no_time(objectives):
    points = sphere(500, objectives)
    assert pareto.front(points).all()
    began = time.process_time()
    volume = pareto.hypervolume(points, np.ones(objectives))
    running = pareto.running_hypervolume(points, np.ones(objectives))
    assert time.process_time() - began < 3  # measured: 0.2 to 0.4
    assert running[-1] == pytest.approx(volume, rel=1e-9)


# The reference point.


def test_the_reference_is_the_nadir_of_the_front_and_a_tenth_of_its_extent():
    points = [[0, 10], [1, 4], [2, 0], [9, 9], [NAN, -1], [INF, -1]]
    np.testing.assert_allclose(pareto.reference_point(points), [2.2, 11])
    np.testing.assert_allclose(pareto.reference_point(points, 0.5), [3, 15])


def test_without_an_extent_the_reference_moves_by_the_values_size():
    np.testing.assert_allclose(pareto.reference_point([[-0.8, 200, 0]]), [-0.72, 220, 0.1])
    np.testing.assert_allclose(pareto.reference_point([[5], [4]]), [4.4])


def test_with_the_dominated_points_the_reference_is_beyond_the_worst_of_all():
    points = [[0, 10], [1, 4], [2, 0], [12, 20], [NAN, -1], [INF, -1]]
    np.testing.assert_allclose(pareto.reference_point(points, dominated=True), [13.2, 22])


@PATIENT
@given(clouds(fewest=1), st.sampled_from([1e-300, 0.1, 2.0]))
def test_everything_on_the_front_counts_under_the_reference(points, margin):
    reference = pareto.reference_point(points, margin)
    assert (points[pareto.front(points)] < reference).all()
    np.testing.assert_array_equal(pareto.reference_point(points[::-1], margin), reference)


@pytest.mark.parametrize("points", [[], [[NAN, 1]], [[INF, 1]], [[-INF, 0], [1, 1]]])
def test_no_reference_without_a_finite_front(points):
    with pytest.raises(ValueError, match="expected a finite one on the front"):
        pareto.reference_point(points)


@pytest.mark.parametrize("margin", [0, -1, NAN, INF])
def test_no_reference_without_a_margin(margin):
    with pytest.raises(ValueError, match="margin: expected a finite number above 0"):
        pareto.reference_point([[1, 2]], margin)


# The knee.


def below_the_line(ends):
    """How far each point of a front of two objectives lies below the line between its extremes, by the cross product."""
    scaled = (ends - ends.min(axis=0)) / np.ptp(ends, axis=0)
    start = scaled[ends[:, 0].argmin()]
    along, to = scaled[ends[:, 0].argmax()] - start, scaled - start
    return (to[:, 0] * along[1] - to[:, 1] * along[0]) / np.linalg.norm(along)


def test_the_knee_of_an_elbow():
    assert pareto.knee([[0, 10], [1, 1], [10, 0], [5, 5]]) == 1
    assert pareto.knee([[0, 1000], [0.2, 500], [0.3, 100], [1, 0]]) == 2


@PATIENT
@given(hnp.arrays(np.float64, st.tuples(st.integers(2, 30), st.just(2)), elements=COORDINATES))
def test_the_knee_is_furthest_below_the_line_between_the_extremes(points):
    rows = np.flatnonzero(pareto.front(points))
    assume(len(np.unique(points[rows], axis=0)) > 1)
    distances = below_the_line(points[rows])
    assert distances[rows == pareto.knee(points)].item() == pytest.approx(distances.max(), abs=1e-9)


@PATIENT
@given(clouds(fewest=1), st.data())
def test_the_knee_is_on_the_front_and_the_same_point_in_any_order(points, data):
    found = pareto.knee(points)
    assert pareto.front(points)[found]
    rows = data.draw(st.permutations(range(len(points))))
    np.testing.assert_array_equal(points[rows][pareto.knee(points[rows])], points[found])


def test_the_knee_does_not_depend_on_units():
    points = sphere(50, 3, seed=4)
    assert pareto.knee(points * [1024, 1, 0.125] + [0, 7, -1]) == pareto.knee(points)


def test_the_knees_ties_go_to_the_first_objective_then_to_the_first_row():
    assert pareto.knee([[3, 3]]) == 0
    assert pareto.knee([[2, 0], [1, 5]]) == 1  # both are the extremes
    assert pareto.knee([[1, 5], [2, 0], [1, 5]]) == 0
    line = np.column_stack([np.arange(7) / 10, 1 - np.arange(7) / 10])
    assert pareto.knee(line[::-1]) == 6
    assert pareto.knee([[4], [2], [2]]) == 1


def test_the_knee_in_three_objectives_is_nearest_the_ideal():
    assert pareto.knee([[0, 1, 1], [1, 0, 1], [1, 1, 0], [0.2, 0.3, 0.3], [0.3, 0.2, 0.35]]) == 3


def test_an_objective_without_extent_does_not_move_the_knee():
    assert pareto.knee([[0, 10, 7], [1, 1, 7], [10, 0, 7]]) == 1


def test_only_finite_points_can_be_the_knee():
    assert pareto.knee([[INF, -1], [NAN, -9], [0, 2], [2, 0], [0.5, 0.5]]) == 4
    for points in ([], np.empty((0, 3)), [[NAN, 1]], [[INF, 1]], [[-INF, 0], [1, 1]]):
        assert pareto.knee(points) is None


# The best within limits.


TABLE = {
    "test_accuracy": [0.90, 0.95, 0.95, 0.99, NAN, 0.95],
    "size_bytes": [100, 300, 200, 900, 50, 200],
    "latency_ms": [1.0, 2.0, 2.0, 9.0, 0.5, 2.0],
}
ACCURATE_THEN_SMALL = pareto.oriented(TABLE, {"test_accuracy": "maximize", "size_bytes": "minimize"})


@pytest.mark.parametrize(
    ("limits", "row"),
    [
        ({}, 3),
        ({"size_bytes": (-INF, 300)}, 2),  # as accurate as row 1 and smaller, and before its copy, row 5
        ({"size_bytes": (201, 300)}, 1),
        ({"size_bytes": (-INF, 199)}, 0),
        ({"size_bytes": (-INF, 100)}, 0),  # the limit itself is allowed
        ({"size_bytes": (-INF, 99)}, None),  # the only one so small has no accuracy
        ({"size_bytes": (-INF, 300), "latency_ms": (-INF, 1.5)}, 0),
        ({"test_accuracy": (0.96, INF), "size_bytes": (-INF, 500)}, None),
    ],
)
def test_the_best_within_limits(limits, row):
    assert pareto.best(ACCURATE_THEN_SMALL, pareto.violation(TABLE, limits)) == row


def test_the_violation_is_a_fraction_of_each_limit_summed():
    found = pareto.violation(TABLE, {"size_bytes": (150, 250), "latency_ms": (-INF, 4)})
    np.testing.assert_allclose(found, [50 / 150, 50 / 250, 0, 650 / 250 + 5 / 4, 100 / 150, 0])


def test_a_limit_of_zero_is_measured_by_the_largest_value():
    np.testing.assert_allclose(pareto.violation({"gap": [-1, 0, 1, 4]}, {"gap": (-INF, 0)}), [0, 0, 0.25, 1])
    np.testing.assert_allclose(pareto.violation({"gap": [-1, 0, 1, INF]}, {"gap": (0, 0)}), [1, 0, 1, INF])


def test_what_is_unknown_breaks_every_limit_on_it():
    values = {"a": [NAN, None, INF, -INF, 1], "b": [1, 1, 1, 1, NAN]}
    np.testing.assert_array_equal(pareto.violation(values, {"a": (-INF, 5)}), [INF, INF, INF, 0, 0])
    np.testing.assert_array_equal(pareto.violation(values, {"a": (-INF, INF)}), [INF, INF, 0, 0, 0])
    np.testing.assert_array_equal(pareto.violation(values, {}), np.zeros(5))
    assert pareto.violation({}, {}).shape == pareto.violation({"a": []}, {"a": (0, 1)}).shape == (0,)


@pytest.mark.parametrize("limits", [(2, 1), (NAN, 1), (0, NAN), (INF, INF), (-INF, -INF)])
def test_limits_that_nothing_can_meet_are_refused(limits):
    with pytest.raises(ValueError, match="limits of a: expected lowest <= highest"):
        pareto.violation({"a": [1]}, {"a": limits})


@pytest.mark.parametrize(
    ("name", "message"), [("z", "column z: expected n numbers under one"), ("b", "column b: expected 1 num")]
)
def test_limits_on_columns_that_do_not_fit_are_refused(name, message):
    with pytest.raises(ValueError, match=message):
        pareto.violation({"a": [1], "b": [1, 2]}, {name: (0, 1)})


def test_the_nearest_come_by_violation_then_by_the_objectives_then_by_row():
    violations = pareto.violation(TABLE, {"size_bytes": (-INF, 99), "latency_ms": (-INF, 1)})
    assert pareto.nearest(ACCURATE_THEN_SMALL, violations, 3).tolist() == [0, 2, 5]
    assert pareto.nearest(ACCURATE_THEN_SMALL, violations, 99).tolist() == [0, 2, 5, 1, 3]  # row 4 has no accuracy
    assert pareto.nearest(ACCURATE_THEN_SMALL, violations, 0).tolist() == []
    assert pareto.nearest([[1, 2], [2, 1], [0, 9]], [0.5, 0.5, INF], 3).tolist() == [0, 1]


@pytest.mark.parametrize(("violations", "count"), [([0, 0], 1), ([[0]], 1), ([0], -1)])
def test_violations_of_something_else_are_refused(violations, count):
    with pytest.raises(ValueError, match="expected 1 violations, a count of at least 0"):
        pareto.nearest([[1, 2]], violations, count)


@PATIENT
@given(clouds(COORDINATES | st.sampled_from([NAN, INF, -INF])), st.integers(-10, 10), st.integers(0, 10))
def test_the_best_is_the_best_of_all_that_fit(points, low, width):
    last = points[:, -1]
    rows = [row for row, point in enumerate(points.tolist()) if low <= last[row] <= low + width and not np.isnan(point).any()]
    expected = min(rows, key=lambda row: (*points[row], row), default=None)
    violations = pareto.violation({"last": last}, {"last": (low, low + width)})
    assert pareto.best(points, violations) == expected
    nearest = pareto.nearest(points, violations, len(points))
    assert sorted(violations[nearest]) == violations[nearest].tolist()
    assert set(rows) <= set(nearest.tolist())


def test_nothing_is_best_of_nothing():
    assert pareto.best([], []) is None
    assert pareto.nearest(np.empty((0, 2)), [], 3).shape == (0,)


# Repeats.


@PATIENT
@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats(-1e6, 1e6)), max_size=20))
def test_repeats_are_gathered_in_the_order_of_their_first_appearance(pairs):
    labels = [label for label, _ in pairs]
    found = pareto.repeats(labels, np.reshape([value for _, value in pairs], (-1, 1)))
    assert found.labels == tuple(dict.fromkeys(labels))
    assert found.count.sum() == len(pairs)
    for group, label in enumerate(found.labels):
        values = [value for other, value in pairs if other == label]
        assert found.count[group] == len(values)
        assert found.mean[group, 0] == pytest.approx(statistics.fmean(values), rel=1e-9, abs=1e-6)
        if len(values) > 1:
            assert found.deviation[group, 0] == pytest.approx(statistics.stdev(values), rel=1e-6, abs=1e-6)
        else:
            assert math.isnan(found.deviation[group, 0])


def test_equal_repeats_have_exactly_their_value_and_no_deviation():
    found = pareto.repeats([("a", 0.5)] * 3, [[0.1, 7]] * 3)
    assert np.mean([0.1] * 3) != 0.1
    assert found.mean.tolist() == [[0.1, 7]]
    assert found.deviation.tolist() == [[0, 0]]


def test_a_repeat_that_is_not_finite_leaves_its_candidate_off_the_front():
    found = pareto.repeats(["a", "b", "a", "c", "c"], [[1, 1], [2, 2], [NAN, 1], [0, 9], [INF, 9]])
    assert found.labels == ("a", "b", "c")
    np.testing.assert_array_equal(found.mean, [[NAN, 1], [2, 2], [NAN, 9]])
    np.testing.assert_array_equal(found.deviation, [[NAN, 0], [NAN, NAN], [NAN, 0]])
    assert pareto.front(found.mean).tolist() == [False, True, False]


def test_no_repeats_and_labels_that_do_not_fit():
    found = pareto.repeats([], np.empty((0, 2)))
    assert (found.labels, found.mean.shape, found.deviation.shape, found.count.shape) == ((), (0, 2), (0, 2), (0,))
    for values in ([[1.0]], [1.0, 2.0]):
        with pytest.raises(ValueError, match=r"expected shape \(2, k\)"):
            pareto.repeats(["a", "b"], values)
