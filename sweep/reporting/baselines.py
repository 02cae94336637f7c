"""The float32 files of the uncompressed networks that a sweep's trials are compared with."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from sweep.results.sweeps import Baseline, Sweep

BASELINE_NAMES = {"start": "start network, float32", "student": "uncompressed student"}


def baselines(sweep: Sweep, role: str) -> list[list[Baseline]]:
    """The distinct baselines in a role, grouped by size and name; a group differs in accuracy alone.

    A network with several roles (a teacher that is another trial's student) is included once.

    Args:
        sweep: the sweep.
        role: `start` or `student`.
    """
    every = [baseline for trial in sweep.complete for baseline in trial.baselines]
    in_role = dict.fromkeys(baseline for baseline in every if baseline.role == role)
    if role == "student":
        starts = {(baseline.size_bytes, baseline.val_accuracy) for baseline in every if baseline.role == "start"}
        in_role = {baseline: None for baseline in in_role if (baseline.size_bytes, baseline.val_accuracy) not in starts}
    by_name = sorted(in_role, key=lambda baseline: baseline.name)
    once = {(baseline.size_bytes, baseline.val_accuracy, baseline.test_accuracy): baseline for baseline in reversed(by_name)}
    ordered = sorted(
        once.values(),
        key=lambda baseline: (baseline.size_bytes, baseline.name, baseline.val_accuracy, baseline.test_accuracy),
    )
    return [list(group) for _, group in itertools.groupby(ordered, key=lambda baseline: (baseline.size_bytes, baseline.name))]


def average(group: Sequence[Baseline], name: str) -> float:
    """The mean of a metric over the baselines of a group."""
    return float(np.mean([baseline.metrics[name] for baseline in group]))
