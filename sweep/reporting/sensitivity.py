"""The plot of the sensitivity of each layer of a network (matplotlib)."""

from __future__ import annotations

import io
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sweep.reporting.style import COLOURS, GREY, INK, MARKERS, STYLE, wrapped


@dataclass(frozen=True)
class Panel:
    """A panel of the sensitivity plot.

    Attributes:
        label: the label of the horizontal axis.
        values: the measured sparsities or bit-widths, ascending.
        accuracies: layer name to accuracy in [0, 1] at each value, in the network's order.
    """

    label: str
    values: tuple[int, ...]
    accuracies: Mapping[str, tuple[float, ...]]


def sensitivity_png(title: str, untouched: float, panels: Sequence[Panel]) -> bytes:
    """Plots the accuracy of the network against the compression of each layer alone, a panel for each technique.

    It has a line for each layer, or a heat map with a row for each layer if there are more layers than colours.

    Args:
        title: the title.
        untouched: the accuracy of the uncompressed network, in [0, 1].
        panels: at least one; the last has all layers.
    """
    import matplotlib.style
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    out, layers = io.BytesIO(), list(panels[-1].accuracies)
    few = len(layers) <= len(COLOURS)
    with matplotlib.style.context(["default", STYLE]):
        figure = Figure(figsize=(9.6, 4.4 if few else 1.7 + 0.2 * len(layers)), dpi=160, layout="constrained")
        FigureCanvasAgg(figure)
        widths = None if few else [len(panel.values) for panel in panels]
        sides = figure.subplots(1, len(panels), sharey=True, squeeze=False, width_ratios=widths)[0]
        figure.suptitle(wrapped(title, 80, "\n"), x=0.01, ha="left", fontsize=11.5, color=INK)
        (_draw_lines if few else _draw_cells)(sides, panels, layers, 100 * untouched)
        figure.savefig(out, format="png", metadata={"Software": None})
    return out.getvalue()


def _draw_lines(sides: Sequence[Any], panels: Sequence[Panel], layers: Sequence[str], untouched: float) -> None:
    """Draws a line for each layer."""
    for axes, panel in zip(sides, panels, strict=True):
        axes.axhline(untouched, color=GREY, linestyle="--", linewidth=1, zorder=2, label="untouched")
        for index, layer in enumerate(layers):
            if (accuracies := panel.accuracies.get(layer)) is not None:
                look = {"color": COLOURS[index], "marker": MARKERS[index], "markersize": 4.5, "linewidth": 1.4}
                percent = [100 * accuracy for accuracy in accuracies]
                axes.plot(panel.values, percent, label=_shortened(layer), zorder=3, **look)
        axes.set(xlabel=panel.label, xticks=panel.values)
    sides[0].set_ylabel("Validation accuracy (%)")
    named = sides[-1].get_legend_handles_labels()
    sides[0].figure.legend(*named, loc="outside right upper", fontsize=9, alignment="left", labelspacing=0.75)


def _draw_cells(sides: Sequence[Any], panels: Sequence[Panel], layers: Sequence[str], untouched: float) -> None:
    """Draws a heat map with a row for each layer, a column for each value, and the accuracies in the cells."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    lowest = min(100 * accuracy for panel in panels for accuracies in panel.accuracies.values() for accuracy in accuracies)
    bottom = min(lowest, untouched - 1)
    scale = ScalarMappable(Normalize(bottom, untouched), "viridis")
    for axes, panel in zip(sides, panels, strict=True):
        blank = (math.nan,) * len(panel.values)
        percent = [[100 * accuracy for accuracy in panel.accuracies.get(layer, blank)] for layer in layers]
        axes.imshow(percent, norm=scale.norm, cmap=scale.cmap, aspect="auto", interpolation="nearest")
        for row, column in itertools.product(range(len(layers)), range(len(panel.values))):
            if math.isfinite(value := percent[row][column]):
                colour = INK if value > bottom + 0.6 * (untouched - bottom) else "white"
                axes.text(column, row, f"{value:.0f}", ha="center", va="center", fontsize=7, color=colour)
        axes.set(xlabel=panel.label, xticks=range(len(panel.values)), xticklabels=map(str, panel.values))
        axes.set(yticks=range(len(layers)), yticklabels=map(_shortened, layers))
        axes.tick_params(length=0, labelsize=8)
        axes.grid(visible=False)
        axes.spines[:].set_visible(False)
    label = f"Validation accuracy (%); untouched {untouched:.1f}"
    sides[0].figure.colorbar(scale, ax=list(sides), label=label, pad=0.02, aspect=40)


def _shortened(name: str) -> str:
    """A name of at most 24 characters, cut in the middle, since layer names differ at the end."""
    return name if len(name) <= 24 else f"{name[:11]}…{name[-12:]}"
