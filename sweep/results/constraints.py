"""The grammar of constraints on metrics, for the search that checks them and for the report that reads them back."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from sweep.results.sweeps import number


@dataclass(frozen=True)
class Bound:
    """What a value has to keep, such as `<=50000` or `>0.97`.

    Attributes:
        relation: `<=`, `>=`, `<` or `>`.
        value: a finite number.
    """

    relation: str
    value: float

    @staticmethod
    def parse(text: str) -> Bound | None:
        """The bound that a text writes, whatever spaces are in it; None for another form."""
        match = re.fullmatch(r"([<>]=?)(.+)", "".join(text.split()))
        if match is None or math.isnan(value := number(match[2])):
            return None
        return Bound(match[1], value)

    @property
    def limits(self) -> tuple[float, float]:
        """The lowest and the highest float64 that keep it; an infinity where a side is open."""
        below = self.relation.startswith("<")
        reached = self.relation.endswith("=")
        end = self.value if reached else math.nextafter(self.value, -math.inf if below else math.inf)
        return (-math.inf, end) if below else (end, math.inf)
