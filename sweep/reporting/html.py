"""A sweep's plot for the browser (plotly), one page that fetches nothing."""

from __future__ import annotations

import html as markup
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sweep.core.metric import Quantity
from sweep.reporting.baselines import BASELINE_NAMES
from sweep.reporting.marks import Mark
from sweep.reporting.picture import Picture
from sweep.reporting.references import PLAIN, TEST, VALIDATION
from sweep.reporting.style import COLOURS, GREY, GRID, INK, KNEE, round_ticks, wrapped

_SYMBOLS = ("circle", "square", "triangle-up", "diamond", "triangle-down", "cross", "x", "hexagon")


_HOLLOW = {"symbol": "triangle-right-open", "line": {"width": 2}}
_BESIDE: Mapping[str, Mapping[str, Any]] = {
    BASELINE_NAMES["start"]: {"symbol": "star"},
    BASELINE_NAMES["student"]: {"symbol": "pentagon"},
    PLAIN: _HOLLOW,
    TEST: _HOLLOW,
    VALIDATION: {**_HOLLOW, "color": GREY},
}
"""How what stands beside the candidates is drawn: baselines filled, references hollow."""


def html(picture: Picture) -> str:
    """The plot for the browser: one page that fetches nothing."""
    from plotly import offline

    layout = {
        "font": {"family": "system-ui, sans-serif", "size": 13, "color": INK},
        "paper_bgcolor": "white",
        "plot_bgcolor": "white",
        "hovermode": "closest",
        "hoverlabel": {"bgcolor": "white", "bordercolor": GREY, "align": "left", "font": {"size": 12, "color": INK}},
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
    sentences = ["Point at a trial for its overrides and metrics; click the legend to hide a group."]
    sentences += ["Outlined: on the front."] if picture.front else []
    sentences += [f"Dashed: {', '.join(text for _, _, text in picture.limits)}."] if picture.limits else []
    sentences += [f"Note: {'; '.join(picture.notes)}."] if picture.notes else []
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
body {{ display: flex; flex-direction: column; color: {INK}; font: 14px/1.4 system-ui, sans-serif; }}
h1 {{ font-size: 18px; font-weight: 600; margin: 18px 24px 4px; }}
p {{ margin: 0 24px; color: #666666; }}
#pareto {{ flex: 1; min-height: 360px; }}
</style>
</head>
<body>
<h1>{markup.escape(picture.title)}</h1>
<p>{markup.escape(" ".join(sentences))}</p>
<div id="pareto"></div>
<script>{offline.get_plotlyjs()}</script>
<script>Plotly.newPlot("pareto", {arguments});</script>
</body>
</html>
"""


def _traces(picture: Picture) -> Iterator[dict[str, Any]]:
    """The traces of the page, in order."""
    if len(picture.staircase) > 1:
        xs, ys = (list(values) for values in zip(*picture.staircase, strict=True))
        line = {"color": INK, "width": 1.5}
        yield {"type": "scatter", "mode": "lines", "name": picture.line, "x": xs, "y": ys, "hoverinfo": "skip", "line": line}
    for index, group in enumerate(picture.groups):
        colour, symbol = COLOURS[index % len(COLOURS)], _SYMBOLS[index % len(_SYMBOLS)]
        legend = {"type": "scatter", "mode": "markers", "x": [None], "y": [None], "legendgroup": str(index)}
        if any(mark.group == group for mark in (*picture.others, *picture.front)):
            marker = {"symbol": symbol, "size": 10, "color": GREY if picture.shade else colour}
            yield legend | {"name": markup.escape(picture.named(group)), "marker": marker}
        for marks, look in (
            (picture.others, {"size": 8, "opacity": 0.7 if picture.shade else 0.45}),
            (picture.front, {"size": 11, "line": {"color": INK, "width": 1.2}}),
        ):
            if members := [mark for mark in marks if mark.group == group]:
                shaded = {"color": [mark.shade for mark in members], "coloraxis": "coloraxis"}
                style = {"symbol": symbol, **(shaded if picture.shade else {"color": colour}), **look}
                yield _trace(members, picture.named(group), style) | {"legendgroup": str(index), "showlegend": False}
    if picture.knee:
        ring = {"symbol": "circle-open", "size": 20, "color": KNEE, "line": {"width": 2}}
        yield _trace([picture.knee], "knee", ring) | {"hoverinfo": "skip", "hovertemplate": None}
    for name, marks in picture.baselines.items():
        yield _trace(marks, name, {"size": 13, "color": INK, **_BESIDE[name]})
    if picture.infeasible:
        cross = {"symbol": "x-thin", "size": 8, "line": {"color": GREY, "width": 1.5}}
        yield _trace(picture.infeasible, "breaks a constraint", cross)


def _trace(marks: Sequence[Mark], name: str, style: Mapping[str, Any]) -> dict[str, Any]:
    """Points with what pointing at them shows."""
    look = {"type": "data", "thickness": 1, "width": 3, "color": GREY}
    bars = {
        f"error_{axis}": {**look, "array": [mark.spread[index] for mark in marks]}
        for index, axis in enumerate("xy")
        if any(mark.spread[index] for mark in marks)
    }
    return {
        "type": "scatter",
        "mode": "markers",
        "name": markup.escape(name),
        "x": [mark.x for mark in marks],
        "y": [mark.y for mark in marks],
        "text": [_hover(mark) for mark in marks],
        "hovertemplate": "%{text}<extra></extra>",
        "marker": dict(style),
        **bars,
    }


def _hover(mark: Mark) -> str:
    """The hover text of a point: the first line bold, long lines broken."""
    first, *rest = (markup.escape(wrapped(line, 60, "\n")).replace("\n", "<br>") for line in mark.hover)
    return "<br>".join([f"<b>{first}</b>", *rest])


def _plotly_axis(quantity: Quantity, ends: tuple[float, float], logarithmic: bool) -> dict[str, Any]:
    axis: dict[str, Any] = {"title": {"text": quantity.label}, "gridcolor": GRID, "linecolor": "#666666"}
    axis |= {"zeroline": False, "ticks": "outside"}
    if not logarithmic:
        return axis | {"range": list(ends)}
    ticks = round_ticks(*ends)
    texts = [f"{tick:,.6g}" for tick in ticks]
    return axis | {"type": "log", "range": [math.log10(end) for end in ends], "tickvals": ticks, "ticktext": texts}


def _plotly_bound(axis: str, value: float) -> dict[str, Any]:
    other = "y" if axis == "x" else "x"
    ends = {f"{axis}0": value, f"{axis}1": value, f"{axis}ref": axis, f"{other}0": 0, f"{other}1": 1, f"{other}ref": "paper"}
    return {"type": "line", "line": {"color": GREY, "width": 1, "dash": "dash"}, **ends}


def _script_json(value: object) -> str:
    """JSON that cannot end the script it stands in."""
    return json.dumps(value).replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
