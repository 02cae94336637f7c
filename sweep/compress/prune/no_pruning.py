"""The choice of no pruning."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from sweep.core.types import Spec
from sweep.train.unchanged import Unchanged


@dataclass(frozen=True)
class NoPruning(Unchanged):
    """Every weight stays."""

    sparsity = 0.0
    layers = "all"
    removes_filters = False

    def share(self, fraction: float) -> Self:
        """Itself."""
        return self

    def require(self, model: Spec, input_shape: tuple[int, int, int], classes: int) -> None:
        """Any network will do."""
