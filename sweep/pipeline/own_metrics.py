"""Adds metrics that the user defines to the table of metrics."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace

from sweep.core import metrics
from sweep.core.errors import ConfigError
from sweep.core.measurement import Measurement
from sweep.core.metric import Metric
from sweep.pipeline.protocols import OwnMetric


def add(own: Mapping[str, OwnMetric]) -> None:
    """Adds metrics to the table of this process, with their `compute`.

    Raises:
        ConfigError: for an entry that is no `Metric`, and for the name of a built-in metric.
    """
    for name, metric in own.items():
        if not isinstance(metric.entry, Metric):
            raise ConfigError(f"metrics.{name}", "an entry that is a sweep.core.metric.Metric", repr(metric.entry))
    metrics.extend({name: replace(metric.entry, compute=_measure(name, metric)) for name, metric in own.items()})


def _measure(name: str, metric: OwnMetric) -> Callable[[Measurement], float | None]:
    """The `compute` of a metric: a function of a measurement that raises a ConfigError for a value that is not finite."""

    def compute(measurement: Measurement) -> float | None:
        if measurement.validation is None:
            return None
        value: object = metric.measure(measurement.content, measurement.validation)
        try:
            number = float(value)  # type: ignore[arg-type]
        except (TypeError, ValueError):
            number = math.nan
        if not math.isfinite(number):
            raise ConfigError(f"metrics.{name}", "a finite number", repr(value))
        return number

    return compute
