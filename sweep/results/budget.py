"""The choice of the best model of a sweep within a budget."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from sweep.core.errors import require_number
from sweep.core.metrics import METRICS, directions
from sweep.results import pareto, sweeps
from sweep.results.sweeps import Limits, Sweep, Trial

_NEAREST = 3


@dataclass(frozen=True)
class Budget:
    """Bounds on the size, accuracy and latency of a model; None leaves a quantity unbounded.

    Args:
        max_kib: the largest size in KiB, above 0.
        min_accuracy: the smallest `val_accuracy`, in [0, 1].
        max_latency_ms: the largest `latency_ms`, above 0.
        metric: the metric of the size, in bytes.

    Raises:
        ConfigError: for a value outside these ranges.
    """

    max_kib: float | None = None
    min_accuracy: float | None = None
    max_latency_ms: float | None = None
    metric: str = "size_bytes"

    def __post_init__(self) -> None:
        if self.max_kib is not None:
            require_number("--max-kib", self.max_kib, 0, open_low=True)
        if self.min_accuracy is not None:
            require_number("--min-accuracy", self.min_accuracy, 0, 1)
        if self.max_latency_ms is not None:
            require_number("--max-latency-ms", self.max_latency_ms, 0, open_low=True)

    @property
    def limits(self) -> Limits:
        """Metric to (lowest, highest) value, of the bounds that are set."""
        limits = {}
        if self.max_kib is not None:
            limits[self.metric] = (-math.inf, self.max_kib * 1024)
        if self.min_accuracy is not None:
            limits["val_accuracy"] = (self.min_accuracy, math.inf)
        if self.max_latency_ms is not None:
            limits["latency_ms"] = (-math.inf, self.max_latency_ms)
        return limits

    @property
    def order(self) -> Mapping[str, str]:
        """The objectives in lexicographic order: accuracy first, or size first if only an accuracy is bounded."""
        if self.min_accuracy is not None and self.max_kib is None:
            return directions(self.metric, "val_accuracy")
        return directions("val_accuracy", self.metric)


class NoneFits(LookupError):
    """No trial is within the budget. The message lists the nearest trials and the bounds that each violates."""


def choose(sweep: Sweep, budget: Budget) -> Trial:
    """The best complete trial within the sweep's constraints and the budget, by `budget.order`, then by number.

    Raises:
        NoneFits: when no trial is.
    """
    trials = sweep.complete
    columns = {name: [trial.metrics[name] for trial in trials] for name in METRICS}
    points = pareto.oriented(columns, budget.order)
    violations = pareto.violation(columns, sweep.limits) + pareto.violation(columns, budget.limits)
    if (row := pareto.best(points, violations)) is not None:
        return trials[row]
    if not trials:
        raise NoneFits(f"{sweep.name} has no complete trial")
    near = [trials[row] for row in pareto.nearest(points, violations, _NEAREST)]
    lines = [f"no trial of {sweep.name} keeps the budget" + (f"; the nearest of {len(trials)}:" if near else "")]
    lines += [
        f"  trial {trial.number}: {', '.join(_violations(trial, sweep, budget))}  ({overrides_text(trial)})" for trial in near
    ]
    raise NoneFits("\n".join(lines))


def _violations(trial: Trial, sweep: Sweep, budget: Budget) -> Iterator[str]:
    """The constraints and bounds that a trial violates, as text."""
    for metric, (low, high) in [*sweep.limits.items(), *budget.limits.items()]:
        value = trial.metrics[metric]
        if value > high:
            yield f"{metric} {METRICS[metric].in_line(value)}, allowed {METRICS[metric].in_line(high)}"
        elif value < low:
            yield f"{metric} {METRICS[metric].in_line(value)}, needed {METRICS[metric].in_line(low)}"


def overrides_text(trial: Trial) -> str:
    """A trial by its overrides, as on the command line."""
    return sweeps.override_line(trial.overrides) or "the defaults"
