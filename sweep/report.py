"""The tables, plots and report of a sweep, rebuilt from its records alone: equal records give equal bytes.

    python -m sweep.report NAME [--output mlruns]

writes to the sweep's folder: `trials.csv`, one row a trial; `pareto.csv`, one row a candidate of the front, the best accuracy
first (a candidate repeated under several seeds has its first trial's number, and the mean of each metric); `pareto.png`,
`pareto.html` and `report.md`. A sweep without a result has `trials.csv` and `report.md` only.
"""

from __future__ import annotations

import csv
import html
import io
import itertools
import json
import math
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from sweep import pareto, sweeps
from sweep.records import ConfigError
from sweep.sweeps import BASELINES, METRICS, SEED, TECHNIQUES, Baseline, Candidate, Ranking, Sweep, Trial

_RESAMPLES = 10_000
_MOST_SIGNS = 12
"""Up to so many pairs the permutation test is exact: every assignment of signs."""
_MOST_VALUES = 8
"""An axis with more values than that is reported by quarters of its trials."""
_MOST_LABELS = 8
_STATES = {"COMPLETE": "complete", "FAIL": "failed", "PRUNED": "pruned", "RUNNING": "unfinished", "WAITING": "waiting"}
"""Optuna's words for people."""
_SHOWN = ("val_accuracy", "test_accuracy", "size_bytes", "efficiency", "compression", "sparsity", "weight_bits", "latency_ms")
"""The metrics of the front's table, beside the objectives."""


@dataclass(frozen=True)
class Report:
    """What was written, and what it says in short.

    Attributes:
        front: numbers of the trials on the front, the best first; of repeats the first one's.
        knee: the number of its best compromise; None without a front.
        trials: how many trials there are by state.
        paths: the files.
    """

    front: tuple[int, ...]
    knee: int | None
    trials: Mapping[str, int]
    paths: tuple[Path, ...]


def write(folder: Path) -> Report:
    """Write the report of the sweep in `folder`, each file aside and renamed.

    Raises:
        ConfigError: for a folder that is no sweep's, or a damaged record.
        OSError: where the folder cannot be written.
    """
    sweep = sweeps.read(folder)
    ranking = sweeps.rank(sweep)
    files = {"trials.csv": _trials_csv(sweep, ranking).encode(), "report.md": _Text(sweep, ranking).markdown().encode()}
    if ranking.known.any():
        picture = _picture(sweep, ranking)
        files |= {
            "pareto.csv": _pareto_csv(sweep, ranking).encode(),
            "pareto.png": _png(picture),
            "pareto.html": _html(picture).encode(),
        }
    paths = []
    for name, content in files.items():
        aside = folder / f".{name}.aside"
        aside.write_bytes(content)
        paths.append(aside.replace(folder / name))
    return Report(
        front=tuple(candidate.number for candidate in ranking.on_front()),
        knee=None if ranking.knee is None else ranking.candidates[ranking.knee].number,
        trials=dict(Counter(trial.state for trial in sweep.trials)),
        paths=tuple(paths),
    )


# Quantities: how a metric is shown to people.


@dataclass(frozen=True)
class _Quantity:
    """A metric as people see it: `factor` times its value, in `unit`."""

    title: str
    unit: str = ""
    factor: float = 1.0
    logarithmic: bool = False
    decimals: int | None = None

    @property
    def label(self) -> str:
        return f"{self.title} ({self.unit})" if self.unit else self.title

    def text(self, value: float, deviation: float = math.nan) -> str:
        """A value, and its standard deviation where one is known, with so many decimals, or else at least three digits."""
        shown = value * self.factor
        if not math.isfinite(shown):
            return "–"
        places = self.decimals
        if places is None:
            places = min(max(2 - math.floor(math.log10(abs(shown))), 0), 9) if shown else 0
        spread = f" ± {deviation * self.factor:,.{places}f}" if deviation > 0 else ""
        return f"{shown:,.{places}f}{spread} {self.unit}".rstrip()


_QUANTITIES = {
    "val_accuracy": _Quantity("Validation accuracy", "%", 100, decimals=2),
    "test_accuracy": _Quantity("Test accuracy", "%", 100, decimals=2),
    "float_accuracy": _Quantity("Accuracy before conversion", "%", 100, decimals=2),
    "conversion_gap": _Quantity("Conversion gap", "%", 100, decimals=2),
    "size_bytes": _Quantity("Size of the file", "KiB", 1 / 1024, logarithmic=True),
    "gzip_bytes": _Quantity("Size of the file, deflated", "KiB", 1 / 1024, logarithmic=True),
    "efficiency": _Quantity("Efficiency", "%/KiB"),
    "compression": _Quantity("Compression", "×", logarithmic=True, decimals=1),
    "parameters": _Quantity("Parameters", "thousands", 1e-3, logarithmic=True),
    "nonzero_parameters": _Quantity("Parameters that are not zero", "thousands", 1e-3, logarithmic=True),
    "sparsity": _Quantity("Sparsity", "%", 100, decimals=1),
    "macs": _Quantity("Multiply-accumulates", "millions", 1e-6, logarithmic=True),
    "weight_bits": _Quantity("Bits per weight", decimals=2),
    "latency_ms": _Quantity("Latency", "ms", logarithmic=True),
    "train_seconds": _Quantity("Training time", "s"),
}


def _quantity(metric: str) -> _Quantity:
    return _QUANTITIES.get(metric, _Quantity(metric))


# Tables.


def _trials_csv(sweep: Sweep, ranking: Ranking) -> str:
    of = {trial.number: candidate for candidate in ranking.candidates for trial in candidate.trials}
    rows = ([*_cells(sweep, trial), *_spread(sweep, ranking, of.get(trial.number))] for trial in sweep.trials)
    return _csv(_columns(sweep, ranking), rows)


def _pareto_csv(sweep: Sweep, ranking: Ranking) -> str:
    rows = []
    for candidate in ranking.on_front():
        first = candidate.trials[0]
        cells = dict(zip(_columns(sweep, ranking), _cells(sweep, first), strict=False))
        if len(candidate.trials) > 1:
            cells |= {key: candidate.overrides.get(key, "") for key in sweep.keys}
            cells |= {name: _mean(candidate, name) for name in METRICS}
            cells["seconds"] = sum(trial.seconds or 0.0 for trial in candidate.trials)
        rows.append([*cells.values(), *_spread(sweep, ranking, candidate)])
    return _csv(_columns(sweep, ranking), rows)


def _columns(sweep: Sweep, ranking: Ranking) -> list[str]:
    spread = [f"{name}_{kind}" for name in sweep.objectives for kind in ("mean", "std")]
    return ["number", "state", *sweep.keys, *METRICS, "seconds", "error", *(["repeats", *spread] if ranking.repeated else [])]


def _cells(sweep: Sweep, trial: Trial) -> list[object]:
    """A trial's row, but for the columns on its repeats."""
    swept = (trial.overrides.get(key) for key in sweep.keys)
    return [trial.number, trial.state, *swept, *map(trial.metrics.get, METRICS), trial.seconds, trial.error]


def _spread(sweep: Sweep, ranking: Ranking, candidate: Candidate | None) -> list[object]:
    """The columns on repeats, where there are any."""
    if not ranking.repeated:
        return []
    if candidate is None:
        return [None] * (1 + 2 * len(sweep.objectives))
    deviations = (value if math.isfinite(value := candidate.deviation[name]) else None for name in sweep.objectives)
    means = (_mean(candidate, name) for name in sweep.objectives)
    return [len(candidate.trials), *itertools.chain.from_iterable(zip(means, deviations, strict=True))]


def _mean(candidate: Candidate, name: str) -> float:
    """A metric's mean; an integer where every repeat has the same one."""
    first = candidate.trials[0].metrics[name]
    return first if candidate.mean[name] == first else candidate.mean[name]


def _csv(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """CSV with floats as their shortest text that reads back the same, and empty cells for None."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return out.getvalue()


# The picture: what both plots show.


@dataclass(frozen=True, eq=False)
class _Mark:
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
class _Picture:
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
    x: _Quantity
    y: _Quantity
    shade: _Quantity | None
    better: tuple[bool | None, bool]
    category: str
    groups: tuple[str, ...]
    others: tuple[_Mark, ...]
    front: tuple[_Mark, ...]
    staircase: tuple[tuple[float, float], ...]
    knee: _Mark | None
    infeasible: tuple[_Mark, ...]
    baselines: Mapping[str, tuple[_Mark, ...]]
    bounds: tuple[tuple[str, float, str], ...]
    visible: tuple[float, float]
    unseen: tuple[str, ...]

    @property
    def line(self) -> str:
        """What the staircase is."""
        return "best so far" if self.better[0] is None else "front"

    @property
    def marks(self) -> tuple[_Mark, ...]:
        """Every point."""
        return (*self.others, *self.front, *self.infeasible, *itertools.chain.from_iterable(self.baselines.values()))

    @property
    def shades(self) -> tuple[float, float]:
        """The range of the third objective."""
        shades = [one.shade for one in (*self.others, *self.front)] or [0.0, 1.0]
        return min(shades), max(shades)

    @property
    def hidden(self) -> tuple[_Mark, ...]:
        """The points outside the visible range."""
        return tuple(one for one in self.marks if not self.shows(one))

    @property
    def notes(self) -> tuple[str, ...]:
        """What is not to be seen, for people."""
        hidden = self.hidden
        which = ", ".join(one.label.partition(" ")[0] for one in hidden) if len(hidden) <= 3 else f"{len(hidden)} candidates"
        return (*self.unseen, *([f"{which} outside the axes"] if hidden else []))

    @property
    def chosen(self) -> list[_Mark]:
        """The front's points to name: all of a few, or else its ends, its knee, and others evenly between them."""
        front = [one for one in self.front if self.shows(one)]
        if len(front) <= _MOST_LABELS:
            return front
        even = np.linspace(0, len(front) - 1, _MOST_LABELS - 1).round().astype(int).tolist()
        return list(dict.fromkeys([*([self.knee] if self.knee in front else []), *(front[place] for place in even)]))

    def shows(self, mark: _Mark) -> bool:
        """Whether a point is in the visible range."""
        return self.visible[0] <= mark.y <= self.visible[1]

    def named(self, group: str) -> str:
        """A group for the legend."""
        return f"{self.category} = {group or '(none)'}" if self.category else "trial"


def _picture(sweep: Sweep, ranking: Ranking) -> _Picture:
    lead, across, third = _plane(sweep)
    x, y = _quantity(across) if across else _Quantity("Trial"), _quantity(lead)
    category, words = _category(sweep), _words(sweep, ranking)

    def mark(candidate: Candidate) -> _Mark:
        mean, deviation = candidate.mean, candidate.deviation
        return _Mark(
            x=mean[across] * x.factor if across else candidate.number,
            y=mean[lead] * y.factor,
            spread=(_known(deviation[across]) * x.factor if across else 0.0, _known(deviation[lead]) * y.factor),
            group=candidate.overrides.get(category, ""),
            shade=mean[third] * _quantity(third).factor if third else math.nan,
            label=words(candidate),
            hover=tuple(_hover(candidate)),
        )

    marks = {row: mark(candidate) for row, candidate in enumerate(ranking.candidates) if ranking.known[row]}
    feasible = {row: one for row, one in marks.items() if ranking.candidates[row].feasible}
    front = tuple(marks[row] for row in ranking.front)
    better = (sweep.objectives[across] == "maximize" if across else None), sweep.objectives[lead] == "maximize"
    baselines = {_BASELINE_NAMES[role]: found for role in BASELINES if (found := _baseline_marks(sweep, role, across, lead))}
    if across:
        stairs = _staircase([(one.x, one.y) for one in front], ascending=better[0] is False)
    else:
        stairs = _running([(one.x, one.y) for one in feasible.values()], better[1])
    told = [sweep.name + ": " + _count(len(sweep.complete), "complete trial")]
    told += [_count(len(ranking.candidates), "candidate")] if ranking.repeated else []
    told += [f"{len(front)} on the front"] if across else []
    return _Picture(
        title=", ".join(told),
        x=x,
        y=y,
        shade=_quantity(third) if third else None,
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
            (axis, bound * quantity.factor, f"{metric} {sweep.constraints[metric]}")
            for axis, metric, quantity in (("x", across or "", x), ("y", lead, y))
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


def _visible(values: Sequence[float], quantity: _Quantity, more_is_better: bool) -> tuple[float, float]:
    """The range to show: all but what is worse than the quartiles by three times their distance (Tukey 1977)."""
    first, third = np.percentile(values, (25, 75)).tolist() if values else (0.0, 0.0)
    fence = 3 * (third - first)
    if quantity.logarithmic or len(values) < 8 or fence == 0:
        return -math.inf, math.inf
    low, high = (first - fence, math.inf) if more_is_better else (-math.inf, third + fence)
    kept = [value for value in values if low <= value <= high]
    margin = 0.09 * (max(kept) - min(kept))
    return min(kept) - margin, max(kept) + margin


def _category(sweep: Sweep) -> str:
    """The axis whose values are told apart by colour: quant, or else the first choice out of a few; "" for none."""
    varied = [key for key in sweep.keys if key != SEED and 2 <= len(sweep.values(key)) <= len(_COLOURS)]
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
    text = _brief(text)
    text = text if len(text) <= 20 else f"{text[:19]}…"
    return f"{key.rpartition('.')[2]} {text}" if "." in key else text


def _brief(text: str) -> str:
    """An override's text; a long number rounded to three digits."""
    value = sweeps.number(text)
    return text if math.isnan(value) or len(text) <= 6 else f"{value:.3g}"


def _hover(candidate: Candidate) -> Iterator[str]:
    yield f"trial {', '.join(str(trial.number) for trial in candidate.trials)}"
    yield from (f"{key}={text}" for key, text in candidate.overrides.items())
    for metric in (*_SHOWN, "gzip_bytes", "macs"):
        quantity = _quantity(metric)
        yield f"{quantity.title}: {quantity.text(candidate.mean[metric], candidate.deviation[metric])}"


def _known(value: float) -> float:
    return value if math.isfinite(value) else 0.0


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


_BASELINE_NAMES = {"start": "start network, float32", "student": "uncompressed student"}


def _baselines(sweep: Sweep, role: str) -> list[list[Baseline]]:
    """The different baselines in a role: files of one size, which differ in accuracy only, stay together."""
    found = dict.fromkeys(baseline for trial in sweep.complete for baseline in trial.baselines if baseline.role == role)
    if role == "student":
        beginnings = (one for trial in sweep.complete for one in trial.baselines if one.role == "start")
        starts = {(one.size_bytes, one.val_accuracy) for one in beginnings}
        found = {one: None for one in found if (one.size_bytes, one.val_accuracy) not in starts}
    ordered = sorted(found, key=lambda one: (one.size_bytes, one.name, one.val_accuracy, one.test_accuracy))
    return [list(group) for _, group in itertools.groupby(ordered, key=lambda one: (one.size_bytes, one.name))]


def _baseline_marks(sweep: Sweep, role: str, across: str | None, lead: str) -> tuple[_Mark, ...]:
    """A role's baselines in the plane; none where a baseline lacks one of the plane's metrics."""
    measured = ("val_accuracy", "test_accuracy", "size_bytes", "efficiency", "compression")
    if across not in measured or lead not in measured:
        return ()
    x, y = _quantity(across), _quantity(lead)
    marks = []
    for group in (group for group in _baselines(sweep, role) if math.isfinite(_average(group, lead) + _average(group, across))):
        xs, ys = ([getattr(one, name) * quantity.factor for one in group] for name, quantity in ((across, x), (lead, y)))
        told = tuple(f"{_quantity(name).title}: {_quantity(name).text(_average(group, name))}" for name in measured)
        spread = (0.0, float(np.std(ys, ddof=1)) if len(ys) > 1 else 0.0)
        marks.append(_Mark(float(np.mean(xs)), float(np.mean(ys)), spread, hover=(_BASELINE_NAMES[role], *told)))
    return tuple(marks)


def _average(group: Sequence[Baseline], name: str) -> float:
    return float(np.mean([getattr(one, name) for one in group]))


def _unseen(sweep: Sweep, unknown: int) -> Iterator[str]:
    """What no plot can show."""
    states = Counter(trial.state for trial in sweep.trials if not trial.complete)
    yield from (f"{states[state]} {word}" for state, word in _STATES.items() if states[state])
    if unknown:
        yield f"{unknown} without a result"


# The plots.

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#6B4C9A", "#8C8C00")
"""Told apart with any colour vision (Okabe and Ito 2008), without the yellow, which is too light for points."""
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "h")
_SYMBOLS = ("circle", "square", "triangle-up", "diamond", "triangle-down", "cross", "x", "hexagon")
_INK, _GREY, _KNEE, _GRID = "#222222", "#8A8A8A", "#C2185B", "#E6E6E6"
_STYLE = {
    "font.size": 9.5,
    "axes.edgecolor": "#666666",
    "axes.labelcolor": _INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": _GRID,
    "grid.linewidth": 0.7,
    "legend.frameon": False,
    "text.parse_math": False,
}


def _png(picture: _Picture) -> bytes:
    """The plot for print."""
    import matplotlib.style
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    out = io.BytesIO()
    with matplotlib.style.context(["default", _STYLE]):
        figure = Figure(figsize=(9.6, 5.6), dpi=160, layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot(xlabel=picture.x.label, ylabel=picture.y.label)
        axes.set_title(picture.title, loc="left", fontsize=11.5, color=_INK, pad=10)
        _scale(axes, picture)
        _draw_candidates(axes, picture)
        _draw_surroundings(axes, picture)
        figure.legend(
            *axes.get_legend_handles_labels(), loc="outside right upper", fontsize=9, alignment="left", labelspacing=0.75
        )
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
        _label(axes, picture)
        figure.savefig(out, format="png", metadata={"Software": None})
    return out.getvalue()


def _scale(axes: Any, picture: _Picture) -> None:
    """Fix both axes, with room for labels on the side that nothing can reach."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    shown = [one for one in picture.marks if picture.shows(one)]
    room = (0.06, 0.06) if picture.better[0] is None else (0.06, 0.16) if picture.better[0] else (0.16, 0.06)
    for axis, quantity, reach, pads in (
        (axes.xaxis, picture.x, [(one.x, one.spread[0]) for one in shown], room),
        (axes.yaxis, picture.y, [(one.y, one.spread[1]) for one in shown], (0.07, 0.09)),
    ):
        low = min(value if quantity.logarithmic and width >= value else value - width for value, width in reach)
        high = max(value + width for value, width in reach)
        if quantity.logarithmic and low > 0:
            extent = max(math.log2(high / low), 0.5)
            axis.axes.set(**{f"{axis.axis_name}scale": "log"})
            axis.axes.set(**{f"{axis.axis_name}lim": (low / 2 ** (pads[0] * extent), high * 2 ** (pads[1] * extent))})
            axis.set_major_locator(FixedLocator(_round_ticks(low, high)))
            axis.set_minor_locator(NullLocator())
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.6g}"))
        else:
            extent = high - low or max(abs(high) * 0.02, 1e-9)
            axis.axes.set(**{f"{axis.axis_name}lim": (low - pads[0] * extent, high + pads[1] * extent)})
            axis.get_major_locator().set_params(integer=picture.better[0] is None and axis is axes.xaxis)


def _round_ticks(low: float, high: float) -> list[float]:
    """Where a logarithmic axis has its numbers: powers of two, or multiples of 1, 2 or 5 where it spans few of them."""
    first, last = math.floor(math.log2(low)), math.ceil(math.log2(high))
    step = max(1, round((last - first) / 9))
    ticks = [2.0**power for power in range(first - step, last + step + 1, step)]
    if sum(low <= tick <= high for tick in ticks) >= 3:
        return ticks
    unit = 10.0 ** math.floor(math.log10(high - low)) if high > low else high
    unit *= next(factor for factor in (0.2, 0.5, 1.0, 2.0) if (high - low) / (unit * factor) <= 7)
    return [unit * place for place in range(max(1, math.floor(low / unit) - 1), math.ceil(high / unit) + 2)]


def _draw_candidates(axes: Any, picture: _Picture) -> None:
    """The front's line, and every feasible candidate: light, or with an outline on the front."""
    if len(picture.staircase) > 1:
        axes.plot(*zip(*picture.staircase, strict=True), color=_INK, linewidth=1.3, zorder=2, label=picture.line)
    for place, group in enumerate(picture.groups):
        colour, marker = _COLOURS[place % len(_COLOURS)], _MARKERS[place % len(_MARKERS)]
        for marks, look, bars in (
            (picture.others, {"s": 30, "alpha": 0.45, "edgecolors": "none", "zorder": 3}, (colour, 0.4)),
            (picture.front, {"s": 58, "edgecolors": _INK, "linewidths": 0.9, "zorder": 4}, (_INK, 0.9)),
        ):
            if own := [one for one in marks if one.group == group and picture.shows(one)]:
                low, high = picture.shades
                shaded = {"c": [one.shade for one in own], "cmap": "viridis", "vmin": low, "vmax": high}
                paint = shaded if picture.shade else {"color": colour}
                axes.scatter([one.x for one in own], [one.y for one in own], marker=marker, **paint, **look)
                _bars(axes, own, *bars)
        if picture.category:
            axes.scatter([], [], s=46, marker=marker, color=_GREY if picture.shade else colour, label=picture.named(group))
    if picture.shade:
        from matplotlib.cm import ScalarMappable
        from matplotlib.colors import Normalize

        scale = ScalarMappable(Normalize(*picture.shades), "viridis")
        axes.figure.colorbar(scale, ax=axes, label=picture.shade.label, pad=0.02, aspect=30)


def _draw_surroundings(axes: Any, picture: _Picture) -> None:
    """The knee, baselines, constraints, what breaks them, and what is not to be seen."""
    if picture.knee:
        ring = {"s": 190, "facecolors": "none", "edgecolors": _KNEE, "linewidths": 1.6, "zorder": 5}
        axes.scatter(picture.knee.x, picture.knee.y, label="knee", **ring)
    for (name, marks), marker, size in zip(picture.baselines.items(), ("*", "p"), (130, 62), strict=False):
        look = {"s": size, "marker": marker, "color": _INK, "zorder": 5, "label": name}
        axes.scatter([one.x for one in marks], [one.y for one in marks], **look)
        _bars(axes, marks, _INK, 0.7)
    if marks := tuple(one for one in picture.infeasible if picture.shows(one)):
        xs, ys = [one.x for one in marks], [one.y for one in marks]
        axes.scatter(xs, ys, s=26, marker="x", color=_GREY, linewidths=1, label="breaks a constraint")
    for axis, value, text in picture.bounds:
        line, dashes = (axes.axvline, (4, 3)) if axis == "x" else (axes.axhline, (1, 2))
        low, high = axes.get_xlim() if axis == "x" else axes.get_ylim()
        if low < value < high:
            line(value, color=_GREY, linewidth=1, linestyle=(0, dashes), zorder=1, label=text)
    for note in picture.notes:
        axes.plot([], [], linestyle="none", label=note)


def _bars(axes: Any, marks: Sequence[_Mark], colour: str, alpha: float) -> None:
    """Error bars of a standard deviation, where one is known."""
    if own := [one for one in marks if any(one.spread)]:
        xs, ys, widths, heights = zip(*((one.x, one.y, *one.spread) for one in own), strict=True)
        look = {"fmt": "none", "ecolor": colour, "alpha": alpha, "elinewidth": 1, "capsize": 2.5, "zorder": 2}
        axes.errorbar(xs, ys, heights, widths if any(widths) else None, **look)


_Box = tuple[float, float, float, float]
"""Left, bottom, right, top."""


def _label(axes: Any, picture: _Picture) -> None:
    """Name up to eight points of the front, each where it covers least, first on the side that nothing can reach."""
    renderer, scale, frame = axes.figure.canvas.get_renderer(), axes.figure.dpi / 72, axes.bbox
    place, unplace = axes.transData.transform, axes.transData.inverted().transform
    taken = list(_obstacles(picture, lambda x, y: place((x, y)).tolist(), scale))
    side, up = (1 if picture.better[0] else -1), (1 if picture.better[1] else -1)
    turns = ((side, up), (0, up), (side, 0), (-side, up), (-side, 0), (side, -up), (0, -up), (-side, -up))
    points = {one: place((one.x, one.y)).tolist() for one in picture.marks if picture.shows(one)}
    labels: list[_Box] = []
    for one in picture.chosen:
        x, y = points[one]
        text = axes.text(0, 0, one.label, fontsize=8, color=_INK, zorder=6)
        extent = text.get_window_extent(renderer)
        options: list[tuple[float, bool, _Box]] = []
        for distance, (across, along) in itertools.product((8, 16, 28, 42, 60, 80), turns):
            reach = distance * scale * (0.75 if across and along else 1)
            left = x + across * (reach + extent.width / 2) - extent.width / 2
            bottom = y + along * (reach + extent.height / 2) - extent.height / 2
            box = (left, bottom, left + extent.width, bottom + extent.height)
            inside = left >= frame.x0 and box[2] <= frame.x1 and bottom >= frame.y0 and box[3] <= frame.y1
            if inside and not any(_overlap(box, other, 2 * scale) for other in labels):
                covered = sum(_overlap(box, other, scale) for other in taken)
                unclear = any(_gap(box, *points[other]) < 1.5 * _gap(box, x, y) for other in points if other is not one)
                options.append((30 * covered + 15 * unclear + distance / 4, unclear or distance > 8, box))
        if not options:
            text.remove()
            continue
        _, leader, box = min(options, key=lambda option: option[0])
        labels.append(box)
        text.set_position(unplace(box[:2]))
        text.set_verticalalignment("bottom")
        if leader:
            near = (min(max(x, box[0]), box[2]), min(max(y, box[1]), box[3]))
            axes.plot(*zip((one.x, one.y), unplace(near), strict=True), color=_GREY, linewidth=0.6, zorder=2)


def _obstacles(picture: _Picture, place: Callable[[float, float], list[float]], scale: float) -> Iterator[_Box]:
    """What labels should not cover, in pixels: points with their error bars, the knee's ring, and the front's line."""
    for one in filter(picture.shows, picture.marks):
        (left, bottom), (right, top) = (place(one.x + sign * one.spread[0], one.y + sign * one.spread[1]) for sign in (-1, 1))
        half = (9 if one is picture.knee else 5) * scale
        yield left - half, bottom - half, right + half, top + half
    for (x, y), (to_x, to_y) in itertools.pairwise(place(*corner) for corner in picture.staircase):
        yield min(x, to_x) - scale, min(y, to_y) - scale, max(x, to_x) + scale, max(y, to_y) + scale


def _overlap(one: _Box, other: _Box, margin: float) -> bool:
    """Whether two boxes come closer than a margin."""
    beside = one[0] - margin >= other[2] or one[2] + margin <= other[0]
    return not beside and one[1] - margin < other[3] and one[3] + margin > other[1]


def _gap(box: _Box, x: float, y: float) -> float:
    """How far a point is from a box."""
    return math.hypot(max(box[0] - x, 0.0, x - box[2]), max(box[1] - y, 0.0, y - box[3]))


def _html(picture: _Picture) -> str:
    """The plot for the browser: one page that fetches nothing."""
    from plotly import offline

    layout = {
        "font": {"family": "system-ui, sans-serif", "size": 13, "color": _INK},
        "paper_bgcolor": "white",
        "plot_bgcolor": "white",
        "hovermode": "closest",
        "hoverlabel": {"bgcolor": "white", "bordercolor": _GREY, "align": "left", "font": {"size": 12, "color": _INK}},
        "margin": {"l": 70, "r": 30, "t": 36, "b": 60},
        "legend": {"itemsizing": "constant", "x": 1.16 if picture.shade else 1.02},
        "xaxis": _plotly_axis(picture.x, [one.x for one in picture.marks]),
        "yaxis": _plotly_axis(picture.y, [one.y for one in picture.marks])
        | ({"range": list(picture.visible)} if picture.hidden else {}),
        "shapes": [_plotly_bound(axis, value) for axis, value, _ in picture.bounds],
    }
    if picture.shade:
        bar = {"title": {"text": picture.shade.label, "side": "right"}, "thickness": 16}
        layout["coloraxis"] = {"colorscale": "Viridis", "cmin": picture.shades[0], "cmax": picture.shades[1], "colorbar": bar}
    buttons = ["zoom2d", "pan2d", "zoomIn2d", "zoomOut2d", "autoScale2d", "resetScale2d", "toImage"]
    settings = {"responsive": True, "displaylogo": False, "modeBarButtons": [buttons], "displayModeBar": True}
    told = ["Point at a trial for its overrides and metrics; click the legend to hide a group."]
    told += [f"Dashed: {', '.join(text for _, _, text in picture.bounds)}."] if picture.bounds else []
    told += [f"Not to be seen: {', '.join(picture.notes)}."] if picture.notes else []
    arguments = ", ".join(_script_json(value) for value in (list(_traces(picture)), layout, settings))
    return f"""\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{html.escape(picture.title)}</title>
<style>
html, body {{ height: 100%; margin: 0; }}
body {{ display: flex; flex-direction: column; color: {_INK}; font: 14px/1.4 system-ui, sans-serif; }}
h1 {{ font-size: 18px; font-weight: 600; margin: 18px 24px 4px; }}
p {{ margin: 0 24px; color: #666666; }}
#pareto {{ flex: 1; min-height: 360px; }}
</style>
</head>
<body>
<h1>{html.escape(picture.title)}</h1>
<p>{html.escape(" ".join(told))}</p>
<div id="pareto"></div>
<script>{offline.get_plotlyjs()}</script>
<script>Plotly.newPlot("pareto", {arguments});</script>
</body>
</html>
"""


def _traces(picture: _Picture) -> Iterator[dict[str, Any]]:
    """What the page draws, in order."""
    if len(picture.staircase) > 1:
        xs, ys = (list(values) for values in zip(*picture.staircase, strict=True))
        line = {"color": _INK, "width": 1.5}
        yield {"type": "scatter", "mode": "lines", "name": picture.line, "x": xs, "y": ys, "hoverinfo": "skip", "line": line}
    for place, group in enumerate(picture.groups):
        told = False
        for marks, look in (
            (picture.others, {"size": 8, "opacity": 0.45}),
            (picture.front, {"size": 11, "line": {"color": _INK, "width": 1.2}}),
        ):
            if own := [one for one in marks if one.group == group]:
                shaded = {"color": [one.shade for one in own], "coloraxis": "coloraxis"}
                paint = shaded if picture.shade else {"color": _COLOURS[place % len(_COLOURS)]}
                style = {"symbol": _SYMBOLS[place % len(_SYMBOLS)], **paint, **look}
                yield _trace(own, picture.named(group), style) | {"legendgroup": str(place), "showlegend": not told}
                told = True
    if picture.knee:
        ring = {"symbol": "circle-open", "size": 20, "color": _KNEE, "line": {"width": 2}}
        yield _trace([picture.knee], "knee", ring) | {"hoverinfo": "skip", "hovertemplate": None}
    for (name, marks), symbol in zip(picture.baselines.items(), ("star", "pentagon"), strict=False):
        yield _trace(marks, name, {"symbol": symbol, "size": 13, "color": _INK})
    if picture.infeasible:
        cross = {"symbol": "x-thin", "size": 8, "line": {"color": _GREY, "width": 1.5}}
        yield _trace(picture.infeasible, "breaks a constraint", cross)


def _trace(marks: Sequence[_Mark], name: str, style: Mapping[str, Any]) -> dict[str, Any]:
    """Points with what pointing at them shows."""
    look = {"type": "data", "thickness": 1, "width": 3, "color": _GREY}
    bars = {
        f"error_{axis}": {**look, "array": [one.spread[place] for one in marks]}
        for place, axis in enumerate("xy")
        if any(one.spread[place] for one in marks)
    }
    return {
        "type": "scatter",
        "mode": "markers",
        "name": html.escape(name),
        "x": [one.x for one in marks],
        "y": [one.y for one in marks],
        "text": ["<br>".join([f"<b>{html.escape(one.hover[0])}</b>", *map(html.escape, one.hover[1:])]) for one in marks],
        "hovertemplate": "%{text}<extra></extra>",
        "marker": dict(style),
        **bars,
    }


def _plotly_axis(quantity: _Quantity, values: Sequence[float]) -> dict[str, Any]:
    axis: dict[str, Any] = {"title": {"text": quantity.label}, "gridcolor": _GRID, "linecolor": "#666666"}
    axis |= {"zeroline": False, "ticks": "outside"}
    if not quantity.logarithmic or min(values) <= 0:
        return axis
    ticks = _round_ticks(min(values), max(values))
    return axis | {"type": "log", "tickvals": ticks, "ticktext": [f"{tick:,.6g}" for tick in ticks]}


def _plotly_bound(axis: str, value: float) -> dict[str, Any]:
    other = "y" if axis == "x" else "x"
    ends = {f"{axis}0": value, f"{axis}1": value, f"{axis}ref": axis, f"{other}0": 0, f"{other}1": 1, f"{other}ref": "paper"}
    return {"type": "line", "line": {"color": _GREY, "width": 1, "dash": "dash"}, **ends}


def _script_json(value: object) -> str:
    """JSON that cannot end the script it stands in."""
    return json.dumps(value).replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


# The text.


@dataclass(frozen=True, eq=False)
class _Text:
    """The report as Markdown."""

    sweep: Sweep
    ranking: Ranking

    def markdown(self) -> str:
        """All sections that have something to say."""
        parts = [self._head(), *self._run()]
        if self.ranking.known.any():
            parts += [*self._front(), *self._budgets(), *self._axes(), *_Techniques(self.sweep, self.ranking).section()]
        return "\n\n".join([*parts, *self._cost(), *self._failures()]) + "\n"

    def _head(self) -> str:
        states = Counter(trial.state for trial in self.sweep.trials)
        counts = ", ".join(f"{states[state]} {word}" for state, word in _STATES.items() if states[state])
        told = [f"{_count(len(self.sweep.trials), 'trial')}{counts and ': '}{counts}."]
        if self.sweep.ended is None:
            told.append("The sweep has not ended; the same command goes on with it.")
        if not self.sweep.complete:
            told.append("No trial is complete, so there is no front.")
        elif not self.ranking.front:
            told.append("No trial keeps the constraints, so there is no front.")
        plot = "\n\n![The front](pareto.png)\n\nThe same to point at: [pareto.html](pareto.html)."
        return f"# Sweep {self.sweep.name}\n\n{' '.join(told)}{plot if self.ranking.known.any() else ''}"

    def _run(self) -> Iterator[str]:
        sweep = self.sweep
        how = "exact grid" if sweep.sampler is None else f"{sweep.sampler}, seed {sweep.seed}"
        facts = {
            "objectives": ", ".join(f"{direction} `{metric}`" for metric, direction in sweep.objectives.items()),
            "constraints": ", ".join(f"`{metric} {text}`" for metric, text in sweep.constraints.items()),
            "points chosen by": how + (f", {sweep.n_trials} trials wanted" if sweep.n_trials is not None else ""),
            "started": "" if sweep.started is None else _moment(sweep.started),
            "ended": "" if sweep.ended is None else _moment(sweep.ended),
            "status": sweep.status,
            **{f"axis `{axis}`": f"`{text}`" for axis, text in sweep.axes.items()},
            "held constant": " ".join(f"`{key}={text}`" for key, text in self._fixed().items()),
        }
        rows = ([name, text] for name, text in facts.items() if text)
        yield f"## What was run\n\n    {sweep.command.strip().replace(chr(10), ' ')}\n\n{_table(['', ''], rows)}"

    def _fixed(self) -> Mapping[str, str]:
        return next((trial.fixed for trial in self.sweep.trials if trial.fixed), {})

    def _front(self) -> Iterator[str]:
        keys = [key for key in self.sweep.keys if len(self.sweep.values(key)) > 1]
        shown = tuple(dict.fromkeys([*self.sweep.objectives, *_SHOWN]))
        rows = [
            [
                str(candidate.number),
                *(_brief(candidate.overrides.get(key, "")) for key in keys),
                *(_quantity(name).text(candidate.mean[name], candidate.deviation[name]) for name in shown),
            ]
            for candidate in self.ranking.on_front()
        ]
        for role, group in [(name, found) for name in BASELINES for found in _baselines(self.sweep, name)]:
            cells = (_quantity(name).text(_average(group, name)) if hasattr(group[0], name) else "" for name in shown)
            rows.append([_BASELINE_NAMES[role], *("" for _ in keys), *cells])
        parts = ["## The front", _table(["trial", *keys, *shown], rows)]
        if self.ranking.repeated:
            parts.append("Means over seeds ± sample standard deviation; a candidate has its first trial's number.")
        if self.ranking.knee is not None and len(self.ranking.front) > 2:
            knee = self.ranking.candidates[self.ranking.knee]
            values = ", ".join(f"`{name}` {_quantity(name).text(knee.mean[name])}" for name in self.sweep.objectives)
            why = "Of the front, it bulges furthest from the flat between the ends, sizes by their logarithm."
            parts.append(f"The knee is trial {knee.number}: {values}. {why}")
        yield "\n\n".join([*parts, *self._progress()])

    def _progress(self) -> Iterator[str]:
        """How fast a search found its front."""
        trials = [trial for one in self.ranking.candidates if one.feasible for trial in one.trials]
        trials.sort(key=lambda trial: trial.number)
        if self.sweep.sampler is None or len(trials) < 8:
            return
        columns = {name: [trial.metrics[name] for trial in trials] for name in self.sweep.objectives}
        points = sweeps.seen(columns, self.sweep.objectives)
        share = pareto.running_hypervolume(points, _reference(points))
        reached = ((level, trials[int(np.argmax(share >= level * share[-1]))].number + 1) for level in (0.9, 0.99))
        told = " and ".join(f"{100 * level:.0f} % after {_count(number, 'trial')}" for level, number in reached)
        yield f"Of the hypervolume that the sweep came to, it had {told}."

    def _budgets(self) -> Iterator[str]:
        size = _size(self.sweep)
        candidates = [one for one in self.ranking.candidates if one.feasible]
        shown = ("val_accuracy", "test_accuracy", size)
        rows = []
        for kib in _round_budgets([one.mean[size] for one in candidates]):
            if best := _within(candidates, size, kib):
                values = (_quantity(name).text(best.mean[name], best.deviation[name]) for name in shown)
                overrides = " ".join(f"{key}={_brief(text)}" for key, text in best.overrides.items() if key != SEED)
                rows.append([f"{kib:,} KiB", str(best.number), *values, f"`{overrides or 'the defaults'}`"])
        if rows:
            table = _table(["at most", "trial", *shown, "overrides"], rows)
            yield f"## The best within a budget\n\nOf `{size}`, by validation accuracy.\n\n{table}"

    def _axes(self) -> Iterator[str]:
        objectives = tuple(self.sweep.objectives)
        trials = [trial for trial in self.sweep.complete if all(math.isfinite(trial.metrics[name]) for name in objectives)]
        parts = []
        for key in self.sweep.keys:
            rows = []
            for value, own in _by_value(trials, key):
                spreads = (_mean_and_spread([trial.metrics[name] for trial in own]) for name in objectives)
                cells = (_quantity(name).text(*spread) for name, spread in zip(objectives, spreads, strict=True))
                rows.append([value, str(len(own)), *cells])
            if len(rows) > 1:
                shares = {name: share[key] for name, share in self.sweep.importances.items() if key in share}
                told = ", ".join(f"`{name}` {share:.2f}" for name, share in shares.items())
                importance = f"Optuna's importance for {told}.\n\n" if told else ""
                parts.append(f"### `{key}`\n\n{importance}{_table(['value', 'trials', *objectives], rows)}")
        if parts:
            intro = "Mean ± sample standard deviation over the complete trials with that value, whatever else they have."
            if self.sweep.sampler is not None:
                intro += " A search does not combine values evenly, so these means are no fair comparison."
            yield "\n\n".join([f"## What each axis does\n\n{intro}", *parts])

    def _cost(self) -> Iterator[str]:
        sweep = self.sweep
        spent, saved, reused = (
            sum(_known(trial.metrics[name]) for trial in sweep.complete)
            for name in ("train_seconds", "seconds_saved", "stages_reused")
        )
        rows = [["all trials, summed", _clock(sum(trial.seconds or 0.0 for trial in sweep.trials))]]
        if sweep.started is not None and sweep.ended is not None:
            rows.append(["from start to end", _clock(sweep.ended - sweep.started)])
        rows += [["computing stages", _clock(spent)], [f"saved by reuse of {_count(round(reused), 'stage')}", _clock(saved)]]
        parts = ["## Cost", _table(["", "h:mm:ss"], rows)]
        if spent > 0 and saved > 0:
            parts.append(f"Without reuse, the stages would have taken {(spent + saved) / spent:.1f} times as long.")
        yield "\n\n".join(parts)

    def _failures(self) -> Iterator[str]:
        rows = [
            [str(trial.number), trial.state, f"`{sweeps.shown(trial.overrides)}`" if trial.overrides else "", reason]
            for trial in self.sweep.trials
            if (reason := self._reason(trial))
        ]
        if rows:
            yield f"## Trials without a result\n\n{_table(['trial', 'state', 'overrides', 'reason'], rows)}"

    def _reason(self, trial: Trial) -> str:
        """Why a trial is on no front; empty for one that could be."""
        if trial.complete:
            unknown = [name for name in self.sweep.objectives if not math.isfinite(trial.metrics[name])]
            return f"{', '.join(unknown)}: not a number" if unknown else ""
        if trial.state in ("RUNNING", "WAITING"):
            return "has not finished" if self.sweep.ended is None else "was cut short"
        return trial.error or "no reason was recorded"


@dataclass(frozen=True, eq=False)
class _Techniques:
    """Whether distillation, pruning and quantisation together beat each alone, as far as the sweep can tell."""

    sweep: Sweep
    ranking: Ranking

    def section(self) -> Iterator[str]:
        """The section; nothing for a sweep with one objective, or without a front."""
        subsets = self._subsets()
        if len(self.sweep.objectives) < 2 or not subsets:
            return
        together = max(subsets, key=lambda used: (len(used), len(subsets[used]), _together(used)))
        alone = [frozenset({name}) for name in TECHNIQUES if name in together]
        rivals = [one for one in alone if one in subsets]
        missing = [_together(one) for one in alone if one not in subsets]
        parts = ["## Do the techniques win together?", self._overview(subsets)]
        if len(together) < 2:
            parts.append("It cannot be told from this sweep: no trial uses more than one technique.")
        else:
            parts += [self._comparison(subsets[together], together, {one: subsets[one] for one in rivals})] if rivals else []
            told = f"Whether {_together(together)} beats {' or '.join(missing)} alone cannot be told from this sweep"
            parts += [f"{told}: it has no such trial."] if missing else []
        yield "\n\n".join(parts)

    def _subsets(self) -> dict[frozenset[str], list[Candidate]]:
        """The feasible candidates by the techniques they use, fewer techniques first."""
        found: dict[frozenset[str], list[Candidate]] = {}
        for candidate in self.ranking.candidates:
            if candidate.feasible:
                found.setdefault(candidate.trials[0].techniques(), []).append(candidate)
        return dict(sorted(found.items(), key=lambda item: (len(item[0]), [name not in item[0] for name in TECHNIQUES])))

    @cached_property
    def _size(self) -> str:
        return _size(self.sweep)

    @cached_property
    def _budgets(self) -> list[int]:
        return _round_budgets([one.mean[self._size] for one in self.ranking.candidates if one.feasible])

    @cached_property
    def _frame(self) -> tuple[pareto.Floats, float]:
        """The reference point, and the hypervolume of the whole sweep under it."""
        points = self.ranking.points[[one.feasible for one in self.ranking.candidates]]
        return (reference := _reference(points)), pareto.hypervolume(points, reference)

    def _share(self, candidates: Sequence[Candidate]) -> float:
        """The hypervolume of some candidates, in per cent of the whole sweep's."""
        reference, whole = self._frame
        columns = {name: [one.mean[name] for one in candidates] for name in self.sweep.objectives}
        return 100 * pareto.hypervolume(sweeps.seen(columns, self.sweep.objectives), reference) / whole

    def _overview(self, subsets: Mapping[frozenset[str], Sequence[Candidate]]) -> str:
        accuracy = _quantity("val_accuracy")
        rows = []
        for used, own in subsets.items():
            bests = (_within(own, self._size, kib) for kib in self._budgets)
            cells = (accuracy.text(one.mean["val_accuracy"], one.deviation["val_accuracy"]) if one else "–" for one in bests)
            rows.append([_together(used), str(len(own)), f"{self._share(own):.0f} %", *cells])
        header = ["techniques", "candidates", "hypervolume", *(f"≤ {kib:,} KiB" for kib in self._budgets)]
        return (
            f"{_table(header, rows)}\n\n"
            "Hypervolume: what these candidates dominate, in per cent of what the whole sweep does, sizes by their logarithm."
            f" Budgets: the best validation accuracy within so many KiB of `{self._size}`. More candidates find more by chance."
        )

    def _comparison(
        self, ours: Sequence[Candidate], together: frozenset[str], rivals: Mapping[frozenset[str], Sequence[Candidate]]
    ) -> str:
        rows, repeats = [], 1
        for used, theirs in rivals.items():
            gains, only = self._gains(ours, theirs)
            seeds = [(_under(ours, seed), _under(theirs, seed)) for seed in _common_seeds([*ours, *theirs])]
            repeats = max(repeats, len(seeds))
            volumes = [self._share(our) - self._share(their) for our, their in seeds]
            differences = [_Difference.of(self._share(ours) - self._share(theirs), volumes)]
            if gains:
                pairs = [float(np.mean(self._gains(our, their)[0] or math.nan)) for our, their in seeds]
                differences.append(_Difference.of(float(np.mean(gains)), [pair for pair in pairs if math.isfinite(pair)]))
            won = f"{sum(gain > 0 for gain in gains)} of {len(gains)}"
            told = [one.text() for one in differences] + ([] if gains else ["–"])
            rows.append([f"{_together(used)} alone", _verdict(differences), *told, won, str(only)])
        header = ["against", "verdict", "hypervolume, points", "accuracy at equal budget, points", "budgets won", "met alone"]
        note = "Every point was trained under one seed: chance is not ruled out, and no interval can be given."
        if repeats > 1:
            note = (
                f"Differences of means. In brackets, paired over {repeats} seeds: the 95 % bootstrap interval"
                f" ({_RESAMPLES:,} resamples) and the two-sided p of permuted signs, which {repeats} seeds cannot bring below"
                f" {2.0 ** (1 - repeats):.2g}. The verdict takes a difference whose interval holds 0 for none."
            )
        return f"{_together(together)}, in comparison:\n\n{_table(header, rows)}\n\n{note}"

    def _gains(self, ours: Sequence[Candidate], theirs: Sequence[Candidate]) -> tuple[list[float], int]:
        """Best accuracy of ours less theirs, in points, at each budget that both meet; and how many budgets ours alone meet."""
        pairs = [(_within(ours, self._size, kib), _within(theirs, self._size, kib)) for kib in self._budgets]
        gains = [100 * (our.mean["val_accuracy"] - their.mean["val_accuracy"]) for our, their in pairs if our and their]
        return gains, sum(our is not None and their is None for our, their in pairs)


def _common_seeds(candidates: Sequence[Candidate]) -> list[str]:
    """The seeds that every one of the candidates was tried under."""
    each = [{trial.overrides[SEED] for trial in one.trials if SEED in trial.overrides} for one in candidates]
    return sorted(set.intersection(*each))


def _under(candidates: Sequence[Candidate], seed: str) -> list[Candidate]:
    """The candidates as they came out under one seed."""
    trials = (next(trial for trial in one.trials if trial.overrides[SEED] == seed) for one in candidates)
    return [Candidate((trial,), trial.metrics, dict.fromkeys(trial.metrics, math.nan), feasible=True) for trial in trials]


@dataclass(frozen=True)
class _Difference:
    """By how much ours exceed theirs, with what pairs say of chance; without several pairs NaN."""

    value: float
    low: float
    high: float
    p: float

    @staticmethod
    def of(value: float, pairs: Sequence[float]) -> _Difference:
        return _Difference(value, *(paired(pairs) if len(pairs) > 1 else (math.nan,) * 3))

    @property
    def sign(self) -> int:
        """Which way it points: 0 where the interval holds 0."""
        return 0 if self.value == 0 or self.low <= 0 <= self.high else 1 if self.value > 0 else -1

    def text(self) -> str:
        chance = "" if math.isnan(self.p) else f" ({self.low:+.1f} to {self.high:+.1f}, p {self.p:.2g})"
        return f"{self.value:+.1f}{chance}"


def _verdict(differences: Sequence[_Difference]) -> str:
    signs = {one.sign for one in differences}
    return {frozenset({1}): "ahead", frozenset({-1}): "behind", frozenset({0}): "no difference"}.get(frozenset(signs), "mixed")


def paired(differences: Sequence[float]) -> tuple[float, float, float]:
    """What paired differences say of chance, with a fixed seed.

    Args:
        differences: one a pair, at least one.

    Returns:
        The ends of the 95 % bootstrap interval of their mean, and the two-sided p of a permutation of their signs: of all
        assignments where there are at most 4,096, of 10,000 random ones (and the one at hand) otherwise.
    """
    values, draws = np.array(differences), np.random.default_rng(0)
    low, high = np.percentile(draws.choice(values, (_RESAMPLES, len(values))).mean(axis=1), (2.5, 97.5)).tolist()
    if len(values) <= _MOST_SIGNS:
        signs = np.array(list(itertools.product((1.0, -1.0), repeat=len(values))))
    else:
        signs = np.vstack([np.ones(len(values)), draws.choice((1.0, -1.0), (_RESAMPLES, len(values)))])
    extreme = np.abs((signs * values).mean(axis=1)) >= abs(values.mean()) - 1e-12
    return low, high, float(extreme.mean())


def _together(used: frozenset[str]) -> str:
    return " + ".join(name for name in TECHNIQUES if name in used) or "none"


def _reference(points: pareto.Floats) -> pareto.Floats:
    """A reference that all points count under: the worst of each objective, a tenth of its extent further out."""
    worst, best = points.max(axis=0), points.min(axis=0)
    return np.asarray(worst + 0.1 * np.where(worst > best, worst - best, 1.0))


def _size(sweep: Sweep) -> str:
    """The size that budgets are of."""
    return "gzip_bytes" if "gzip_bytes" in sweep.objectives and "size_bytes" not in sweep.objectives else "size_bytes"


def _round_budgets(sizes: Sequence[float]) -> list[int]:
    """Powers of two, in KiB: from the first that the smallest of some sizes (in bytes) meets to the first that all do."""
    sizes = [size for size in sizes if size > 0]
    if not sizes:
        return []
    first, last = (max(0, math.ceil(math.log2(size / 1024))) for size in (min(sizes), max(sizes)))
    return [2**power for power in range(first, last + 1)]


def _within(candidates: Sequence[Candidate], size: str, kib: int) -> Candidate | None:
    """The most accurate candidate of at most so many KiB; of equals the smallest."""
    if not candidates:
        return None
    columns = {name: [one.mean[name] for one in candidates] for name in ("val_accuracy", size)}
    points = pareto.oriented(columns, {"val_accuracy": "maximize", size: "minimize"})
    row = pareto.best(points, pareto.violation(columns, {size: (-math.inf, kib * 1024)}))
    return None if row is None else candidates[row]


def _by_value(trials: Sequence[Trial], key: str) -> Iterator[tuple[str, list[Trial]]]:
    """The trials by their value of an axis; a continuous one in quarters of equal number."""
    having = [trial for trial in trials if key in trial.overrides]
    numbers = {trial.number: sweeps.number(trial.overrides[key]) for trial in having}
    numeric = not any(map(math.isnan, numbers.values()))
    ordered = sorted(having, key=lambda trial: (numbers[trial.number], trial.number)) if numeric else having
    texts = dict.fromkeys(trial.overrides[key] for trial in ordered)
    if numeric and len(texts) > _MOST_VALUES:
        for part in np.array_split(np.arange(len(ordered)), 4):
            own = [ordered[place] for place in part.tolist()]
            low, high = (f"{numbers[one.number]:.3g}" for one in (own[0], own[-1]))
            yield f"{low} to {high}", own
    else:
        for text in texts:
            yield text, [trial for trial in ordered if trial.overrides[key] == text]
    if without := [trial for trial in trials if key not in trial.overrides]:
        yield "(does not apply)", without


def _mean_and_spread(values: Sequence[float]) -> tuple[float, float]:
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else math.nan


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *([cell.replace("|", "&#124;") for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _moment(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


def main(arguments: list[str] | None = None) -> int:
    """The command. Returns the exit code: 0; 1 where nothing can be written; 2 for input that cannot be used."""
    parser = sweeps.CommandLine("python -m sweep.report", "Rebuild the tables, plots and report of a sweep from its records.")
    options = parser.parse_args(arguments)
    try:
        report = write(sweeps.find(options.output, options.name))
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if not report.front:
        print("note: no complete trial keeps the constraints, so there is no front", file=sys.stderr)
    for path in report.paths:
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
