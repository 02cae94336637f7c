"""The content of a sweep's plots: its candidates as points in the units of the axes. It draws nothing."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from sweep.core.metric import Prominence, Quantity
from sweep.core.metrics import METRICS, absent, seen_in
from sweep.core.text import count, finite_or_zero
from sweep.reporting import references
from sweep.reporting.baselines import BASELINE_NAMES, average, baselines
from sweep.reporting.marks import Mark, Span, front_line, reach, running
from sweep.reporting.words import OUTCOMES, brief
from sweep.results.ranking import Candidate, Ranking, accuracy_first
from sweep.results.sweeps import BASELINES, SEED, Sweep

_MAX_LABELS = 8
_MAX_OVERRIDE_LENGTH, _MAX_LABEL_LENGTH = 20, 40
"""The most characters of an override in a label or the legend, and of a label."""
_FEW = 8
"""With fewer points no outlier is left outside the axes."""
_MAX_GROUPS = 8
"""The number of colours and markers of the plots."""


@dataclass(frozen=True, eq=False)
class Picture:
    """The content of a sweep's plot.

    Attributes:
        title: the name of the sweep and its number of trials.
        x: the horizontal axis.
        y: the vertical axis.
        shade: the third objective, shown as colour; None without one.
        better: whether more is better, on x and on y; None for an axis that is no objective.
        category: the override key that determines colour and marker; "" for none.
        groups: the values of the category.
        others: feasible candidates that are not on the front.
        front: the candidates on the front, the best accuracy first.
        staircase: the corners of the attainment staircase of the front; empty with more than two objectives.
        knee: the knee of the front; None without one.
        infeasible: candidates that break a constraint.
        baselines: kind of baseline to its points; also references, which have labels.
        bounds: constraints on x or y: which axis, where, text.
        visible: the range of y to begin with: a network that learnt nothing would press all others together.
        bars: the meaning of the error bars; "" without any.
        unseen: notes on what is not drawn.
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
    bars: str
    unseen: tuple[str, ...]

    @property
    def line(self) -> str:
        """The legend text of the staircase."""
        return "best so far" if self.better[0] is None else "front"

    @property
    def candidates(self) -> tuple[Mark, ...]:
        """All points without the baselines."""
        return (*self.others, *self.front, *self.infeasible)

    @property
    def marks(self) -> tuple[Mark, ...]:
        """All points."""
        return (*self.candidates, *itertools.chain.from_iterable(self.baselines.values()))

    @property
    def shades(self) -> tuple[float, float]:
        """The range of the third objective."""
        shades = [mark.shade for mark in (*self.others, *self.front)] or [0.0, 1.0]
        return min(shades), max(shades)

    @property
    def logarithmic(self) -> tuple[bool, bool]:
        """Whether x and y have a logarithmic scale."""
        return (
            self.x.logarithmic and all(mark.x > 0 for mark in self.marks),
            self.y.logarithmic and all(mark.y > 0 for mark in self.marks),
        )

    @cached_property
    def window(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """The limits of both axes, with room for labels on the empty side of the front.

        The candidates keep at least a third of the horizontal axis: a baseline beyond that is left out. They keep half of the
        vertical axis where a reference is beyond what is visible. A constraint is within where it widens its axis by at most
        a third.
        """
        low, high = self.visible
        seen = [mark for mark in self.candidates if low <= mark.y <= high]
        far, close = self.logarithmic
        x = Span.of([reach(mark.x, mark.spread[0], far) for mark in seen], far)
        y = Span.of([reach(mark.y, mark.spread[1], close) for mark in seen], close)
        widest, tallest = (math.inf, math.inf) if len(seen) < _FEW else (3, 2)
        beside = [mark for mark in itertools.chain(*self.baselines.values()) if x.growth(mark.x) <= widest]
        near = [mark for mark in beside if low <= mark.y <= high or (mark.label and y.growth(mark.y) <= tallest)]
        room = {None: (0.06, 0.06), True: (0.06, 0.16), False: (0.16, 0.06)}[self.better[0]]
        x = x.joined((mark.x, mark.x) for mark in near)
        y = y.joined(reach(mark.y, mark.spread[1], close) for mark in near)
        limits = {axis: [value for other, value, _ in self.bounds if other == axis] for axis in "xy"}
        return x.including(limits["x"]).padded(*room), y.including(limits["y"]).padded(0.07, 0.09)

    @property
    def hidden(self) -> tuple[Mark, ...]:
        """The candidates outside the axes."""
        return tuple(mark for mark in self.candidates if not self.shows(mark))

    @property
    def limits(self) -> tuple[tuple[str, float, str], ...]:
        """The constraints within the axes, as (axis, position, text)."""
        return tuple(bound for bound in self.bounds if self._within(*bound[:2]))

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes for the legend: the meaning of the error bars, and what is outside the axes or not drawn."""
        notes = [self.bars] if self.bars else []
        hidden, front = self.hidden, sum(mark in self.front for mark in self.hidden)
        which = ", ".join(mark.label.partition(" ")[0] for mark in hidden) if len(hidden) <= 3 else f"{len(hidden)} candidates"
        lost = f" ({front} on the front)" if front else ""
        if front and front == len(hidden):
            lost = " (on the front)"
        notes += self.unseen
        if hidden:
            notes.append(f"{which}{lost} outside the axes")
        for name, marks in self.baselines.items():
            outside = ((", ".join(filter(None, (mark.label, name))), mark) for mark in marks if not self.shows(mark))
            notes += [f"{what} ({self._coordinates(mark)}) outside the axes" for what, mark in outside]
        notes += [f"{text} outside the axes" for axis, value, text in self.bounds if not self._within(axis, value)]
        return tuple(notes)

    @property
    def chosen(self) -> list[Mark]:
        """The points of the front to label: all if they are few, else the ends, the knee, and evenly spaced ones between."""
        front = [mark for mark in self.front if self.shows(mark)]
        if len(front) <= _MAX_LABELS:
            return front
        even = np.linspace(0, len(front) - 1, _MAX_LABELS - 1).round().astype(int).tolist()
        return list(dict.fromkeys([*([self.knee] if self.knee in front else []), *(front[index] for index in even)]))

    def shows(self, mark: Mark) -> bool:
        """Whether a point is within the axes."""
        return self._within("x", mark.x) and self._within("y", mark.y)

    def named(self, group: str) -> str:
        """The legend text of a group."""
        return f"{self.category} = {_cut(group, _MAX_OVERRIDE_LENGTH) or '(none)'}" if self.category else "trial"

    def _within(self, axis: str, value: float) -> bool:
        low, high = self.window["xy".index(axis)]
        return low <= value <= high

    def _coordinates(self, mark: Mark) -> str:
        """Where a point is, in words."""
        return ", ".join(axis.text(value / axis.factor) for axis, value in ((self.x, mark.x), (self.y, mark.y)))


def of(sweep: Sweep, ranking: Ranking) -> Picture:
    """The picture of a sweep: the front's plane with every candidate that has a number for each objective."""
    lead, across, third = _plane(sweep)
    x, y = METRICS[across] if across else Quantity("Trial"), METRICS[lead]
    category, words = _category(sweep), _words(sweep, ranking)

    def mark_of(candidate: Candidate) -> Mark:
        mean, deviation = candidate.mean, candidate.deviation
        return Mark(
            x=mean[across] * x.factor if across else candidate.number,
            y=mean[lead] * y.factor,
            spread=(
                finite_or_zero(deviation[across]) * x.factor if across else 0.0,
                finite_or_zero(deviation[lead]) * y.factor,
            ),
            group=candidate.overrides.get(category, ""),
            shade=mean[third] * METRICS[third].factor if third else math.nan,
            label=words(candidate),
            hover=tuple(_hover(candidate)),
        )

    marks = {row: mark_of(candidate) for row, candidate in enumerate(ranking.candidates) if ranking.known[row]}
    feasible = {row: mark for row, mark in marks.items() if ranking.candidates[row].feasible}
    front = tuple(marks[row] for row in ranking.front)
    better = (sweep.objectives[across] == "maximize" if across else None), sweep.objectives[lead] == "maximize"
    beside, unseen = {}, list(_unseen(sweep, len(ranking.candidates) - len(marks)))
    for role in BASELINES:
        if measured := _baseline_marks(sweep, role, across, lead):
            beside[BASELINE_NAMES[role]] = measured
    compared = [mark.y for mark in (*marks.values(), *itertools.chain(*beside.values()))]
    if across:
        beside |= references.reference_marks(sweep, across, lead)
        unseen += references.notes(sweep, across, lead)
        stairs = front_line([(mark.x, mark.y) for mark in front], ascending=better[0] is False)
    else:
        stairs = running([(mark.x, mark.y) for mark in feasible.values()], better[1])
    parts = [sweep.name + ": " + count(len(sweep.complete), "complete trial")]
    parts += [count(len(ranking.candidates), "candidate")] if ranking.repeated else []
    parts += [f"{len(front)} on the front"] if across else []
    return Picture(
        title=", ".join(parts),
        x=x,
        y=y,
        shade=METRICS[third] if third else None,
        better=better,
        category=category,
        groups=sweep.values(category) if category else ("",),
        others=tuple(mark for row, mark in feasible.items() if row not in ranking.front),
        front=front,
        staircase=() if third else tuple(stairs),
        knee=None if (row := knee(ranking)) is None else marks[row],
        infeasible=tuple(mark for row, mark in marks.items() if row not in feasible),
        baselines=beside,
        bounds=tuple(
            (axis, bound * shown.factor, _bound(sweep, metric))
            for axis, metric, shown in (("x", across or "", x), ("y", lead, y))
            for bound in sweep.limits.get(metric, ())
            if math.isfinite(bound)
        ),
        visible=_visible(compared, y, better[1]),
        bars=_bars(ranking),
        unseen=tuple(unseen),
    )


def _plane(sweep: Sweep) -> tuple[str, str | None, str | None]:
    """The metrics of the vertical axis, the horizontal axis and the colour. Of two objectives an accuracy is vertical."""
    names = list(sweep.objectives)
    lead = accuracy_first({name: sweep.objectives[name] for name in names[:2]})
    across = next((name for name in names[:2] if name != lead), None)
    return lead, across, names[2] if len(names) > 2 else None


def _visible(values: Sequence[float], axis: Quantity, more_is_better: bool) -> tuple[float, float]:
    """The visible range: without values worse than the quartiles by three times the interquartile range (Tukey 1977)."""
    first, third = np.percentile(values, (25, 75)).tolist() if values else (0.0, 0.0)
    fence = 3 * (third - first)
    if axis.logarithmic or len(values) < _FEW or fence == 0:
        return -math.inf, math.inf
    low, high = (first - fence, math.inf) if more_is_better else (-math.inf, third + fence)
    visible = [value for value in values if low <= value <= high]
    margin = 0.09 * (max(visible) - min(visible))
    return min(visible) - margin, max(visible) + margin


def _category(sweep: Sweep) -> str:
    """The axis whose values have colours: quant, or else the first axis with few values; "" for none."""
    varied = [key for key in sweep.keys if key != SEED and 2 <= len(sweep.values(key)) <= _MAX_GROUPS]
    choices = [key for key in varied if "." not in key]
    return "quant" if "quant" in choices else next(iter([*choices, *varied]), "")


def _words(sweep: Sweep, ranking: Ranking) -> Callable[[Candidate], str]:
    """The label of a candidate of the front: the values in which the front differs, as many as fit."""
    front = ranking.on_front()
    values = {key: {candidate.overrides.get(key) for candidate in front} for key in sweep.keys if key != SEED}
    differing = [key for key, texts in values.items() if len(texts) > 1][:3]

    def words(candidate: Candidate) -> str:
        label = ""
        for word in (_word(key, candidate.overrides[key]) for key in differing if key in candidate.overrides):
            longer = f"{label}, {word}" if label else word
            label = longer if len(longer) <= _MAX_LABEL_LENGTH else label
        return label

    return lambda candidate: f"#{candidate.number} {words(candidate)}".rstrip()


def _word(key: str, text: str) -> str:
    """An override in short: `qat`, `bits 4`, `teacher resnet20`."""
    text = brief(text)
    text = _cut(text, _MAX_OVERRIDE_LENGTH)
    return _cut(f"{key.rpartition('.')[2]} {text}" if "." in key else text, _MAX_LABEL_LENGTH)


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def _hover(candidate: Candidate) -> Iterator[str]:
    yield f"trial {', '.join(str(trial.number) for trial in candidate.trials)}"
    yield from (f"{key}={text}" for key, text in candidate.overrides.items())
    for metric in seen_in(Prominence.HOVER):
        if absent(metric, candidate.mean[metric]):
            continue
        shown = METRICS[metric]
        yield f"{shown.title}: {shown.text(candidate.mean[metric], candidate.deviation[metric])}"


def _baseline_marks(sweep: Sweep, role: str, across: str | None, lead: str) -> tuple[Mark, ...]:
    """A role's baselines in the plane; none where a baseline lacks one of the plane's metrics."""
    groups = baselines(sweep, role)
    if across is None or not all({across, lead} <= baseline.metrics.keys() for group in groups for baseline in group):
        return ()
    x, y = METRICS[across], METRICS[lead]
    marks = []
    for group in (group for group in groups if math.isfinite(average(group, lead) + average(group, across))):
        xs, ys = ([getattr(baseline, name) * axis.factor for baseline in group] for name, axis in ((across, x), (lead, y)))
        values = tuple(f"{METRICS[name].title}: {METRICS[name].text(average(group, name))}" for name in group[0].metrics)
        spread = (0.0, float(np.std(ys, ddof=1)) if len(ys) > 1 else 0.0)
        marks.append(Mark(float(np.mean(xs)), float(np.mean(ys)), spread, hover=(BASELINE_NAMES[role], *values)))
    return tuple(marks)


def _unseen(sweep: Sweep, unknown: int) -> Iterator[str]:
    """Yields notes on trials and objectives that are not drawn."""
    outcomes = Counter(trial.outcome for trial in sweep.trials if not trial.complete)
    yield from (f"{outcomes[outcome]} {word}" for outcome, word in OUTCOMES.items() if outcomes[outcome])
    if unknown:
        yield f"{unknown} without a result"
    yield from (f"{name} (the fourth objective) not drawn" for name in list(sweep.objectives)[3:])


def knee(ranking: Ranking) -> int | None:
    """The row of the knee; None for a front of fewer than three distinct points."""
    return ranking.knee if len({tuple(ranking.points[row]) for row in ranking.front}) > 2 else None


def _bound(sweep: Sweep, metric: str) -> str:
    """A constraint as the user wrote it, with its value in the units of the plot if they differ."""
    shown, text = METRICS[metric], f"{metric} {sweep.constraints[metric]}"
    bounds = [bound for bound in sweep.limits[metric] if math.isfinite(bound)]
    return f"{text} ({shown.text(bounds[0])})" if bounds and shown.factor != 1 else text


def _bars(ranking: Ranking) -> str:
    """The meaning of the error bars."""
    repeats = sorted({len(candidate.trials) for candidate in ranking.candidates if len(candidate.trials) > 1})
    if not repeats:
        return ""
    seeds = f"{repeats[0]}" if len(repeats) == 1 else f"{repeats[0]} to {repeats[-1]}"
    return f"bars show ± a sample standard deviation over {seeds} seeds"
