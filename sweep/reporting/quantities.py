"""How metrics are shown to people: title, unit, decimals."""

from __future__ import annotations

import math
from dataclasses import dataclass

from sweep.results import sweeps

STATES = {"COMPLETE": "complete", "FAIL": "failed", "PRUNED": "stopped early", "RUNNING": "unfinished", "WAITING": "waiting"}
"""Optuna's words for people."""
SHOWN = ("val_accuracy", "test_accuracy", "size_bytes", "efficiency", "compression", "sparsity", "weight_bits", "latency_ms")
"""The metrics of the front's table, beside the objectives."""
SPARSITY = (
    "`sparsity` is the fraction that is zero of the weights of the file's convolutions, dense layers or both, as `prune.layers`"
    " says; where `prune` removes filters, the fraction of these that was removed."
)
"""What people have to know of a metric that is not of the whole file."""


@dataclass(frozen=True)
class Quantity:
    """A metric as people see it: `factor` times its value, in `unit`."""

    title: str
    unit: str = ""
    factor: float = 1.0
    logarithmic: bool = False
    decimals: int | None = None

    @property
    def label(self) -> str:
        """What an axis says."""
        return f"{self.title} ({self.unit})" if self.unit else self.title

    def text(self, value: float, deviation: float = math.nan) -> str:
        """A value, and its standard deviation where one is known, with so many decimals, or else at least three digits."""
        shown = value * self.factor
        if not math.isfinite(shown):
            return "–"
        places = self.decimals
        if places is None:
            places = min(max(2 - math.floor(math.log10(abs(shown))), 0), 9) if shown else 0
        spread = f" ± {deviation * self.factor:,.{places}f}" if deviation > 0 else ""
        return f"{shown:,.{places}f}{spread} {self.unit}".rstrip()


_QUANTITIES = {
    "val_accuracy": Quantity("Validation accuracy", "%", 100, decimals=2),
    "test_accuracy": Quantity("Test accuracy", "%", 100, decimals=2),
    "float_accuracy": Quantity("Accuracy before conversion", "%", 100, decimals=2),
    "conversion_gap": Quantity("Conversion gap", "%", 100, decimals=2),
    "size_bytes": Quantity("Size of the file", "KiB", 1 / 1024, logarithmic=True),
    "gzip_bytes": Quantity("Size of the file, deflated", "KiB", 1 / 1024, logarithmic=True),
    "efficiency": Quantity("Efficiency", "%/KiB"),
    "compression": Quantity("Compression", "×", logarithmic=True, decimals=1),
    "parameters": Quantity("Parameters", "thousands", 1e-3, logarithmic=True),
    "nonzero_parameters": Quantity("Parameters that are not zero", "thousands", 1e-3, logarithmic=True),
    "sparsity": Quantity("Sparsity of the pruned layers", "%", 100, decimals=1),
    "macs": Quantity("Multiply-accumulates", "millions", 1e-6, logarithmic=True),
    "weight_bits": Quantity("Bits per weight", decimals=2),
    "latency_ms": Quantity("Latency", "ms", logarithmic=True),
    "latency_p10_ms": Quantity("Latency, 10th percentile", "ms", logarithmic=True),
    "latency_p90_ms": Quantity("Latency, 90th percentile", "ms", logarithmic=True),
    "train_seconds": Quantity("Training time", "s"),
}


def quantity(metric: str) -> Quantity:
    """How a metric is shown; one without an entry as it is, under its own name."""
    return _QUANTITIES.get(metric, Quantity(metric))


def brief(text: str) -> str:
    """An override's text; a long number rounded to three digits."""
    value = sweeps.number(text)
    return text if math.isnan(value) or len(text) <= 6 else f"{value:.3g}"
