"""The choice of no pruning."""

from __future__ import annotations

from dataclasses import dataclass

from sweep.core.stage import Evidence, Outcome
from sweep.core.types import Checkpoint, Spec
from sweep.train.context import Context, required


@dataclass(frozen=True)
class NoPruning:
    """Every weight stays."""

    does_nothing = True
    weights_decide_shapes = False
    sparsity = 0.0
    layers = "all"
    removes_filters = False

    def apply(self, network: Checkpoint | None, context: Context) -> Outcome:
        """Returns the network unchanged."""
        return Outcome(required(network))

    def untrained(self) -> NoPruning:
        """Itself."""
        return self

    def evidence(self, network: Checkpoint) -> Evidence:
        """Nothing."""
        return Evidence()

    def share(self, fraction: float) -> NoPruning:
        """Itself."""
        return self

    def require(self, model: Spec, input_shape: tuple[int, int, int], classes: int) -> None:
        """Any network will do."""
