"""The base of stages that return the network unchanged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from sweep.core.stage import Evidence, Outcome
from sweep.core.types import Checkpoint
from sweep.train.context import Context, required


@dataclass(frozen=True)
class Unchanged:
    """A stage that does nothing, the base class of a group's `none`."""

    does_nothing = True
    weights_decide_shapes = False

    def apply(self, network: Checkpoint | None, context: Context) -> Outcome:
        """Returns the network unchanged."""
        return Outcome(required(network))

    def untrained(self) -> Self:
        """Itself."""
        return self

    def evidence(self, network: Checkpoint) -> Evidence:
        """No evidence, since nothing changed."""
        return Evidence()
