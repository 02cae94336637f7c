"""The table of metrics: what is measured of a trial's file, and how each number is ordered, searched on and written.

`METRICS` is the table, `Metrics` the values of one trial. Everything that lists metrics (`metrics.json`, MLflow, the CSV files,
objectives and constraints, `sweep.best`, the report, `docs/metrics.md`) reads the table. A new metric is an entry and its field
here, and the code that computes it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, asdict, dataclass, fields
from enum import Enum, IntEnum
from functools import partial
from types import MappingProxyType
from typing import Literal

Direction = Literal["maximize", "minimize"]


class Kind(Enum):
    """What a metric is about."""

    ACCURACY = "a fraction of right answers, in [0, 1]"
    FILE_SIZE = "bytes that the file takes where it is stored"
    PROPERTY = "something else about the file"
    COST = "what the trial took, which says nothing about the file"


class Prominence(IntEnum):
    """Where people see a metric; each level includes those below it."""

    RECORD = 0
    """In the records and the model card."""
    HOVER = 1
    """Where one points at a trial in the plot."""
    TABLE = 2
    """In the table of the front."""
    HEADLINE = 3
    """In the line about a chosen model."""


def _plain(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def _percent(value: float) -> str:
    return f"{value:.2%}"


def _kib(value: float) -> str:
    return f"{value / 1024:.2f} KiB"


@dataclass(frozen=True)
class Quantity:
    """A number as people read it: `factor` times its value, in `unit`.

    Attributes:
        title: what an axis of a plot is named.
        unit: after the number.
        factor: from the recorded value to the unit.
        decimals: how many people see; None for as many as show three digits.
        logarithmic: whether its ratios count rather than its differences: on the axes of plots, for the knee and for the
            hypervolume.
    """

    title: str
    _: KW_ONLY
    unit: str = ""
    factor: float = 1.0
    decimals: int | None = None
    logarithmic: bool = False

    @property
    def label(self) -> str:
        """What an axis says: the title and the unit."""
        return f"{self.title} ({self.unit})" if self.unit else self.title

    def text(self, value: float, deviation: float = math.nan) -> str:
        """A value, and its standard deviation where one is known, in the unit; a dash for a value that is not finite."""
        shown = value * self.factor
        if not math.isfinite(shown):
            return "–"
        places = self.decimals
        if places is None:
            places = min(max(2 - math.floor(math.log10(abs(shown))), 0), 9) if shown else 0
        spread = f" ± {deviation * self.factor:,.{places}f}" if deviation > 0 else ""
        return f"{shown:,.{places}f}{spread} {self.unit}".rstrip()


@dataclass(frozen=True)
class Metric(Quantity):
    """An entry of the table.

    Attributes:
        meaning: what is measured, in Markdown.
        direction: which way is better; None where neither is.
        searchable: whether objectives and constraints may name it: not what was measured on the test split.
        kind: what it is about.
        prominence: where people see it.
        in_line: how a value is written within a line of text.
        only: of which files there is one; empty where there is of every file.
    """

    meaning: str
    _: KW_ONLY
    direction: Direction | None
    searchable: bool = True
    kind: Kind = Kind.PROPERTY
    prominence: Prominence = Prominence.RECORD
    in_line: Callable[[float], str] = _plain
    only: str = ""


_accuracy = partial(Metric, unit="%", factor=100, decimals=2, direction="maximize", kind=Kind.ACCURACY, in_line=_percent)
_file_size = partial(
    Metric, unit="KiB", factor=1 / 1024, logarithmic=True, direction="minimize", kind=Kind.FILE_SIZE, in_line=_kib
)
_NPU_ONLY = "where the target is an Ethos-U"
_npu_bytes = partial(Metric, unit="KiB", factor=1 / 1024, logarithmic=True, direction="minimize", in_line=_kib, only=_NPU_ONLY)
_thousands = partial(Metric, unit="thousands", factor=1e-3, logarithmic=True, direction="minimize")
_milliseconds = partial(Metric, unit="ms", logarithmic=True, direction="minimize")

METRICS: Mapping[str, Metric] = MappingProxyType(
    {
        "val_accuracy": _accuracy(
            "Validation accuracy",
            "top-1 of the file, run by LiteRT on the validation split, in [0, 1]",
            prominence=Prominence.HEADLINE,
        ),
        "test_accuracy": _accuracy(
            "Test accuracy",
            "the same on the test split",
            searchable=False,
            prominence=Prominence.HEADLINE,
        ),
        "float_accuracy": _accuracy(
            "Accuracy before conversion",
            "validation accuracy of the Keras model just before conversion",
        ),
        "conversion_gap": Metric(
            "Conversion gap",
            "`float_accuracy` less `val_accuracy`",
            unit="%",
            factor=100,
            decimals=2,
            direction="minimize",
        ),
        "size_bytes": _file_size(
            "Size of the file",
            "bytes of the file",
            prominence=Prominence.HEADLINE,
        ),
        "gzip_bytes": _file_size(
            "Size of the file, deflated",
            "bytes of the file deflated at level 9",
            prominence=Prominence.HOVER,
        ),
        "efficiency": Metric(
            "Efficiency",
            "test accuracy in per cent per KiB of `size_bytes`",
            unit="%/KiB",
            direction="maximize",
            searchable=False,
            prominence=Prominence.TABLE,
        ),
        "compression": Metric(
            "Compression",
            "bytes of the float32 file of the network one started from (the teacher where there is one) over `size_bytes`",
            unit="×",
            decimals=1,
            logarithmic=True,
            direction="maximize",
            prominence=Prominence.TABLE,
        ),
        "parameters": _thousands(
            "Parameters",
            "weights and biases, counted on the file's tensors",
        ),
        "nonzero_parameters": _thousands(
            "Parameters that are not zero",
            "those of them that are not zero",
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
        ),
        "macs": Metric(
            "Multiply-accumulates",
            "multiply-accumulates for one image, counted on the file's operators",
            unit="millions",
            factor=1e-6,
            logarithmic=True,
            direction="minimize",
            prominence=Prominence.HOVER,
        ),
        "weight_bits": Metric(
            "Bits per weight",
            "mean stored bits per weight",
            decimals=2,
            direction="minimize",
            prominence=Prominence.TABLE,
        ),
        "distinct_weight_levels": Metric(
            "Different values in a weight tensor",
            "the largest number of different values in one weight tensor",
            direction="minimize",
        ),
        "latency_ms": _milliseconds(
            "Latency",
            "median time for one image, run by LiteRT on one thread of this machine, in milliseconds",
            prominence=Prominence.TABLE,
        ),
        "latency_p10_ms": _milliseconds("Latency, 10th percentile", "its 10th percentile"),
        "latency_p90_ms": _milliseconds("Latency, 90th percentile", "its 90th percentile"),
        "arena_bytes": Metric(
            "RAM of a microcontroller",
            "bytes of the tensor arena that TFLM's interpreter allocates on this machine; of float32 and full-integer files,"
            " where `tflite-micro` is installed",
            unit="KiB",
            factor=1 / 1024,
            logarithmic=True,
            direction="minimize",
            prominence=Prominence.HEADLINE,
            in_line=_kib,
            only="of float32 and full-integer files that TFLM loads, where tflite-micro is installed",
        ),
        "target_agreement": _accuracy(
            "Agreement with LiteRT",
            "the fraction of `target.images` validation images that TFLM gives the class that LiteRT gives; with `target=tflm`",
            only="where the target is tflm",
        ),
        "tflm_accuracy": _accuracy(
            "Validation accuracy under TFLM",
            "top-1 of the file, run by TFLM on the validation split; with `target=tflm target.accuracy=true`",
            only="where the target is tflm, with target.accuracy=true",
        ),
        "npu_bytes": _npu_bytes(
            "Size of the compiled file",
            "bytes of the file that Vela compiles for the target, an Ethos-U",
        ),
        "npu_sram_bytes": _npu_bytes(
            "SRAM of the Ethos-U",
            "the most bytes of SRAM in use at once there, as Vela says",
        ),
        "npu_ms": _milliseconds(
            "Time on the Ethos-U",
            "time of one image there, as Vela estimates it, in milliseconds",
            only=_NPU_ONLY,
        ),
        "npu_operators": Metric(
            "Operators on the NPU",
            "the fraction of the operators that the NPU computes, in [0, 1]; Vela leaves the others to the processor",
            unit="%",
            factor=100,
            decimals=1,
            direction="maximize",
            only=_NPU_ONLY,
        ),
        "train_seconds": Metric(
            "Training time",
            "time that the trial's stages took in this run, in seconds",
            unit="s",
            direction="minimize",
            kind=Kind.COST,
        ),
        "stages_reused": Metric(
            "Stages reused",
            "how many stages came from the cache",
            direction=None,
            kind=Kind.COST,
        ),
        "seconds_saved": Metric(
            "Time saved",
            "time that those took when they were computed, in seconds",
            unit="s",
            direction=None,
            kind=Kind.COST,
        ),
    }
)
"""The table: metric name to its entry, in the order of the records."""


@dataclass(frozen=True, kw_only=True)
class Metrics:
    """The values of one trial: a field for each entry of `METRICS`, in its order. None where the file has none."""

    val_accuracy: float
    test_accuracy: float
    float_accuracy: float
    conversion_gap: float
    size_bytes: int
    gzip_bytes: int
    efficiency: float
    compression: float
    parameters: int
    nonzero_parameters: int
    sparsity: float
    macs: int
    weight_bits: float
    distinct_weight_levels: int
    latency_ms: float
    latency_p10_ms: float
    latency_p90_ms: float
    arena_bytes: int | None = None
    target_agreement: float | None = None
    tflm_accuracy: float | None = None
    npu_bytes: int | None = None
    npu_sram_bytes: int | None = None
    npu_ms: float | None = None
    npu_operators: float | None = None
    train_seconds: float
    stages_reused: int
    seconds_saved: float

    def as_dict(self) -> dict[str, float | int]:
        """Metric name to value, in the order above; without those that the file has none of."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    def summary(self, sparse: str) -> str:
        """One line for people.

        Args:
            sparse: what the sparsity is a fraction of (`conv and dense weights zero`).
        """
        memory = "" if self.arena_bytes is None else f", {self.arena_bytes:,} bytes of RAM"
        return (
            f"test {self.test_accuracy:.2%}, validation {self.val_accuracy:.2%}, {self.size_bytes:,} bytes"
            f" ({self.compression:.1f}x smaller){memory}, {self.sparsity:.0%} of {sparse}, {self.latency_ms:.2f} ms"
        )


if tuple(METRICS) != tuple(entry.name for entry in fields(Metrics)):
    raise TypeError(f"Metrics: expected the fields {', '.join(METRICS)}; found {', '.join(Metrics.__dataclass_fields__)}")

SEARCHABLE = tuple(name for name, metric in METRICS.items() if metric.searchable)
"""The metrics that objectives and constraints may name."""


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
