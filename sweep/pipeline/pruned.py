"""How a trial ends that is not carried out to its end, though nothing failed."""

from __future__ import annotations

from collections.abc import Mapping


class TrialPruned(Exception):
    """The trial was stopped before a stage that trains: it is not to be expected that it counts for the front.

    Attributes:
        known: metric to the value that its file would have, where that is why it was stopped.
    """

    def __init__(self, reason: str, known: Mapping[str, float] | None = None) -> None:
        super().__init__(reason)
        self.known = {} if known is None else dict(known)
