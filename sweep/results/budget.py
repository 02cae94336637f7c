"""The choice of the best model of a sweep within a budget."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from sweep.core.errors import ConfigError, require_number
from sweep.core.metrics import METRICS, directions
from sweep.results import pareto, sweeps
from sweep.results.sweeps import Limits, Sweep, Trial

_NEAREST = 3


TARGETS = ("litert", "tflm")
"""The targets that are no Arm Ethos-U, of which there is one for each accelerator (`ethos_u55_128`)."""
_NPU = "ethos_u"


@dataclass(frozen=True)
class Budget:
    """What the model may take on its device, and what it must reach.

    Args:
        max_kib: KiB of `metric`, above 0.
        min_accuracy: of `val_accuracy`, in [0, 1].
        max_ms: milliseconds of `time_metric`, above 0.
        metric: which size counts.
        max_ram_kib: KiB of `ram_metric`, above 0.
        target: where the file must run: `litert`, `tflm`, or an Ethos-U; None is the same as `litert`.

    Raises:
        ConfigError: for a value outside these ranges.
    """

    max_kib: float | None = None
    min_accuracy: float | None = None
    max_ms: float | None = None
    metric: str = "size_bytes"
    max_ram_kib: float | None = None
    target: str | None = None

    def __post_init__(self) -> None:
        if self.max_kib is not None:
            require_number("--max-kib", self.max_kib, 0, open_low=True)
        if self.min_accuracy is not None:
            require_number("--min-accuracy", self.min_accuracy, 0, 1)
        if self.max_ms is not None:
            require_number("--max-ms", self.max_ms, 0, open_low=True)
        if self.max_ram_kib is not None:
            require_number("--max-ram-kib", self.max_ram_kib, 0, open_low=True)
        if self.target is not None and self.target not in TARGETS and not self.on_npu:
            raise ConfigError("--target", f"{', '.join(TARGETS)} or an Ethos-U such as {_NPU}55_128", self.target)

    @property
    def on_npu(self) -> bool:
        """Whether the file is to run on an Ethos-U."""
        return self.target is not None and self.target.startswith(_NPU)

    @property
    def ram_metric(self) -> str:
        """The metric that `max_ram_kib` bounds, in bytes."""
        return "npu_sram_bytes" if self.on_npu else "arena_bytes"

    @property
    def time_metric(self) -> str:
        """The metric that `max_ms` bounds."""
        return "npu_ms" if self.on_npu else "latency_ms"

    @property
    def limits(self) -> Limits:
        """Metric to (lowest, highest) value, of the bounds that are set."""
        limits = {}
        if self.max_kib is not None:
            limits[self.metric] = (-math.inf, self.max_kib * 1024)
        if self.min_accuracy is not None:
            limits["val_accuracy"] = (self.min_accuracy, math.inf)
        if self.max_ram_kib is not None:
            limits[self.ram_metric] = (-math.inf, self.max_ram_kib * 1024)
        if self.max_ms is not None:
            limits[self.time_metric] = (-math.inf, self.max_ms)
        return limits

    @property
    def order(self) -> Mapping[str, str]:
        """The objectives in lexicographic order: accuracy first, or size first if only an accuracy is bounded."""
        if self.min_accuracy is not None and self.max_kib is None:
            return directions(self.metric, "val_accuracy")
        return directions("val_accuracy", self.metric)

    def runs(self, trial: Trial) -> bool:
        """Whether a complete trial's file is known to run on the target.

        Raises:
            ConfigError: for a configuration that cannot be read; asked for only where the target is an Ethos-U.
        """
        if self.on_npu:
            return known(trial, "npu_ms") and any(text == self.target for text in _texts(trial.config().get("target")))
        return self.target != "tflm" or known(trial, "arena_bytes")


def known(trial: Trial, metric: str) -> bool:
    """Whether a metric of a trial was measured; those of devices are not measured of every file."""
    return not math.isnan(trial.metrics.get(metric, math.nan))


def _texts(node: object) -> Iterator[str]:
    """The values of a configuration node, written as the names of targets are: `ethos_u55_128` for `ethos-u55-128`."""
    if isinstance(node, Mapping):
        for value in node.values():
            yield from _texts(value)
    else:
        yield str(node).lower().replace("-", "_")


class NoneFits(LookupError):
    """No trial is within the budget. The message lists the nearest trials and the bounds that each violates."""


def choose(sweep: Sweep, budget: Budget) -> Trial:
    """The trial to ship: of the complete ones within the sweep's constraints and the budget the first by `budget.order`.

    Equals go by number. A trial that is not known to run on the target, or lacks the metric of a bound, is left out.

    Raises:
        NoneFits: when there is none.
        ConfigError: as `Budget.runs`.
    """
    if not sweep.complete:
        raise NoneFits(f"{sweep.name} has no complete trial")
    trials = [trial for trial in sweep.complete if budget.runs(trial)]
    if not trials:
        proof = "`npu_ms` measured with that target" if budget.on_npu else "`arena_bytes`"
        raise NoneFits(
            f"no trial of {sweep.name} is known to run on {budget.target}: none of {len(sweep.complete)} has {proof}"
        )
    limits = [*sweep.limits.items(), *budget.limits.items()]
    names = dict.fromkeys([*(name for name, _ in limits), *budget.order])
    columns = {name: [trial.metrics.get(name, math.nan) for trial in trials] for name in names}
    points = pareto.oriented(columns, budget.order)
    violations = pareto.violation(columns, sweep.limits) + pareto.violation(columns, budget.limits)
    if (row := pareto.best(points, violations)) is not None:
        return trials[row]
    near = [trials[row] for row in pareto.nearest(points, violations, _NEAREST)]
    lines = [f"no trial of {sweep.name} keeps the budget" + (f"; the nearest of {len(trials)}:" if near else "")]
    lines += [f"  trial {trial.number}: {', '.join(_misses(trial, limits))}  ({overrides_text(trial)})" for trial in near]
    lacking = {name: sum(not known(trial, name) for trial in trials) for name in names}
    if left_out := ", ".join(f"{count} of {len(trials)} without {name}" for name, count in lacking.items() if count):
        lines.append(f"  left out, since what was not measured cannot be said to keep a bound: {left_out}")
    raise NoneFits("\n".join(lines))


def _misses(trial: Trial, limits: Iterable[tuple[str, tuple[float, float]]]) -> Iterator[str]:
    """What of the constraints and the budget a trial does not keep."""
    for metric, (low, high) in limits:
        value = trial.metrics[metric]
        if not known(trial, metric):
            yield f"no {metric}"
        elif value > high:
            yield f"{metric} {METRICS[metric].in_line(value)}, allowed {METRICS[metric].in_line(high)}"
        elif value < low:
            yield f"{metric} {METRICS[metric].in_line(value)}, needed {METRICS[metric].in_line(low)}"


def overrides_text(trial: Trial) -> str:
    """A trial by its overrides, as on the command line."""
    return sweeps.override_line(trial.overrides) or "the defaults"
