"""The grammar of constraints on metrics, shared by the search and the report."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from sweep.results.sweeps import number


@dataclass(frozen=True)
class Bound:
    """A bound on a value, such as `<=50000` or `>0.97`.

    Attributes:
        relation: `<=`, `>=`, `<` or `>`.
        value: a finite number.
    """

    relation: str
    value: float

    @staticmethod
    def parse(text: str) -> Bound | None:
        """Parses a bound, with any spaces; None for another form."""
        match = re.fullmatch(r"([<>]=?)(.+)", "".join(text.split()))
        if match is None or math.isnan(value := number(match[2])):
            return None
        return Bound(match[1], value)

    @property
    def limits(self) -> tuple[float, float]:
        """The lowest and the highest float64 within the bound; infinite on the open side."""
        below = self.relation.startswith("<")
        reached = self.relation.endswith("=")
        end = self.value if reached else math.nextafter(self.value, -math.inf if below else math.inf)
        return (-math.inf, end) if below else (end, math.inf)
