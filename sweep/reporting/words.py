"""The report's words: states of trials, what the sparsity is of, and overrides in short."""

from __future__ import annotations

import math

from sweep.results import sweeps

OUTCOMES = {
    "COMPLETE": "complete",
    "FAIL": "failed",
    "REFUSED": "refused before training",
    "PRUNED": "stopped early",
    "RUNNING": "unfinished",
    "WAITING": "waiting",
}
"""Optuna's words for people."""
SPARSITY = (
    "`sparsity` is the fraction that is zero of the weights of the file's convolutions, dense layers or both, as `prune.layers`"
    " says; where `prune` removes filters, the fraction of these that was removed."
)
"""What `sparsity` is a fraction of, which is not the whole file."""


def brief(text: str) -> str:
    """An override's text; a long number rounded to three digits."""
    value = sweeps.number(text)
    return text if math.isnan(value) or len(text) <= 6 else f"{value:.3g}"
