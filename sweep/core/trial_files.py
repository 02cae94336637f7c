"""The files that a run leaves in its folder.

Whoever writes or reads one names it by its entry here, so that the next run of the same name knows what to remove. A trial's
`trial.json` is none of them: it is its sweep's, which writes it before the trial starts.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path


class TrialFile(StrEnum):
    """The name of a file, to be joined to the folder."""

    CONFIG = "config.yaml"
    OVERRIDES = "overrides"
    LOG = "log"
    MODEL = "model.tflite"
    METRICS = "metrics.json"
    BASELINES = "baselines.json"
    BITS = "bits.json"
    DATA = "data.json"
    EXAMPLE = "example.json"
    SENSITIVITY_TABLE = "sensitivity.csv"
    SENSITIVITY_PLOT = "sensitivity.png"
    PRUNED = "pruned.txt"
    KNOWN = "known.json"
    ERROR = "error.txt"


def remove(folder: Path) -> None:
    """Remove what an earlier run left, and what it was writing when it was killed. Whatever else lies there stays."""
    for path in (*(folder / name for name in TrialFile), *folder.glob(".*.aside")):
        path.unlink(missing_ok=True)
