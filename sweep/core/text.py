"""Formatting of counts, durations and Markdown tables."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence


def finite_or_zero(value: float) -> float:
    """The value; 0 for NaN and infinities."""
    return value if math.isfinite(value) else 0.0


def count(number: int, noun: str) -> str:
    """A number with its noun: `1 trial`, `2 trials`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def clock(seconds: float) -> str:
    """A duration as hours, minutes and seconds: `0:01:30`; a question mark if it is not finite."""
    if not math.isfinite(seconds):
        return "?"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *([cell.replace("|", "&#124;") for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def code(text: str) -> str:
    """A text from outside as Markdown code on one line."""
    plain = "".join(character if character.isprintable() else " " for character in text)
    return f"`{plain.replace('`', chr(39))}`"
