"""The plots of a sweep: `png` for print (matplotlib), `html` for the browser (plotly, one page that fetches nothing).

And that of a network's sensitivities, layer by layer: `sensitivity_png`.
"""

from __future__ import annotations

import html as markup
import io
import itertools
import json
import math
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sweep.picture import Mark, Picture
from sweep.quantities import Quantity

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
    "axes.formatter.useoffset": False,
}


def png(picture: Picture) -> bytes:
    """The plot for print."""
    import matplotlib.style
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    out = io.BytesIO()
    with matplotlib.style.context(["default", _STYLE]):
        figure = Figure(figsize=(9.6, 5.6), dpi=160, layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot(xlabel=picture.x.label, ylabel=picture.y.label)
        axes.set_title(_wrapped(picture.title, 66, "\n"), loc="left", fontsize=11.5, color=_INK, pad=10)
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


@dataclass(frozen=True)
class Panel:
    """One side of the plot of a network's sensitivities.

    Attributes:
        label: what the values are.
        values: where it was measured, ascending.
        accuracies: layer name to accuracy in [0, 1] at each value, in the network's order.
    """

    label: str
    values: tuple[int, ...]
    accuracies: Mapping[str, tuple[float, ...]]


def sensitivity_png(title: str, untouched: float, panels: Sequence[Panel]) -> bytes:
    """Side by side, the accuracy of the network against what is done to each layer alone.

    A line for each layer where there are colours for all of them; for more a heat map, whose rows are the layers.

    Args:
        title: stands above.
        untouched: accuracy in [0, 1] of the network as it is.
        panels: one or more; the last has all the layers.
    """
    import matplotlib.style
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    out, layers = io.BytesIO(), list(panels[-1].accuracies)
    few = len(layers) <= len(_COLOURS)
    with matplotlib.style.context(["default", _STYLE]):
        figure = Figure(figsize=(9.6, 4.4 if few else 1.7 + 0.2 * len(layers)), dpi=160, layout="constrained")
        FigureCanvasAgg(figure)
        widths = None if few else [len(panel.values) for panel in panels]
        sides = figure.subplots(1, len(panels), sharey=True, squeeze=False, width_ratios=widths)[0]
        figure.suptitle(_wrapped(title, 80, "\n"), x=0.01, ha="left", fontsize=11.5, color=_INK)
        (_draw_lines if few else _draw_cells)(sides, panels, layers, 100 * untouched)
        figure.savefig(out, format="png", metadata={"Software": None})
    return out.getvalue()


def _draw_lines(sides: Sequence[Any], panels: Sequence[Panel], layers: Sequence[str], untouched: float) -> None:
    """A line for each layer, named in the legend."""
    for axes, panel in zip(sides, panels, strict=True):
        axes.axhline(untouched, color=_GREY, linestyle="--", linewidth=1, zorder=2, label="untouched")
        for place, layer in enumerate(layers):
            if (accuracies := panel.accuracies.get(layer)) is not None:
                look = {"color": _COLOURS[place], "marker": _MARKERS[place], "markersize": 4.5, "linewidth": 1.4}
                percent = [100 * one for one in accuracies]
                axes.plot(panel.values, percent, label=_shortened(layer), zorder=3, **look)
        axes.set(xlabel=panel.label, xticks=panel.values)
    sides[0].set_ylabel("Validation accuracy (%)")
    named = sides[-1].get_legend_handles_labels()
    sides[0].figure.legend(*named, loc="outside right upper", fontsize=9, alignment="left", labelspacing=0.75)


def _draw_cells(sides: Sequence[Any], panels: Sequence[Panel], layers: Sequence[str], untouched: float) -> None:
    """A row for each layer from the image down, a column for each value, the accuracy in figures and as a colour."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    lowest = min(100 * one for panel in panels for accuracies in panel.accuracies.values() for one in accuracies)
    bottom = min(lowest, untouched - 1)
    scale = ScalarMappable(Normalize(bottom, untouched), "viridis")
    for axes, panel in zip(sides, panels, strict=True):
        blank = (math.nan,) * len(panel.values)
        percent = [[100 * one for one in panel.accuracies.get(layer, blank)] for layer in layers]
        axes.imshow(percent, norm=scale.norm, cmap=scale.cmap, aspect="auto", interpolation="nearest")
        for row, column in itertools.product(range(len(layers)), range(len(panel.values))):
            if math.isfinite(value := percent[row][column]):
                colour = _INK if value > bottom + 0.6 * (untouched - bottom) else "white"
                axes.text(column, row, f"{value:.0f}", ha="center", va="center", fontsize=7, color=colour)
        axes.set(xlabel=panel.label, xticks=range(len(panel.values)), xticklabels=map(str, panel.values))
        axes.set(yticks=range(len(layers)), yticklabels=map(_shortened, layers))
        axes.tick_params(length=0, labelsize=8)
        axes.grid(visible=False)
        axes.spines[:].set_visible(False)
    label = f"Validation accuracy (%); untouched {untouched:.1f}"
    sides[0].figure.colorbar(scale, ax=list(sides), label=label, pad=0.02, aspect=40)


def _shortened(name: str) -> str:
    """At most 24 characters: both ends, since layers' names begin alike and end in numbers."""
    return name if len(name) <= 24 else f"{name[:11]}…{name[-12:]}"


def _scale(axes: Any, picture: Picture) -> None:
    """Fix both axes."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    for axis, logarithmic, ends in zip((axes.xaxis, axes.yaxis), picture.logarithmic, picture.window, strict=True):
        if logarithmic:
            axes.set(**{f"{axis.axis_name}scale": "log"})
            axis.set_major_locator(FixedLocator(_round_ticks(*ends)))
            axis.set_minor_locator(NullLocator())
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.6g}"))
        axes.set(**{f"{axis.axis_name}lim": ends})
    if picture.better[0] is None:
        axes.xaxis.get_major_locator().set_params(integer=True)


def _round_ticks(low: float, high: float) -> list[float]:
    """Where a logarithmic axis has its numbers: powers of two, or multiples of 1, 2 or 5 where it spans few of them."""
    first, last = math.ceil(math.log2(low)), math.floor(math.log2(high))
    step = max(1, round((last - first) / 9))
    if last - first >= 2:
        return [2.0**power for power in range(first, last + 1, step)]
    unit = 10.0 ** math.floor(math.log10(high - low))
    unit *= next(factor for factor in (0.2, 0.5, 1.0, 2.0) if (high - low) / (unit * factor) <= 7)
    return [unit * place for place in range(math.ceil(low / unit), math.floor(high / unit) + 1)]


def _draw_candidates(axes: Any, picture: Picture) -> None:
    """The front's line, and every feasible candidate: light, or with an outline on the front."""
    if len(picture.staircase) > 1:
        axes.plot(*zip(*picture.staircase, strict=True), color=_INK, linewidth=1.3, zorder=2, label=picture.line)
    for place, group in enumerate(picture.groups):
        colour, marker = _COLOURS[place % len(_COLOURS)], _MARKERS[place % len(_MARKERS)]
        for marks, look, bars in (
            (
                picture.others,
                {"s": 30, "alpha": 0.7 if picture.shade else 0.45, "edgecolors": "none", "zorder": 3},
                (colour, 0.4),
            ),
            (picture.front, {"s": 58, "edgecolors": _INK, "linewidths": 0.9, "zorder": 4}, (_INK, 0.9)),
        ):
            if own := [one for one in marks if one.group == group and picture.shows(one)]:
                low, high = picture.shades
                shaded = {"c": [one.shade for one in own], "cmap": "viridis", "vmin": low, "vmax": high}
                paint = shaded if picture.shade else {"color": colour}
                axes.scatter([one.x for one in own], [one.y for one in own], marker=marker, **paint, **look)
                _bars(axes, own, *bars)
        if picture.category and any(one.group == group for one in (*picture.others, *picture.front)):
            axes.scatter([], [], s=46, marker=marker, color=_GREY if picture.shade else colour, label=picture.named(group))
    if picture.shade:
        from matplotlib.cm import ScalarMappable
        from matplotlib.colors import Normalize

        axes.scatter([], [], s=58, facecolors="none", edgecolors=_INK, linewidths=0.9, label="on the front")
        scale = ScalarMappable(Normalize(*picture.shades), "viridis")
        axes.figure.colorbar(scale, ax=axes, label=picture.shade.label, pad=0.02, aspect=30)


def _draw_surroundings(axes: Any, picture: Picture) -> None:
    """The knee, baselines, constraints, what breaks them, and what is not to be seen."""
    if picture.knee:
        ring = {"s": 190, "facecolors": "none", "edgecolors": _KNEE, "linewidths": 1.6, "zorder": 5}
        axes.scatter(picture.knee.x, picture.knee.y, label="knee", **ring)
    for (name, marks), marker, size in zip(picture.baselines.items(), ("*", "p"), (130, 62), strict=False):
        if own := [one for one in marks if picture.shows(one)]:
            look = {"s": size, "marker": marker, "color": _INK, "zorder": 5, "label": name}
            axes.scatter([one.x for one in own], [one.y for one in own], **look)
            _bars(axes, own, _INK, 0.7)
    if marks := tuple(one for one in picture.infeasible if picture.shows(one)):
        xs, ys = [one.x for one in marks], [one.y for one in marks]
        axes.scatter(xs, ys, s=26, marker="x", color=_GREY, linewidths=1, label="breaks a constraint")
    for axis, value, text in picture.limits:
        line, dashes = (axes.axvline, (4, 3)) if axis == "x" else (axes.axhline, (1, 2))
        line(value, color=_GREY, linewidth=1, linestyle=(0, dashes), zorder=1, label=text)
    for note in picture.notes:
        axes.plot([], [], linestyle="none", label=_wrapped(note, 32, "\n"))


def _bars(axes: Any, marks: Sequence[Mark], colour: str, alpha: float) -> None:
    """Error bars of a standard deviation, where one is known."""
    if own := [one for one in marks if any(one.spread)]:
        xs, ys, widths, heights = zip(*((one.x, one.y, *one.spread) for one in own), strict=True)
        look = {"fmt": "none", "ecolor": colour, "alpha": alpha, "elinewidth": 1, "capsize": 2.5, "zorder": 2}
        axes.errorbar(xs, ys, heights, widths if any(widths) else None, **look)


_Box = tuple[float, float, float, float]
"""Left, bottom, right, top."""
_Line = tuple[float, float, float, float]
"""From x, y to x, y."""


_DISTANCES = (8, 16, 28, 42, 60, 80)
"""How far a label may be from its point, in points of print; beyond the first a line leads to it."""


def _label(axes: Any, picture: Picture) -> None:
    """Name up to eight points of the front: with their number alone, or not at all, where there is no room for more."""
    renderer, place, unplace = axes.figure.canvas.get_renderer(), axes.transData.transform, axes.transData.inverted().transform
    room = _Room.of(picture, lambda x, y: place((x, y)).tolist(), axes.figure.dpi / 72, axes.bbox.extents.tolist())
    for one in picture.chosen:
        text = axes.text(0, 0, "", fontsize=8, color=_INK, zorder=6)
        for words in dict.fromkeys((one.label, one.label.partition(" ")[0])):
            text.set_text(words)
            extent = text.get_window_extent(renderer)
            if found := room.take(one, extent.width, extent.height):
                box, leader = found
                text.set(position=unplace(box[:2]), verticalalignment="bottom")
                if leader:
                    axes.plot(*zip((one.x, one.y), unplace(leader[2:]), strict=True), color=_GREY, linewidth=0.6, zorder=2)
                break
        else:
            text.remove()


@dataclass(frozen=True, eq=False)
class _Room:
    """Where labels may stand, in pixels.

    Attributes:
        frame: the axes.
        scale: pixels in a point of print.
        sides: the directions from a point to its label, first where nothing can be better than the front.
        points: where every point is.
        taken: what labels should not cover.
        labels: those that stand.
        leaders: the lines to them.
    """

    frame: _Box
    scale: float
    sides: tuple[tuple[int, int], ...]
    points: Mapping[Mark, list[float]]
    taken: tuple[_Box, ...]
    labels: list[_Box]
    leaders: list[_Line]

    @staticmethod
    def of(picture: Picture, place: Callable[[float, float], list[float]], scale: float, frame: _Box) -> _Room:
        """The room in a picture whose points `place` turns into pixels."""
        side, up = (1 if picture.better[0] else -1), (1 if picture.better[1] else -1)
        sides = ((side, up), (0, up), (side, 0), (-side, up), (-side, 0), (side, -up), (0, -up), (-side, -up))
        points = {one: place(one.x, one.y) for one in picture.marks if picture.shows(one)}
        return _Room(frame, scale, sides, points, tuple(_obstacles(picture, place, scale)), [], [])

    def take(self, mark: Mark, width: float, height: float) -> tuple[_Box, _Line | None] | None:
        """Let a label stand where it covers least, with a line to it where it would not be clear; None where it cannot."""
        x, y = self.points[mark]
        options: list[tuple[float, _Box, _Line | None]] = []
        for distance, box in self._places(x, y, width, height):
            others = (point for one, point in self.points.items() if one is not mark)
            unclear = any(_gap(box, *point) < 1.5 * _gap(box, x, y) for point in others)
            leader = _leader(box, x, y) if unclear or distance > _DISTANCES[0] else None
            if self._free(box, leader):
                covered = sum(_overlap(box, other, self.scale) for other in self.taken)
                options.append((30 * covered + 15 * unclear + distance / 4, box, leader))
        if not options:
            return None
        _, box, leader = min(options, key=lambda option: option[0])
        self.labels.append(box)
        self.leaders.extend([leader] if leader else [])
        return box, leader

    def _places(self, x: float, y: float, width: float, height: float) -> Iterator[tuple[float, _Box]]:
        """The boxes around a point, with their distance."""
        for distance, (across, along) in itertools.product(_DISTANCES, self.sides):
            reach = distance * self.scale * (0.75 if across and along else 1)
            left = x + across * (reach + width / 2) - width / 2
            bottom = y + along * (reach + height / 2) - height / 2
            yield distance, (left, bottom, left + width, bottom + height)

    def _free(self, box: _Box, leader: _Line | None) -> bool:
        """Whether a label is within the axes, and neither it nor its line meets another label or its line."""
        within = self.frame[0] <= box[0] and box[2] <= self.frame[2] and self.frame[1] <= box[1] and box[3] <= self.frame[3]
        crossed = any(_crosses(line, box, self.scale) for line in self.leaders)
        crossed = crossed or (leader is not None and any(_crosses(leader, other, self.scale) for other in self.labels))
        return within and not crossed and not any(_overlap(box, other, 2 * self.scale) for other in self.labels)


def _leader(box: _Box, x: float, y: float) -> _Line:
    """From a point to the nearest of its label."""
    return x, y, min(max(x, box[0]), box[2]), min(max(y, box[1]), box[3])


def _crosses(line: _Line, box: _Box, margin: float) -> bool:
    """Whether a line comes into a box with a margin around it (Liang and Barsky 1984)."""
    x, y, to_x, to_y = line
    first, last = 0.0, 1.0
    for step, behind, ahead in (
        (to_x - x, box[0] - margin - x, box[2] + margin - x),
        (to_y - y, box[1] - margin - y, box[3] + margin - y),
    ):
        if step == 0:
            if behind > 0 or ahead < 0:
                return False
            continue
        enters, leaves = sorted((behind / step, ahead / step))
        first, last = max(first, enters), min(last, leaves)
    return first <= last


def _obstacles(picture: Picture, place: Callable[[float, float], list[float]], scale: float) -> Iterator[_Box]:
    """What labels should not cover, in pixels: points with their error bars, the knee's ring, and the front's line."""
    for one in filter(picture.shows, picture.marks):
        (left, bottom), (right, top) = (place(one.x + sign * one.spread[0], one.y + sign * one.spread[1]) for sign in (-1, 1))
        half = (9 if one is picture.knee else 5) * scale
        yield left - half, bottom - half, right + half, top + half
    for (x, y), (to_x, to_y) in itertools.pairwise(place(*corner) for corner in picture.staircase):
        yield min(x, to_x) - scale, min(y, to_y) - scale, max(x, to_x) + scale, max(y, to_y) + scale
    for axis, value, _ in picture.limits:
        ends = ((value, low) if axis == "x" else (low, value) for low in picture.window[axis == "x"])
        (left, bottom), (right, top) = (place(*end) for end in ends)
        yield left - scale, bottom - scale, right + scale, top + scale


def _overlap(one: _Box, other: _Box, margin: float) -> bool:
    """Whether two boxes come closer than a margin."""
    beside = one[0] - margin >= other[2] or one[2] + margin <= other[0]
    return not beside and one[1] - margin < other[3] and one[3] + margin > other[1]


def _gap(box: _Box, x: float, y: float) -> float:
    """How far a point is from a box."""
    return math.hypot(max(box[0] - x, 0.0, x - box[2]), max(box[1] - y, 0.0, y - box[3]))


def html(picture: Picture) -> str:
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
        "xaxis": _plotly_axis(picture.x, picture.window[0], picture.logarithmic[0]),
        "yaxis": _plotly_axis(picture.y, picture.window[1], picture.logarithmic[1]),
        "shapes": [_plotly_bound(axis, value) for axis, value, _ in picture.bounds],
    }
    if picture.shade:
        bar = {"title": {"text": picture.shade.label, "side": "right"}, "thickness": 16}
        layout["coloraxis"] = {"colorscale": "Viridis", "cmin": picture.shades[0], "cmax": picture.shades[1], "colorbar": bar}
    buttons = ["zoom2d", "pan2d", "zoomIn2d", "zoomOut2d", "autoScale2d", "resetScale2d", "toImage"]
    settings = {"responsive": True, "displaylogo": False, "modeBarButtons": [buttons], "displayModeBar": True}
    told = ["Point at a trial for its overrides and metrics; click the legend to hide a group."]
    told += ["Outlined: on the front."] if picture.front else []
    told += [f"Dashed: {', '.join(text for _, _, text in picture.limits)}."] if picture.limits else []
    told += [f"Note: {'; '.join(picture.notes)}."] if picture.notes else []
    arguments = ", ".join(_script_json(value) for value in (list(_traces(picture)), layout, settings))
    return f"""\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{markup.escape(picture.title)}</title>
<style>
html, body {{ height: 100%; margin: 0; }}
body {{ display: flex; flex-direction: column; color: {_INK}; font: 14px/1.4 system-ui, sans-serif; }}
h1 {{ font-size: 18px; font-weight: 600; margin: 18px 24px 4px; }}
p {{ margin: 0 24px; color: #666666; }}
#pareto {{ flex: 1; min-height: 360px; }}
</style>
</head>
<body>
<h1>{markup.escape(picture.title)}</h1>
<p>{markup.escape(" ".join(told))}</p>
<div id="pareto"></div>
<script>{offline.get_plotlyjs()}</script>
<script>Plotly.newPlot("pareto", {arguments});</script>
</body>
</html>
"""


def _traces(picture: Picture) -> Iterator[dict[str, Any]]:
    """What the page draws, in order."""
    if len(picture.staircase) > 1:
        xs, ys = (list(values) for values in zip(*picture.staircase, strict=True))
        line = {"color": _INK, "width": 1.5}
        yield {"type": "scatter", "mode": "lines", "name": picture.line, "x": xs, "y": ys, "hoverinfo": "skip", "line": line}
    for place, group in enumerate(picture.groups):
        colour, symbol = _COLOURS[place % len(_COLOURS)], _SYMBOLS[place % len(_SYMBOLS)]
        legend = {"type": "scatter", "mode": "markers", "x": [None], "y": [None], "legendgroup": str(place)}
        if any(one.group == group for one in (*picture.others, *picture.front)):
            marker = {"symbol": symbol, "size": 10, "color": _GREY if picture.shade else colour}
            yield legend | {"name": markup.escape(picture.named(group)), "marker": marker}
        for marks, look in (
            (picture.others, {"size": 8, "opacity": 0.7 if picture.shade else 0.45}),
            (picture.front, {"size": 11, "line": {"color": _INK, "width": 1.2}}),
        ):
            if own := [one for one in marks if one.group == group]:
                shaded = {"color": [one.shade for one in own], "coloraxis": "coloraxis"}
                style = {"symbol": symbol, **(shaded if picture.shade else {"color": colour}), **look}
                yield _trace(own, picture.named(group), style) | {"legendgroup": str(place), "showlegend": False}
    if picture.knee:
        ring = {"symbol": "circle-open", "size": 20, "color": _KNEE, "line": {"width": 2}}
        yield _trace([picture.knee], "knee", ring) | {"hoverinfo": "skip", "hovertemplate": None}
    for (name, marks), symbol in zip(picture.baselines.items(), ("star", "pentagon"), strict=False):
        yield _trace(marks, name, {"symbol": symbol, "size": 13, "color": _INK})
    if picture.infeasible:
        cross = {"symbol": "x-thin", "size": 8, "line": {"color": _GREY, "width": 1.5}}
        yield _trace(picture.infeasible, "breaks a constraint", cross)


def _trace(marks: Sequence[Mark], name: str, style: Mapping[str, Any]) -> dict[str, Any]:
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
        "name": markup.escape(name),
        "x": [one.x for one in marks],
        "y": [one.y for one in marks],
        "text": [_hover(one) for one in marks],
        "hovertemplate": "%{text}<extra></extra>",
        "marker": dict(style),
        **bars,
    }


def _hover(mark: Mark) -> str:
    """What pointing at a point shows: its first line bold, long ones broken."""
    first, *rest = (markup.escape(_wrapped(line, 60, "\n")).replace("\n", "<br>") for line in mark.hover)
    return "<br>".join([f"<b>{first}</b>", *rest])


def _wrapped(text: str, width: int, newline: str) -> str:
    """A text in lines of at most so many characters, broken at spaces or else, where a word is too long, anywhere."""
    return newline.join(textwrap.wrap(text, width, break_on_hyphens=False)) or text


def _plotly_axis(quantity: Quantity, ends: tuple[float, float], logarithmic: bool) -> dict[str, Any]:
    axis: dict[str, Any] = {"title": {"text": quantity.label}, "gridcolor": _GRID, "linecolor": "#666666"}
    axis |= {"zeroline": False, "ticks": "outside"}
    if not logarithmic:
        return axis | {"range": list(ends)}
    ticks = _round_ticks(*ends)
    texts = [f"{tick:,.6g}" for tick in ticks]
    return axis | {"type": "log", "range": [math.log10(end) for end in ends], "tickvals": ticks, "ticktext": texts}


def _plotly_bound(axis: str, value: float) -> dict[str, Any]:
    other = "y" if axis == "x" else "x"
    ends = {f"{axis}0": value, f"{axis}1": value, f"{axis}ref": axis, f"{other}0": 0, f"{other}1": 1, f"{other}ref": "paper"}
    return {"type": "line", "line": {"color": _GREY, "width": 1, "dash": "dash"}, **ends}


def _script_json(value: object) -> str:
    """JSON that cannot end the script it stands in."""
    return json.dumps(value).replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
