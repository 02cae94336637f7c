"""Texts of the report: states of trials, the definition of sparsity, and short overrides."""

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
"""The outcomes of trials in plain words."""
SPARSITY = (
    "`sparsity` is the fraction that is zero of the weights of the file's convolutions, dense layers or both, as `prune.layers`"
    " says; where `prune` removes filters, the fraction of these that was removed."
)
"""The definition of `sparsity`, which is not a fraction of the whole file."""


def brief(text: str) -> str:
    """An override's text; a long number rounded to three digits."""
    value = sweeps.number(text)
    return text if math.isnan(value) or len(text) <= 6 else f"{value:.3g}"
