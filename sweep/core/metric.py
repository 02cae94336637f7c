"""What a metric is: how its values are ordered, searched on and written for people, and how they are computed."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass, field, fields
from enum import Enum, IntEnum
from pathlib import Path
from typing import Any, Literal

from sweep.core import jsonfiles
from sweep.core.errors import require_choice
from sweep.core.measurement import Measurement

Direction = Literal["maximize", "minimize"]


class Kind(Enum):
    """What a metric is about."""

    ACCURACY = "a fraction of correct predictions, in [0, 1]"
    FILE_SIZE = "bytes that the file takes where it is stored"
    PROPERTY = "something else about the file"
    COST = "what the trial took, which says nothing about the file"


class Prominence(IntEnum):
    """Where people see a metric; each level includes those below it."""

    RECORD = 0
    """In the records and the model card."""
    HOVER = 1
    """Where one points at a trial in the plot."""
    TABLE = 2
    """In the table of the front."""
    HEADLINE = 3
    """In the line about a chosen model."""


def _unknown(measurement: Measurement) -> None:
    """Nothing."""


def _plain(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def percent(value: float) -> str:
    """A fraction in per cent (`98.31%`)."""
    return f"{value:.2%}"


def kib(value: float) -> str:
    """Bytes in KiB (`2.00 KiB`)."""
    return f"{value / 1024:.2f} KiB"


@dataclass(frozen=True)
class Quantity:
    """A number as people read it: `factor` times its value, in `unit`.

    Attributes:
        title: what an axis of a plot is named.
        unit: after the number.
        factor: from the recorded value to the unit.
        decimals: how many people see; None for as many as show three digits.
        logarithmic: whether its ratios count rather than its differences: on the axes of plots, for the knee and for the
            hypervolume.
    """

    title: str
    _: KW_ONLY
    unit: str = ""
    factor: float = 1.0
    decimals: int | None = None
    logarithmic: bool = False

    @property
    def label(self) -> str:
        """What an axis says: the title and the unit."""
        return f"{self.title} ({self.unit})" if self.unit else self.title

    def text(self, value: float, deviation: float = math.nan) -> str:
        """A value, and its standard deviation where one is known, in the unit; a dash for a value that is not finite."""
        shown = value * self.factor
        if not math.isfinite(shown):
            return "–"
        places = self.decimals
        if places is None:
            places = min(max(2 - math.floor(math.log10(abs(shown))), 0), 9) if shown else 0
        spread = f" ± {deviation * self.factor:,.{places}f}" if deviation > 0 else ""
        return f"{shown:,.{places}f}{spread} {self.unit}".rstrip()


@dataclass(frozen=True)
class Metric(Quantity):
    """An entry of the table.

    Attributes:
        meaning: what is measured, in Markdown.
        direction: which way is better; None where neither is.
        searchable: whether objectives and constraints may name it: not what was measured on the test split.
        kind: what it is about.
        prominence: where people see it.
        in_line: how a value is written within a line of text.
        only: of which files there is one; empty where there is of every file.
        compute: its value from what was measured; None where that does not tell. Without it, it is read from records alone.
    """

    meaning: str
    _: KW_ONLY
    direction: Direction | None
    searchable: bool = True
    kind: Kind = Kind.PROPERTY
    prominence: Prominence = Prominence.RECORD
    in_line: Callable[[float], str] = _plain
    only: str = ""
    compute: Callable[[Measurement], float | int | None] = field(default=_unknown, compare=False)

    def as_record(self) -> dict[str, Any]:
        """What of it can be written down: all but its functions."""
        values = {entry.name: getattr(self, entry.name) for entry in fields(self) if entry.name not in ("in_line", "compute")}
        return values | {"kind": self.kind.name, "prominence": self.prominence.name}

    @staticmethod
    def of_record(path: Path, record: Mapping[str, Any]) -> Metric:
        """The metric that was written down.

        Args:
            path: of the record.
            record: as `as_record`.

        Raises:
            ConfigError: for a record that is damaged.
        """

        def get(name: str, kind: type, default: Any = None) -> Any:
            return jsonfiles.get(path, record, name, kind, default)

        direction, kind, prominence = get("direction", str), get("kind", str, ""), get("prominence", str, "")
        for name, value, known in (
            ("direction", direction, ("maximize", "minimize", None)),
            ("kind", kind, tuple(Kind.__members__)),
            ("prominence", prominence, tuple(Prominence.__members__)),
        ):
            require_choice(f"{path}: {name}", value, known)
        return Metric(
            title=get("title", str, ""),
            meaning=get("meaning", str, ""),
            unit=get("unit", str, ""),
            factor=get("factor", float, 1.0),
            decimals=get("decimals", int),
            logarithmic=record.get("logarithmic") is True,
            direction=direction,
            searchable=record.get("searchable") is True,
            kind=Kind[kind],
            prominence=Prominence[prominence],
            only=get("only", str, ""),
        )
