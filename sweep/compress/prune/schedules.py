"""Sparsity schedules: constant, and the polynomial one of gradual pruning."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from sweep.core.errors import (
    require_number,
)


class SparsitySchedule(Protocol):
    """The sparsity over the course of the fine-tuning."""

    def fraction(self, done: float) -> float:
        """The fraction of the final sparsity, in [0, 1], after the fraction `done` of the fine-tuning, in [0, 1]."""


@dataclass(frozen=True)
class ConstantSparsity:
    """One-shot pruning to the final sparsity before the fine-tuning."""

    def fraction(self, done: float) -> float:
        """Always 1."""
        return 1.0


@dataclass(frozen=True)
class PolynomialSparsity:
    """Gradual pruning (Zhu and Gupta 2017, arXiv 1710.01878, eq. 1, with an initial sparsity of 0).

    Args:
        power: the exponent, above 0; 3 is the paper's cubic schedule.
        end: the fraction of the fine-tuning after which the final sparsity is reached, in (0, 1].
    """

    power: float = 3.0
    end: float = 0.75

    def __post_init__(self) -> None:
        require_number("power", self.power, 0, 1e3, open_low=True)
        require_number("end", self.end, 1e-6, 1)

    def fraction(self, done: float) -> float:
        """1 - (1 - done / end)^power, then 1."""
        return float(1.0 - max(0.0, 1.0 - done / self.end) ** self.power)
