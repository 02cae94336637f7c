"""What every stage has that hands a network on as it received it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from sweep.core.stage import Evidence, Outcome
from sweep.core.types import Checkpoint
from sweep.train.context import Context, required


@dataclass(frozen=True)
class Unchanged:
    """A stage that does nothing, to derive a group's `none` from."""

    does_nothing = True
    weights_decide_shapes = False

    def apply(self, network: Checkpoint | None, context: Context) -> Outcome:
        """Returns the network unchanged."""
        return Outcome(required(network))

    def untrained(self) -> Self:
        """Itself."""
        return self

    def evidence(self, network: Checkpoint) -> Evidence:
        """Nothing."""
        return Evidence()
