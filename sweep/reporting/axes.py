"""The section of the report on the effect of each axis on the objectives."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from sweep.core.metrics import METRICS
from sweep.core.text import table
from sweep.results import sweeps
from sweep.results.sweeps import Sweep, Trial

_MAX_VALUES = 8
"""An axis with more values is reported by quartiles of its trials."""


def section(sweep: Sweep) -> Iterator[str]:
    """A table of the objectives by value, for each axis with several values."""
    objectives = tuple(sweep.objectives)
    trials = [trial for trial in sweep.complete if all(math.isfinite(trial.metrics[name]) for name in objectives)]
    parts = []
    for key in sweep.keys:
        rows = []
        for value, members in _by_value(trials, key):
            spreads = (_mean_and_spread([trial.metrics[name] for trial in members]) for name in objectives)
            cells = (METRICS[name].text(*spread) for name, spread in zip(objectives, spreads, strict=True))
            rows.append([value, str(len(members)), *cells])
        if len(rows) > 1:
            shares = {name: share[key] for name, share in sweep.importances.items() if key in share}
            numbers = ", ".join(f"`{name}` {share:.2f}" for name, share in shares.items())
            importance = f"Optuna's importance for {numbers}.\n\n" if numbers else ""
            parts.append(f"### `{key}`\n\n{importance}{table(['value', 'trials', *objectives], rows)}")
    if parts:
        intro = (
            "Mean ± sample standard deviation over the complete trials with that value, over all other settings: how far"
            " they lie apart, not how well the mean is known."
        )
        if sweep.sampler is not None:
            intro += " A search does not combine values evenly, so these means are no fair comparison."
        elif len(trials) < len(sweep.trials):
            intro += " Trials without a result are missing, so the values are not combined evenly."
        if sweep.pruned:
            intro += " What was stopped early was behind: a value that it had looks better here than it is."
        if sweep.importances:
            intro += " Optuna's importances add up to 1 over the axes of an objective; they do not say which way."
        yield "\n\n".join([f"## What each axis does\n\n{intro}", *parts])


def _by_value(trials: Sequence[Trial], key: str) -> Iterator[tuple[str, list[Trial]]]:
    """Groups the trials by their value of an axis, or by quartiles for a continuous axis."""
    applicable = [trial for trial in trials if key in trial.overrides]
    numbers = {trial.number: sweeps.number(trial.overrides[key]) for trial in applicable}
    numeric = not any(map(math.isnan, numbers.values()))
    ordered = sorted(applicable, key=lambda trial: (numbers[trial.number], trial.number)) if numeric else applicable
    texts = dict.fromkeys(trial.overrides[key] for trial in ordered)
    if numeric and len(texts) > _MAX_VALUES:
        for part in np.array_split(np.arange(len(ordered)), 4):
            members = [ordered[index] for index in part.tolist()]
            low, high = (f"{numbers[trial.number]:.3g}" for trial in (members[0], members[-1]))
            yield f"{low} to {high}", members
    else:
        for text in texts:
            yield text, [trial for trial in ordered if trial.overrides[key] == text]
    if without := [trial for trial in trials if key not in trial.overrides]:
        yield "(does not apply)", without


def _mean_and_spread(values: Sequence[float]) -> tuple[float, float]:
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else math.nan
