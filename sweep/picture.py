"""What the plots of a sweep show: its candidates as points in a plane, in the units of its axes. Nothing here draws."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sweep import sweeps
from sweep.quantities import SHOWN, STATES, Quantity, brief, count, known, quantity
from sweep.sweeps import BASELINES, SEED, Baseline, Candidate, Ranking, Sweep

_MOST_LABELS = 8
_MOST_GROUPS = 8
"""As many values as the plots have colours and shapes."""


@dataclass(frozen=True, eq=False)
class Mark:
    """One point of a plot, in the units of its axes.

    Attributes:
        x: horizontally.
        y: vertically.
        spread: standard deviations of x and y; 0 where not known.
        group: the value of the axis that colours it.
        shade: the third objective; NaN without one.
        label: a few words.
        hover: lines.
    """

    x: float
    y: float
    spread: tuple[float, float] = (0.0, 0.0)
    group: str = ""
    shade: float = math.nan
    label: str = ""
    hover: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Picture:
    """A sweep as points in a plane.

    Attributes:
        title: the sweep and its trials.
        x: the horizontal axis.
        y: the vertical axis.
        shade: the third objective, which is shown as colour.
        better: whether more is better, on x and on y; None for an axis that is no objective.
        category: the override key that colours and shapes the points; "" for none.
        groups: its values.
        others: feasible candidates that are not on the front.
        front: those on it, the best accuracy first.
        staircase: what the front attains, as a line's corners; empty with more than two objectives.
        knee: the front's best compromise.
        infeasible: candidates that break a constraint.
        baselines: points by what they are.
        bounds: constraints on x or y: which axis, where, text.
        visible: the range of y to begin with: a network that learnt nothing would press all others together.
        unseen: what is not drawn at all.
    """

    title: str
    x: Quantity
    y: Quantity
    shade: Quantity | None
    better: tuple[bool | None, bool]
    category: str
    groups: tuple[str, ...]
    others: tuple[Mark, ...]
    front: tuple[Mark, ...]
    staircase: tuple[tuple[float, float], ...]
    knee: Mark | None
    infeasible: tuple[Mark, ...]
    baselines: Mapping[str, tuple[Mark, ...]]
    bounds: tuple[tuple[str, float, str], ...]
    visible: tuple[float, float]
    unseen: tuple[str, ...]

    @property
    def line(self) -> str:
        """What the staircase is."""
        return "best so far" if self.better[0] is None else "front"

    @property
    def marks(self) -> tuple[Mark, ...]:
        """Every point."""
        return (*self.others, *self.front, *self.infeasible, *itertools.chain.from_iterable(self.baselines.values()))

    @property
    def shades(self) -> tuple[float, float]:
        """The range of the third objective."""
        shades = [one.shade for one in (*self.others, *self.front)] or [0.0, 1.0]
        return min(shades), max(shades)

    @property
    def hidden(self) -> tuple[Mark, ...]:
        """The points outside the visible range."""
        return tuple(one for one in self.marks if not self.shows(one))

    @property
    def notes(self) -> tuple[str, ...]:
        """What is not to be seen, for people."""
        hidden = self.hidden
        which = ", ".join(one.label.partition(" ")[0] for one in hidden) if len(hidden) <= 3 else f"{len(hidden)} candidates"
        return (*self.unseen, *([f"{which} outside the axes"] if hidden else []))

    @property
    def chosen(self) -> list[Mark]:
        """The front's points to name: all of a few, or else its ends, its knee, and others evenly between them."""
        front = [one for one in self.front if self.shows(one)]
        if len(front) <= _MOST_LABELS:
            return front
        even = np.linspace(0, len(front) - 1, _MOST_LABELS - 1).round().astype(int).tolist()
        return list(dict.fromkeys([*([self.knee] if self.knee in front else []), *(front[place] for place in even)]))

    def shows(self, mark: Mark) -> bool:
        """Whether a point is in the visible range."""
        return self.visible[0] <= mark.y <= self.visible[1]

    def named(self, group: str) -> str:
        """A group for the legend."""
        return f"{self.category} = {group or '(none)'}" if self.category else "trial"


def of(sweep: Sweep, ranking: Ranking) -> Picture:
    """The picture of a sweep: the front's plane with every candidate that has a number for each objective."""
    lead, across, third = _plane(sweep)
    x, y = quantity(across) if across else Quantity("Trial"), quantity(lead)
    category, words = _category(sweep), _words(sweep, ranking)

    def mark(candidate: Candidate) -> Mark:
        mean, deviation = candidate.mean, candidate.deviation
        return Mark(
            x=mean[across] * x.factor if across else candidate.number,
            y=mean[lead] * y.factor,
            spread=(known(deviation[across]) * x.factor if across else 0.0, known(deviation[lead]) * y.factor),
            group=candidate.overrides.get(category, ""),
            shade=mean[third] * quantity(third).factor if third else math.nan,
            label=words(candidate),
            hover=tuple(_hover(candidate)),
        )

    marks = {row: mark(candidate) for row, candidate in enumerate(ranking.candidates) if ranking.known[row]}
    feasible = {row: one for row, one in marks.items() if ranking.candidates[row].feasible}
    front = tuple(marks[row] for row in ranking.front)
    better = (sweep.objectives[across] == "maximize" if across else None), sweep.objectives[lead] == "maximize"
    baselines = {BASELINE_NAMES[role]: found for role in BASELINES if (found := _baseline_marks(sweep, role, across, lead))}
    if across:
        stairs = _staircase([(one.x, one.y) for one in front], ascending=better[0] is False)
    else:
        stairs = _running([(one.x, one.y) for one in feasible.values()], better[1])
    told = [sweep.name + ": " + count(len(sweep.complete), "complete trial")]
    told += [count(len(ranking.candidates), "candidate")] if ranking.repeated else []
    told += [f"{len(front)} on the front"] if across else []
    return Picture(
        title=", ".join(told),
        x=x,
        y=y,
        shade=quantity(third) if third else None,
        better=better,
        category=category,
        groups=sweep.values(category) if category else ("",),
        others=tuple(one for row, one in feasible.items() if row not in ranking.front),
        front=front,
        staircase=() if third else tuple(stairs),
        knee=None if ranking.knee is None or len(front) < 3 else marks[ranking.knee],
        infeasible=tuple(one for row, one in marks.items() if row not in feasible),
        baselines=baselines,
        bounds=tuple(
            (axis, bound * shown.factor, f"{metric} {sweep.constraints[metric]}")
            for axis, metric, shown in (("x", across or "", x), ("y", lead, y))
            for bound in sweep.limits.get(metric, ())
            if math.isfinite(bound)
        ),
        visible=_visible([one.y for one in (*marks.values(), *itertools.chain(*baselines.values()))], y, better[1]),
        unseen=tuple(_unseen(sweep, len(ranking.candidates) - len(marks))),
    )


def _plane(sweep: Sweep) -> tuple[str, str | None, str | None]:
    """What goes upwards (of the first two objectives, an accuracy or else the first), to the right, and into colour."""
    names = list(sweep.objectives)
    lead = sweeps.accuracy_first({name: sweep.objectives[name] for name in names[:2]})
    across = next((name for name in names[:2] if name != lead), None)
    return lead, across, names[2] if len(names) > 2 else None


def _visible(values: Sequence[float], axis: Quantity, more_is_better: bool) -> tuple[float, float]:
    """The range to show: all but what is worse than the quartiles by three times their distance (Tukey 1977)."""
    first, third = np.percentile(values, (25, 75)).tolist() if values else (0.0, 0.0)
    fence = 3 * (third - first)
    if axis.logarithmic or len(values) < 8 or fence == 0:
        return -math.inf, math.inf
    low, high = (first - fence, math.inf) if more_is_better else (-math.inf, third + fence)
    kept = [value for value in values if low <= value <= high]
    margin = 0.09 * (max(kept) - min(kept))
    return min(kept) - margin, max(kept) + margin


def _category(sweep: Sweep) -> str:
    """The axis whose values are told apart by colour: quant, or else the first choice out of a few; "" for none."""
    varied = [key for key in sweep.keys if key != SEED and 2 <= len(sweep.values(key)) <= _MOST_GROUPS]
    choices = [key for key in varied if "." not in key]
    return "quant" if "quant" in choices else next(iter([*choices, *varied]), "")


def _words(sweep: Sweep, ranking: Ranking) -> Callable[[Candidate], str]:
    """How to name a candidate of the front in a few words: by what the front's candidates differ in, at most three axes."""
    front = ranking.on_front()
    differing = [key for key in sweep.keys if key != SEED and len({one.overrides.get(key) for one in front}) > 1][:3]

    def words(candidate: Candidate) -> str:
        return ", ".join(_word(key, candidate.overrides[key]) for key in differing if key in candidate.overrides)

    return lambda candidate: f"#{candidate.number} {words(candidate)}".rstrip()


def _word(key: str, text: str) -> str:
    """An override in short: `qat`, `bits 4`, `teacher resnet20`."""
    text = brief(text)
    text = text if len(text) <= 20 else f"{text[:19]}…"
    return f"{key.rpartition('.')[2]} {text}" if "." in key else text


def _hover(candidate: Candidate) -> Iterator[str]:
    yield f"trial {', '.join(str(trial.number) for trial in candidate.trials)}"
    yield from (f"{key}={text}" for key, text in candidate.overrides.items())
    for metric in (*SHOWN, "gzip_bytes", "macs"):
        shown = quantity(metric)
        yield f"{shown.title}: {shown.text(candidate.mean[metric], candidate.deviation[metric])}"


def _staircase(points: Sequence[tuple[float, float]], *, ascending: bool) -> list[tuple[float, float]]:
    """Corners of what points on a front attain: going on with x, the best y so far is kept."""
    ordered = sorted(set(points), reverse=not ascending)
    corners = ordered[:1]
    for x, y in ordered[1:]:
        corners += [(x, corners[-1][1]), (x, y)]
    return corners


def _running(points: Sequence[tuple[float, float]], more_is_better: bool) -> list[tuple[float, float]]:
    """Corners of the best value so far, over the trials."""
    if not points:
        return []
    best = list(itertools.accumulate((y for _, y in points), max if more_is_better else min))
    return [*_staircase([(x, y) for (x, _), y in zip(points, best, strict=True)], ascending=True)]


BASELINE_NAMES = {"start": "start network, float32", "student": "uncompressed student"}


def baselines(sweep: Sweep, role: str) -> list[list[Baseline]]:
    """The different baselines in a role: files of one size, which differ in accuracy only, stay together."""
    found = dict.fromkeys(baseline for trial in sweep.complete for baseline in trial.baselines if baseline.role == role)
    if role == "student":
        beginnings = (one for trial in sweep.complete for one in trial.baselines if one.role == "start")
        starts = {(one.size_bytes, one.val_accuracy) for one in beginnings}
        found = {one: None for one in found if (one.size_bytes, one.val_accuracy) not in starts}
    ordered = sorted(found, key=lambda one: (one.size_bytes, one.name, one.val_accuracy, one.test_accuracy))
    return [list(group) for _, group in itertools.groupby(ordered, key=lambda one: (one.size_bytes, one.name))]


def _baseline_marks(sweep: Sweep, role: str, across: str | None, lead: str) -> tuple[Mark, ...]:
    """A role's baselines in the plane; none where a baseline lacks one of the plane's metrics."""
    measured = ("val_accuracy", "test_accuracy", "size_bytes", "efficiency", "compression")
    if across not in measured or lead not in measured:
        return ()
    x, y = quantity(across), quantity(lead)
    marks = []
    for group in (group for group in baselines(sweep, role) if math.isfinite(average(group, lead) + average(group, across))):
        xs, ys = ([getattr(one, name) * axis.factor for one in group] for name, axis in ((across, x), (lead, y)))
        told = tuple(f"{quantity(name).title}: {quantity(name).text(average(group, name))}" for name in measured)
        spread = (0.0, float(np.std(ys, ddof=1)) if len(ys) > 1 else 0.0)
        marks.append(Mark(float(np.mean(xs)), float(np.mean(ys)), spread, hover=(BASELINE_NAMES[role], *told)))
    return tuple(marks)


def average(group: Sequence[Baseline], name: str) -> float:
    """The mean of a metric over the baselines of a group."""
    return float(np.mean([getattr(one, name) for one in group]))


def _unseen(sweep: Sweep, unknown: int) -> Iterator[str]:
    """What no plot can show."""
    states = Counter(trial.state for trial in sweep.trials if not trial.complete)
    yield from (f"{states[state]} {word}" for state, word in STATES.items() if states[state])
    if unknown:
        yield f"{unknown} without a result"
