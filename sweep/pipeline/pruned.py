"""The exception of a trial that is stopped before its end although nothing failed."""

from __future__ import annotations

from collections.abc import Mapping


class TrialPruned(Exception):
    """The trial was stopped before a stage that trains, since it is not expected to reach the front.

    Attributes:
        known: metric to the value that its file would have, for a trial whose file would violate a constraint; else empty.
    """

    def __init__(self, reason: str, known: Mapping[str, float] | None = None) -> None:
        super().__init__(reason)
        self.known = {} if known is None else dict(known)
