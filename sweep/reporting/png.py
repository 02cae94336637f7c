"""The PNG plot of a sweep (matplotlib)."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

from sweep.reporting.baselines import BASELINE_NAMES
from sweep.reporting.labels import place_labels
from sweep.reporting.marks import Mark
from sweep.reporting.picture import Picture
from sweep.reporting.references import PLAIN, TEST, VALIDATION
from sweep.reporting.style import COLOURS, GREY, INK, KNEE, MARKERS, STYLE, round_ticks, wrapped

_HOLLOW = {"s": 62, "marker": ">", "facecolors": "white", "linewidths": 1.4}
_BESIDE: Mapping[str, Mapping[str, Any]] = {
    BASELINE_NAMES["start"]: {"s": 130, "marker": "*", "color": INK},
    BASELINE_NAMES["student"]: {"s": 62, "marker": "p", "color": INK},
    PLAIN: {**_HOLLOW, "edgecolors": INK},
    TEST: {**_HOLLOW, "edgecolors": INK},
    VALIDATION: {**_HOLLOW, "edgecolors": GREY, "zorder": 4.5},
}
"""How what stands beside the candidates is drawn: baselines filled, references hollow."""


def png(picture: Picture) -> bytes:
    """Draws the plot; returns the bytes of a PNG."""
    import matplotlib.style
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    out = io.BytesIO()
    with matplotlib.style.context(["default", STYLE]):
        figure = Figure(figsize=(9.6, 5.6), dpi=160, layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot(xlabel=picture.x.label, ylabel=picture.y.label)
        axes.set_title(wrapped(picture.title, 66, "\n"), loc="left", fontsize=11.5, color=INK, pad=10)
        _scale(axes, picture)
        _draw_candidates(axes, picture)
        _draw_surroundings(axes, picture)
        figure.legend(
            *axes.get_legend_handles_labels(), loc="outside right upper", fontsize=9, alignment="left", labelspacing=0.75
        )
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
        place_labels(axes, picture)
        figure.savefig(out, format="png", metadata={"Software": None})
    return out.getvalue()


def _scale(axes: Any, picture: Picture) -> None:
    """Sets the scales, limits and ticks of both axes."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    for axis, logarithmic, ends in zip((axes.xaxis, axes.yaxis), picture.logarithmic, picture.window, strict=True):
        if logarithmic:
            axes.set(**{f"{axis.axis_name}scale": "log"})
            axis.set_major_locator(FixedLocator(round_ticks(*ends)))
            axis.set_minor_locator(NullLocator())
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.6g}"))
        axes.set(**{f"{axis.axis_name}lim": ends})
    if picture.better[0] is None:
        axes.xaxis.get_major_locator().set_params(integer=True)


def _draw_candidates(axes: Any, picture: Picture) -> None:
    """Draws the front's line and the feasible candidates, with an outline for those on the front."""
    if len(picture.staircase) > 1:
        axes.plot(*zip(*picture.staircase, strict=True), color=INK, linewidth=1.3, zorder=2, label=picture.line)
    for index, group in enumerate(picture.groups):
        colour, marker = COLOURS[index % len(COLOURS)], MARKERS[index % len(MARKERS)]
        for marks, look, bars in (
            (
                picture.others,
                {"s": 30, "alpha": 0.7 if picture.shade else 0.45, "edgecolors": "none", "zorder": 3},
                (colour, 0.4),
            ),
            (picture.front, {"s": 58, "edgecolors": INK, "linewidths": 0.9, "zorder": 4}, (INK, 0.9)),
        ):
            if members := [mark for mark in marks if mark.group == group and picture.shows(mark)]:
                low, high = picture.shades
                shaded = {"c": [mark.shade for mark in members], "cmap": "viridis", "vmin": low, "vmax": high}
                paint = shaded if picture.shade else {"color": colour}
                axes.scatter([mark.x for mark in members], [mark.y for mark in members], marker=marker, **paint, **look)
                _bars(axes, members, *bars)
        if picture.category and any(mark.group == group for mark in (*picture.others, *picture.front)):
            axes.scatter([], [], s=46, marker=marker, color=GREY if picture.shade else colour, label=picture.named(group))
    if picture.shade:
        from matplotlib.cm import ScalarMappable
        from matplotlib.colors import Normalize

        axes.scatter([], [], s=58, facecolors="none", edgecolors=INK, linewidths=0.9, label="on the front")
        scale = ScalarMappable(Normalize(*picture.shades), "viridis")
        axes.figure.colorbar(scale, ax=axes, label=picture.shade.label, pad=0.02, aspect=30)


def _draw_surroundings(axes: Any, picture: Picture) -> None:
    """Draws the knee, baselines, constraints, infeasible candidates and notes."""
    if picture.knee:
        ring = {"s": 190, "facecolors": "none", "edgecolors": KNEE, "linewidths": 1.6, "zorder": 5}
        axes.scatter(picture.knee.x, picture.knee.y, label="knee", **ring)
    for name, marks in picture.baselines.items():
        if members := [mark for mark in marks if picture.shows(mark)]:
            look = {"zorder": 5, **_BESIDE[name], "label": name}
            axes.scatter([mark.x for mark in members], [mark.y for mark in members], **look)
            _bars(axes, members, INK, 0.7)
    if marks := tuple(mark for mark in picture.infeasible if picture.shows(mark)):
        xs, ys = [mark.x for mark in marks], [mark.y for mark in marks]
        axes.scatter(xs, ys, s=26, marker="x", color=GREY, linewidths=1, label="breaks a constraint")
    for axis, value, text in picture.limits:
        line, dashes = (axes.axvline, (4, 3)) if axis == "x" else (axes.axhline, (1, 2))
        line(value, color=GREY, linewidth=1, linestyle=(0, dashes), zorder=1, label=text)
    for note in picture.notes:
        axes.plot([], [], linestyle="none", label=wrapped(note, 32, "\n"))


def _bars(axes: Any, marks: Sequence[Mark], colour: str, alpha: float) -> None:
    """Draws error bars of one standard deviation, where it is known."""
    if members := [mark for mark in marks if any(mark.spread)]:
        xs, ys, widths, heights = zip(*((mark.x, mark.y, *mark.spread) for mark in members), strict=True)
        look = {"fmt": "none", "ecolor": colour, "alpha": alpha, "elinewidth": 1, "capsize": 2.5, "zorder": 2}
        axes.errorbar(xs, ys, heights, widths if any(widths) else None, **look)
