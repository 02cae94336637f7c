"""The colours, markers and fonts of the plots."""

from __future__ import annotations

import math
import textwrap

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#6B4C9A", "#8C8C00")
"""The colour-blind safe palette of Okabe and Ito 2008, without yellow, which is too light for points, and with two more."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "h")
INK, GREY, KNEE, GRID = "#222222", "#8A8A8A", "#C2185B", "#E6E6E6"
STYLE = {
    "font.size": 9.5,
    "axes.edgecolor": "#666666",
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "legend.frameon": False,
    "text.parse_math": False,
    "axes.formatter.useoffset": False,
}


def wrapped(text: str, width: int, newline: str) -> str:
    """Wraps a text to lines of at most `width` characters, at spaces, or within a word that is too long."""
    return newline.join(textwrap.wrap(text, width, break_on_hyphens=False)) or text


def round_ticks(low: float, high: float) -> list[float]:
    """The ticks of a logarithmic axis: powers of two, or round multiples on a short axis."""
    first, last = math.ceil(math.log2(low)), math.floor(math.log2(high))
    step = max(1, round((last - first) / 9))
    if last - first >= 2:
        return [2.0**power for power in range(first, last + 1, step)]
    unit = 10.0 ** math.floor(math.log10(high - low))
    unit *= next(factor for factor in (0.2, 0.5, 1.0, 2.0) if (high - low) / (unit * factor) <= 7)
    return [unit * multiple for multiple in range(math.ceil(low / unit), math.floor(high / unit) + 1)]
