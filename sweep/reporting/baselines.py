"""The uncompressed networks beside a sweep's trials."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from sweep.results.sweeps import Baseline, Sweep

BASELINE_NAMES = {"start": "start network, float32", "student": "uncompressed student"}


def baselines(sweep: Sweep, role: str) -> list[list[Baseline]]:
    """The different baselines in a role: files of one size, which differ in accuracy only, stay together.

    A network that was trained once and has several parts to play (a teacher that is another trial's student) is there once.
    """
    found = dict.fromkeys(baseline for trial in sweep.complete for baseline in trial.baselines if baseline.role == role)
    if role == "student":
        beginnings = (one for trial in sweep.complete for one in trial.baselines if one.role == "start")
        starts = {(one.size_bytes, one.val_accuracy) for one in beginnings}
        found = {one: None for one in found if (one.size_bytes, one.val_accuracy) not in starts}
    named = sorted(found, key=lambda one: one.name)
    once = {(one.size_bytes, one.val_accuracy, one.test_accuracy): one for one in reversed(named)}
    ordered = sorted(once.values(), key=lambda one: (one.size_bytes, one.name, one.val_accuracy, one.test_accuracy))
    return [list(group) for _, group in itertools.groupby(ordered, key=lambda one: (one.size_bytes, one.name))]


def average(group: Sequence[Baseline], name: str) -> float:
    """The mean of a metric over the baselines of a group."""
    return float(np.mean([baseline.metrics[name] for baseline in group]))
