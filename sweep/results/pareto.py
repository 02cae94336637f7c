"""Multi-objective optimisation in pure numpy: Pareto fronts, hypervolume, the knee, constrained choice, means over repeats.

Two functions take a table: `oriented` converts columns and their directions to points that are all minimised, and `violation`
converts columns and their limits to one number a row. All others take these results, without names or directions.

Points are float64 (n, m), a row for each candidate, with 1 <= m <= 4; smaller is better in every column. A row with NaN is a
candidate with an unknown value: it is never on a front, dominates nothing and is never chosen. Infinities are ordered like
numbers. Input of another shape or range raises a ValueError that says what was expected and what was received.

Out of scope: names of metrics, parsing, text and plots. Scales are linear; a caller passes logarithms to compare ratios.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
Indices = npt.NDArray[np.intp]
MAX_OBJECTIVES = 4
SIGNS = {"minimize": 1.0, "maximize": -1.0}


def oriented(columns: Mapping[str, npt.ArrayLike], objectives: Mapping[str, str]) -> Floats:
    """The points of a table: the objectives' columns, in the order of `objectives`, with maximised ones negated.

    Args:
        columns: name to n numbers; None becomes NaN.
        objectives: one to four of those names, each with "minimize" or "maximize".

    Raises:
        ValueError: for no or too many objectives, an unknown name or direction, or columns of different lengths.
    """
    if not objectives or not SIGNS.keys() >= set(objectives.values()):
        raise ValueError(f"objectives: expected names with {' or '.join(SIGNS)}; received {dict(objectives)}")
    return _points(np.stack([SIGNS[direction] * _column(columns, name) for name, direction in objectives.items()], axis=1))


def front(points: npt.ArrayLike) -> Mask:
    """The mask of non-dominated points, bool (n,): no other point is at least as good in all objectives and better in one.

    Equal points do not dominate each other, so every copy of a point on the front is on it. Method: in lexicographic order no
    point dominates an earlier one, so the first remaining point is on the front, and the points that it dominates are removed;
    O(n · front).
    """
    points = _points(points)
    known = ~np.isnan(points).any(axis=1)
    unique, inverse = np.unique(points[known], axis=0, return_inverse=True)
    mask = np.zeros(len(points), dtype=bool)
    mask[known] = _undominated(unique)[inverse]
    return mask


def dominated(bound: npt.ArrayLike, points: npt.ArrayLike, margin: npt.ArrayLike = 0.0) -> bool:
    """Whether a finished point dominates a running candidate's optimistic bound, even if it improves on it by the margin.

    That is when a finished point dominates `bound - margin`. An equal point does not.

    Args:
        bound: (m,) the best value that the candidate can reach in each objective, minimised; with NaN the result is False.
        points: (n, m) the finished candidates.
        margin: (m,), or one number for all, in the units of the objectives, finite and at least 0.

    Raises:
        ValueError: for other shapes, or a margin that is negative or not finite.
    """
    bound, margin = np.asarray(bound, dtype=np.float64), np.asarray(margin, dtype=np.float64)
    points = _points(points, bound.size)
    if bound.shape != points.shape[1:] or margin.shape not in {(), bound.shape}:
        raise ValueError(f"bound and margin: expected shape {points.shape[1:]}; received {bound.shape} and {margin.shape}")
    if not (np.isfinite(margin) & (margin >= 0)).all():
        raise ValueError(f"margin: expected finite numbers of at least 0; received {margin.tolist()}")
    reachable = bound - margin
    return bool(((points <= reachable).all(axis=1) & (points < reachable).any(axis=1)).any())


def hypervolume(points: npt.ArrayLike, reference: npt.ArrayLike) -> float:
    """The hypervolume that the points dominate up to a reference point (Zitzler and Thiele 1998), exact up to rounding.

    Method: slicing along the first objective (Knowles 2002), with a grid over the middle objectives that has the extent of the
    last one. A front of k points takes k steps of O(1), O(k) and O(k²) for 2, 3 and 4 objectives.

    Args:
        points: (n, m). A point that is not better than the reference in every objective contributes nothing.
        reference: (m,) without NaN. If it or a contributing point is infinite, so is the hypervolume.

    Raises:
        ValueError: for other shapes, or a NaN in the reference.
    """
    boxes = _boxes(points, reference)
    return _volume(boxes) if np.isfinite(boxes).all() else math.inf


def running_hypervolume(points: npt.ArrayLike, reference: npt.ArrayLike) -> Floats:
    """The hypervolume of the first 1, 2, ..., n points, float64 (n,), non-decreasing: the progress of a sweep over its trials.

    The arguments are those of `hypervolume`, with the points in the order of the trials. The last value equals `hypervolume` up
    to rounding. Method: each point adds its exclusive hypervolume (While, Bradstreet and Barone 2012, IEEE TEVC 16(1)).
    """
    boxes = _boxes(points, reference)
    infinite = np.isinf(boxes).any(axis=1)
    gains = np.zeros(len(boxes))
    covered = np.zeros((1, boxes.shape[1]))
    for trial in np.flatnonzero(~infinite):
        box = boxes[trial]
        if not (covered >= box).all(axis=1).any():
            gains[trial] = max(0.0, math.prod(box.tolist()) - _volume(np.minimum(covered, box)))
            covered = np.vstack([covered[(covered > box).any(axis=1)], box])
    return np.where(np.logical_or.accumulate(infinite), math.inf, np.cumsum(gains))


def reference_point(points: npt.ArrayLike, margin: float = 0.1, *, dominated: bool = False) -> Floats:
    """A reference point for the hypervolume, float64 (m,): worse than every finite point of the front, in every objective.

    It is the nadir of the front, worsened by `margin` times the front's extent in each objective, so that the extreme points
    contribute. Without an extent (one point, one objective) it is worsened by `margin` times the magnitude of the value, or by
    `margin` at 0. It depends on the points, so compare hypervolumes only with one reference.

    Args:
        points: (n, m).
        margin: finite and above 0.
        dominated: whether the nadir is that of all finite points, dominated ones included.

    Raises:
        ValueError: for points without a finite one on the front, or a margin out of range.
    """
    points = _points(points)
    ends = points[np.isfinite(points).all(axis=1)] if dominated else points[_finite_front(points)]
    if not 0 < margin < math.inf:
        raise ValueError(f"margin: expected a finite number above 0; received {margin}")
    if not len(ends):
        raise ValueError("points: expected a finite one on the front; received none")
    worst, extent = ends.max(axis=0), np.ptp(ends, axis=0)
    step = np.select([extent > 0, worst != 0], [extent, np.abs(worst)], 1.0)
    return np.asarray(np.maximum(worst + margin * step, np.nextafter(worst, math.inf)))


def knee(points: npt.ArrayLike) -> int | None:
    """The row of the knee of the front: the point furthest below the hyperplane between the extremes.

    Method: each objective is scaled to [0, 1] over the front's finite points; the knee has the largest distance below the
    hyperplane through the points with 1 in one objective and 0 in the others (Das 1999, Structural Optimization 18). That is
    the minimum Manhattan distance to the ideal point (Chiu, Yen and Juan 2016, IEEE TEVC 20(6)). An objective without extent is
    ignored. Ties (to 12 decimals) go to the best first objective, then the second and so on, then the first row. None for a
    front without a finite point.
    """
    points = _points(points)
    rows = _finite_front(points)
    ends = points[rows]
    below = ends - ends.min(axis=0, initial=math.inf)
    extent = below.max(axis=0, initial=0.0)
    total = np.divide(below, extent, out=np.zeros_like(below), where=extent > 0).sum(axis=1)
    order = np.lexsort((*ends.T[::-1], total.round(12)))
    return int(rows[order[0]]) if len(rows) else None


def violation(columns: Mapping[str, npt.ArrayLike], limits: Mapping[str, tuple[float, float]]) -> Floats:
    """The constraint violation of each row of a table, float64 (n,) in [0, inf]; 0 for a feasible row.

    An excess is relative to its limit (to the column's largest finite value for a limit of 0), and the relative excesses are
    summed (Jain and Deb 2014, IEEE TEVC 18(4)). So 0.2 is 20 % over one limit, whatever its unit.

    Args:
        columns: name to n numbers, at least one column; None becomes NaN, an infinite violation in a limited column.
        limits: column name to (lowest, highest) allowed value, both included; -inf and inf leave a side open.

    Raises:
        ValueError: for an unknown name, columns of different lengths, or limits that no value satisfies.
    """
    total = np.zeros(np.shape(next(iter(columns.values()), ())))
    for name, (low, high) in limits.items():
        if not (low <= high and low < math.inf and high > -math.inf):
            raise ValueError(f"limits of {name}: expected lowest <= highest; received {low} and {high}")
        values = _column(columns, name)
        if values.shape != total.shape:
            raise ValueError(f"column {name}: expected {len(total)} numbers; received {len(values)}")
        largest = np.abs(values[np.isfinite(values)]).max(initial=0.0) or 1.0
        total += np.subtract(values, high, out=np.zeros_like(values), where=values > high) / (abs(high) or largest)
        total += np.subtract(low, values, out=np.zeros_like(values), where=values < low) / (abs(low) or largest)
        total[np.isnan(values)] = math.inf
    return total


def best(points: npt.ArrayLike, violations: npt.ArrayLike) -> int | None:
    """The best feasible row; None when there is none.

    Args:
        points: (n, m), compared lexicographically, then by row.
        violations: (n,) from `violation`.

    Raises:
        ValueError: for another number of violations.
    """
    rows = nearest(points, violations, 1)
    return int(rows[0]) if len(rows) and np.asarray(violations)[rows[0]] == 0 else None


def nearest(points: npt.ArrayLike, violations: npt.ArrayLike, count: int) -> Indices:
    """The at most `count` rows closest to feasibility, intp, by ascending violation, then in the order of `best`.

    The arguments are those of `best`. Rows with NaN or an infinite violation are left out.

    Raises:
        ValueError: for another number of violations, or a negative count.
    """
    points, violations = _points(points), np.asarray(violations, dtype=np.float64)
    if violations.shape != (len(points),) or count < 0:
        raise ValueError(f"expected {len(points)} violations, a count of at least 0; received {violations.shape}, {count}")
    rows = np.flatnonzero(np.isfinite(violations) & ~np.isnan(points).any(axis=1))
    return rows[np.lexsort((*points[rows].T[::-1], violations[rows]))][:count]


@dataclass(frozen=True, eq=False)
class Repeats:
    """Mean and standard deviation of candidates that were measured several times.

    Attributes:
        labels: the g distinct labels, in the order of their first appearance.
        mean: float64 (g, k), exact where all repeats are equal; NaN where a repeat is not finite.
        deviation: float64 (g, k), the sample standard deviation (over n - 1); NaN for one repeat.
        count: intp (g,), the numbers of repeats, at least 1.
    """

    labels: tuple[Hashable, ...]
    mean: Floats
    deviation: Floats
    count: Indices


def repeats(labels: Sequence[Hashable], values: npt.ArrayLike) -> Repeats:
    """Averages the rows of each candidate, such as a point of a sweep under several seeds.

    Args:
        labels: n labels, equal for repeats of one candidate.
        values: (n, k) with any k.

    Raises:
        ValueError: for another number of values.
    """
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 2 or len(labels) != len(values):
        raise ValueError(f"values: expected shape ({len(labels)}, k), a row a label; received {values.shape}")
    values = np.where(np.isfinite(values), values, np.nan)
    rows: dict[Hashable, list[int]] = {}
    for row, label in enumerate(labels):
        rows.setdefault(label, []).append(row)
    mean = np.empty((len(rows), values.shape[1]))
    deviation = np.empty_like(mean)
    for group, members in enumerate(rows.values()):
        offsets = values[members] - values[members[0]]  # exactly 0 for equal repeats, without the rounding of a sum
        mean[group] = values[members[0]] + offsets.mean(axis=0)
        deviation[group] = offsets.std(axis=0, ddof=1) if len(members) > 1 else np.nan
    return Repeats(tuple(rows), mean, deviation, np.array([len(members) for members in rows.values()], dtype=np.intp))


def _column(columns: Mapping[str, npt.ArrayLike], name: str) -> Floats:
    """One column as float64 (n,)."""
    if name not in columns or np.ndim(columns[name]) != 1:
        raise ValueError(f"column {name}: expected n numbers under one of the names {', '.join(columns)}")
    return np.asarray(columns[name], dtype=np.float64)


def _points(points: npt.ArrayLike, objectives: int = 1) -> Floats:
    """Validates points and converts them to float64 (n, m); an empty list has n = 0 and that many objectives."""
    array = np.asarray(points, dtype=np.float64)
    array = array.reshape(0, objectives) if array.shape == (0,) else array
    if array.ndim != 2 or not 1 <= array.shape[1] <= MAX_OBJECTIVES:
        raise ValueError(f"points: expected shape (n, m) with 1 <= m <= {MAX_OBJECTIVES}; received {array.shape}")
    return array


def _undominated(ordered: Floats) -> Mask:
    """The mask of non-dominated rows among distinct rows in lexicographic order without NaN."""
    mask = np.zeros(len(ordered), dtype=bool)
    remaining = np.arange(len(ordered))
    while len(remaining):
        first = remaining[0]
        mask[first] = True
        remaining = remaining[(ordered[remaining] < ordered[first]).any(axis=1)]
    return mask


def _finite_front(points: Floats) -> Indices:
    """The rows of the finite points on the front."""
    return np.flatnonzero(front(points) & np.isfinite(points).all(axis=1))


def _boxes(points: npt.ArrayLike, reference: npt.ArrayLike) -> Floats:
    """The distance of each point below the reference, (n, m); zeros for a point that is not below it in every objective."""
    reference = np.asarray(reference, dtype=np.float64)
    points = _points(points, reference.size)
    if reference.shape != points.shape[1:] or np.isnan(reference).any():
        raise ValueError(f"reference: expected {points.shape[1]} numbers without NaN; received {reference.tolist()}")
    inside = (points < reference).all(axis=1, keepdims=True)
    return np.asarray(np.subtract(reference, points, out=np.zeros_like(points), where=inside))


def _volume(boxes: Floats) -> float:
    """The volume of the union of the boxes from the origin to each row: finite, not negative, (k, m)."""
    if boxes.shape[1] == 1:
        return float(boxes.max(initial=0.0))
    corners = np.unique(-boxes, axis=0)
    boxes = -corners[_undominated(corners)]  # descending in the first axis, so that each slice contains the boxes before it
    thickness = boxes[:, 0] - np.append(boxes[1:, 0], 0.0)
    middle = boxes[:, 1:-1]
    steps = np.diff(np.sort(middle, axis=0), axis=0, prepend=0.0)
    cells = middle.argsort(axis=0).argsort(axis=0) + 1
    height = np.zeros((len(boxes),) * middle.shape[1])
    areas = np.zeros(len(boxes))
    for position, top in enumerate(boxes[:, -1]):
        corner: tuple[Any, ...] = (*map(slice, cells[position]), ...)
        height[corner] = np.maximum(height[corner], top)
        areas[position] = reduce(lambda area, step: step @ area, steps.T, height)
    return float(thickness @ areas)
