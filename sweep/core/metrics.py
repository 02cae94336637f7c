"""The table of metrics: what is measured of a trial's file.

`METRICS` is the table, `Metrics` the values of one trial. Everything that lists metrics (`metrics.json`, MLflow, the CSV files,
objectives and constraints, `sweep.best`, the report, `docs/metrics.md`) reads the table. A new metric is an entry here, which
computes it from a `Measurement`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from operator import attrgetter
from types import MappingProxyType

import numpy as np

from sweep.core.errors import ConfigError
from sweep.core.measurement import Measurement
from sweep.core.metric import Direction, Kind, Metric, Prominence, kib, percent
from sweep.core.types import Array


def _part(part: str, name: str) -> Callable[[Measurement], float | int | None]:
    """Reads a value off a part of the measurement; None where that was not measured."""

    def read(measurement: Measurement) -> float | int | None:
        measured = getattr(measurement, part)
        value: float | int | None = None if measured is None else getattr(measured, name)
        return value

    return read


def _on_device(name: str) -> Callable[[Measurement], float | int | None]:
    """Reads what was measured on a device; None where it was not."""
    return lambda measurement: measurement.device.get(name)


def _over_recalls(statistic: Callable[[Array], float]) -> Callable[[Measurement], float | None]:
    """A statistic of the recalls of the classes that the validation split has."""

    def compute(measurement: Measurement) -> float | None:
        if (predictions := measurement.validation) is None:
            return None
        right = np.bincount(predictions.labels, predictions.predicted == predictions.labels, predictions.classes)
        images = np.bincount(predictions.labels, minlength=predictions.classes)
        return float(statistic(right[images > 0] / images[images > 0]))

    return compute


def _conversion_gap(measurement: Measurement) -> float | None:
    if measurement.float_accuracy is None or measurement.validation is None:
        return None
    return measurement.float_accuracy - measurement.validation.accuracy


def _efficiency(measurement: Measurement) -> float | None:
    return None if measurement.test is None else 100 * measurement.test.accuracy / (len(measurement.content) / 1024)


_accuracy = partial(Metric, unit="%", factor=100, decimals=2, direction="maximize", kind=Kind.ACCURACY, in_line=percent)
_file_size = partial(
    Metric, unit="KiB", factor=1 / 1024, logarithmic=True, direction="minimize", kind=Kind.FILE_SIZE, in_line=kib
)
_NPU_ONLY = "where the target is an Ethos-U"
_npu_bytes = partial(Metric, unit="KiB", factor=1 / 1024, logarithmic=True, direction="minimize", in_line=kib, only=_NPU_ONLY)
_thousands = partial(Metric, unit="thousands", factor=1e-3, logarithmic=True, direction="minimize")
_milliseconds = partial(Metric, unit="ms", logarithmic=True, direction="minimize")

_BUILT_IN: Mapping[str, Metric] = {
    "val_accuracy": _accuracy(
        "Validation accuracy",
        "top-1 of the file, run by LiteRT on the validation split, in [0, 1]",
        prominence=Prominence.HEADLINE,
        compute=_part("validation", "accuracy"),
    ),
    "test_accuracy": _accuracy(
        "Test accuracy",
        "the same on the test split",
        searchable=False,
        prominence=Prominence.HEADLINE,
        compute=_part("test", "accuracy"),
    ),
    "macro_accuracy": _accuracy(
        "Macro-averaged accuracy",
        "the mean over the classes of the validation split of the fraction of each that is recognised (recall), in [0, 1]",
        compute=_over_recalls(np.mean),
    ),
    "min_recall": _accuracy(
        "Lowest recall of a class",
        "the fraction that is recognised of the class of the validation split where that is lowest, in [0, 1]",
        compute=_over_recalls(np.min),
    ),
    "float_accuracy": _accuracy(
        "Accuracy before conversion",
        "validation accuracy of the Keras model just before conversion",
        compute=attrgetter("float_accuracy"),
    ),
    "conversion_gap": Metric(
        "Conversion gap",
        "`float_accuracy` less `val_accuracy`",
        unit="%",
        factor=100,
        decimals=2,
        direction="minimize",
        compute=_conversion_gap,
    ),
    "size_bytes": _file_size(
        "Size of the file",
        "bytes of the file",
        prominence=Prominence.HEADLINE,
        compute=lambda of: len(of.content),
    ),
    "gzip_bytes": _file_size(
        "Size of the file, deflated",
        "bytes of the file deflated at level 9",
        prominence=Prominence.HOVER,
        compute=attrgetter("gzip_bytes"),
    ),
    "efficiency": Metric(
        "Efficiency",
        "test accuracy in per cent per KiB of `size_bytes`",
        unit="%/KiB",
        direction="maximize",
        searchable=False,
        prominence=Prominence.TABLE,
        compute=_efficiency,
    ),
    "compression": Metric(
        "Compression",
        "bytes of the float32 file of the network one started from (the teacher where there is one) over `size_bytes`",
        unit="×",
        decimals=1,
        logarithmic=True,
        direction="maximize",
        prominence=Prominence.TABLE,
        compute=lambda of: None if of.start_bytes is None else of.start_bytes / len(of.content),
    ),
    "parameters": _thousands(
        "Parameters",
        "weights and biases, counted on the file's tensors",
        compute=_part("facts", "parameters"),
    ),
    "nonzero_parameters": _thousands(
        "Parameters that are not zero",
        "those of them that are not zero",
        compute=_part("facts", "nonzero_parameters"),
    ),
    "sparsity": Metric(
        "Sparsity of the pruned layers",
        "the fraction of the weights of convolutions, dense layers or both (as `prune.layers` says; depthwise kernels and"
        " biases are no part of it) that are exactly zero in the file, in [0, 1]; where filters were removed, the fraction"
        " of those that could be",
        unit="%",
        factor=100,
        decimals=1,
        direction="maximize",
        prominence=Prominence.TABLE,
        compute=_part("facts", "sparsity"),
    ),
    "macs": Metric(
        "Multiply-accumulates",
        "multiply-accumulates for one image, counted on the file's operators",
        unit="millions",
        factor=1e-6,
        logarithmic=True,
        direction="minimize",
        prominence=Prominence.HOVER,
        compute=_part("facts", "macs"),
    ),
    "weight_bits": Metric(
        "Bits per weight",
        "mean stored bits per weight",
        decimals=2,
        direction="minimize",
        prominence=Prominence.TABLE,
        compute=_part("facts", "weight_bits"),
    ),
    "distinct_weight_levels": Metric(
        "Different values in a weight tensor",
        "the largest number of different values in one weight tensor",
        direction="minimize",
        compute=_part("facts", "distinct_weight_levels"),
    ),
    "latency_ms": _milliseconds(
        "Latency",
        "median time for one image, run by LiteRT on one thread of this machine, in milliseconds",
        prominence=Prominence.TABLE,
        compute=_part("latency", "median_ms"),
    ),
    "latency_p10_ms": _milliseconds("Latency, 10th percentile", "its 10th percentile", compute=_part("latency", "p10_ms")),
    "latency_p90_ms": _milliseconds("Latency, 90th percentile", "its 90th percentile", compute=_part("latency", "p90_ms")),
    "arena_bytes": Metric(
        "RAM of a microcontroller",
        "bytes of the tensor arena that TFLM's interpreter allocates on this machine; of float32 and full-integer files,"
        " where `tflite-micro` is installed",
        unit="KiB",
        factor=1 / 1024,
        logarithmic=True,
        direction="minimize",
        prominence=Prominence.HEADLINE,
        in_line=kib,
        only="of float32 and full-integer files that TFLM loads, where tflite-micro is installed",
        compute=_on_device("arena_bytes"),
    ),
    "target_agreement": _accuracy(
        "Agreement with LiteRT",
        "the fraction of `target.images` validation images that TFLM gives the class that LiteRT gives; with `target=tflm`",
        only="where the target is tflm",
        compute=_on_device("target_agreement"),
    ),
    "tflm_accuracy": _accuracy(
        "Validation accuracy under TFLM",
        "top-1 of the file, run by TFLM on the validation split; with `target=tflm target.accuracy=true`",
        only="where the target is tflm, with target.accuracy=true",
        compute=_on_device("tflm_accuracy"),
    ),
    "npu_bytes": _npu_bytes(
        "Size of the compiled file",
        "bytes of the file that Vela compiles for the target, an Ethos-U",
        compute=_on_device("npu_bytes"),
    ),
    "npu_sram_bytes": _npu_bytes(
        "SRAM of the Ethos-U",
        "the most bytes of SRAM in use at once there, as Vela says",
        compute=_on_device("npu_sram_bytes"),
    ),
    "npu_ms": _milliseconds(
        "Time on the Ethos-U",
        "time of one image there, as Vela estimates it, in milliseconds",
        only=_NPU_ONLY,
        compute=_on_device("npu_ms"),
    ),
    "npu_operators": Metric(
        "Operators on the NPU",
        "the fraction of the operators that the NPU computes, in [0, 1]; Vela leaves the others to the processor",
        unit="%",
        factor=100,
        decimals=1,
        direction="maximize",
        only=_NPU_ONLY,
        compute=_on_device("npu_operators"),
    ),
    "train_seconds": Metric(
        "Training time",
        "time that the trial's stages took in this run, in seconds",
        unit="s",
        direction="minimize",
        kind=Kind.COST,
        compute=_part("cost", "train_seconds"),
    ),
    "stages_reused": Metric(
        "Stages reused",
        "how many stages came from the cache",
        direction=None,
        kind=Kind.COST,
        compute=_part("cost", "stages_reused"),
    ),
    "seconds_saved": Metric(
        "Time saved",
        "time that those took when they were computed, in seconds",
        unit="s",
        direction=None,
        kind=Kind.COST,
        compute=_part("cost", "seconds_saved"),
    ),
}
_table = dict(_BUILT_IN)

METRICS: Mapping[str, Metric] = MappingProxyType(_table)
"""The table: metric name to its entry, in the order of the records. Those of the user's own come last (see `extend`)."""

OF_TARGETS = frozenset(name for name, metric in _BUILT_IN.items() if metric.only)
"""The metrics that a target measures; which of them depends on the target."""


@dataclass(frozen=True)
class Metrics(Mapping[str, float | int]):
    """The values of one trial, by name and as attributes, in the order of `METRICS`. What was not measured is not there.

    Args:
        values_by_name: metric name to value.
    """

    values_by_name: Mapping[str, float | int]

    @staticmethod
    def of(measurement: Measurement) -> Metrics:
        """The metrics that a measurement tells."""
        found = ((name, metric.compute(measurement)) for name, metric in METRICS.items())
        return Metrics({name: value for name, value in found if value is not None})

    def __getitem__(self, name: str) -> float | int:
        return self.values_by_name[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.values_by_name)

    def __len__(self) -> int:
        return len(self.values_by_name)

    def __getattr__(self, name: str) -> float | int:
        try:
            found: float | int = self.__dict__["values_by_name"][name]
        except KeyError:
            raise AttributeError(name) from None
        return found

    def summary(self, sparse: str) -> str:
        """One line for people.

        Args:
            sparse: what the sparsity is a fraction of (`conv and dense weights zero`).
        """
        memory = f", {self.arena_bytes:,} bytes of RAM" if "arena_bytes" in self else ""
        return (
            f"test {self.test_accuracy:.2%}, validation {self.val_accuracy:.2%}, {self.size_bytes:,} bytes"
            f" ({self.compression:.1f}x smaller){memory}, {self.sparsity:.0%} of {sparse}, {self.latency_ms:.2f} ms"
        )


def extend(own: Mapping[str, Metric]) -> None:
    """Adds metrics of the user's own to the table, in place of those that were added under the same names.

    Raises:
        ConfigError: for a name that is none, or is a built-in metric's.
    """
    for name, metric in own.items():
        if not re.fullmatch(r"[a-z][a-z0-9_]{,99}", name):
            raise ConfigError("metrics", "names of small letters, digits and underscores", repr(name))
        if name in _BUILT_IN:
            raise ConfigError("metrics", "a name that no other metric has", name)
        _table[name] = metric


def own() -> dict[str, Metric]:
    """The metrics that were added to the table."""
    return {name: metric for name, metric in METRICS.items() if name not in _BUILT_IN}


def searchable() -> tuple[str, ...]:
    """The metrics that objectives and constraints may name."""
    return tuple(name for name, metric in METRICS.items() if metric.searchable)


def absent(name: str, value: float | None) -> bool:
    """Whether a recorded value says that the file has none of this metric, which not every file has."""
    return METRICS[name].only != "" and (value is None or math.isnan(value))


def of_kind(kind: Kind) -> tuple[str, ...]:
    """The metrics of a kind, in the order of the records."""
    return tuple(name for name, metric in METRICS.items() if metric.kind is kind)


def seen_in(prominence: Prominence) -> tuple[str, ...]:
    """The metrics that people see at a level, the more prominent first, and else in the order of the records."""
    names = (name for name, metric in METRICS.items() if metric.prominence >= prominence)
    return tuple(sorted(names, key=lambda name: -METRICS[name].prominence))


def directions(*names: str) -> dict[str, Direction]:
    """Which way each of some metrics is better, by name, in the order given; a ValueError where neither way is."""
    found: dict[str, Direction] = {}
    for name in names:
        if (direction := METRICS[name].direction) is None:
            raise ValueError(f"{name}: neither more nor less of it is better")
        found[name] = direction
    return found
