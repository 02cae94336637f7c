"""The values that pass between the layers: frozen dataclasses and numpy arrays, and the one error for bad input.

Nothing here computes, reads a file or imports TensorFlow; every other module may import this one.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Arrays = Mapping[str, Array]


def shortened(text: str, limit: int = 300) -> str:
    """The text on one line, what cannot be printed escaped, the middle of a long one left out for a …."""
    line = "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in " ".join(text.split()))
    if len(line) <= limit:
        return line
    end = (limit - 1) // 2
    return f"{line[: limit - 1 - end]}…{line[-end:]}"


class ConfigError(ValueError):
    """A value that the user gave and that cannot be used: what was expected, what was received, and where.

    Args:
        where: the configuration key (or the file) at fault.
        expected: what would have been accepted.
        received: what was there.
    """

    def __init__(self, where: str, expected: str, received: object) -> None:
        super().__init__(where, expected, received)
        self.where, self.expected, self.received = where, expected, received

    def under(self, prefix: str) -> ConfigError:
        """The same error with its key placed below `prefix` (`sparsity` under `prune` is `prune.sparsity`)."""
        return ConfigError(f"{prefix}.{self.where}" if self.where else prefix, self.expected, self.received)

    def __str__(self) -> str:
        received = self.received if isinstance(self.received, str) else repr(self.received)
        return f"{shortened(self.where)}: expected {shortened(self.expected, 1000)}; received {shortened(received)}".rstrip()


# What float32 arithmetic takes, its products with a weight and a gradient included.
LEARNING_RATES = (1e-30, 1e30)
MOST_EPOCHS = 100_000
MOST_CHANNELS = 65_536


def require_learning_rate(where: str, value: object) -> None:
    """Refuse what is not a learning rate above 0 that float32 arithmetic takes.

    Raises:
        ConfigError: as `require_number`.
    """
    require_number(where, value, *LEARNING_RATES)


def require_epochs(where: str, value: object, least: int) -> None:
    """Refuse what is not a number of epochs, of at least `least`.

    Raises:
        ConfigError: as `require_integer`.
    """
    require_integer(where, value, least, MOST_EPOCHS)


def require_number(
    where: str, value: object, low: float, high: float = math.inf, *, open_low: bool = False, open_high: bool = False
) -> None:
    """Refuse what is not a finite number in [low, high]; `open_low` and `open_high` leave the ends out.

    Raises:
        ConfigError: for another type (a bool too), NaN, or a number outside.
    """
    if high == math.inf:
        bounds = f"above {low:g}" if open_low else f"of at least {low:g}"
    else:
        bounds = f"in {'(' if open_low else '['}{low:g}, {high:g}{')' if open_high else ']'}"
    number = isinstance(value, int) or (isinstance(value, float) and math.isfinite(value))
    if not number or isinstance(value, bool) or not low <= value <= high:  # type: ignore[operator]
        raise ConfigError(where, f"a number {bounds}", repr(value))
    if (open_low and value == low) or (open_high and value == high):
        raise ConfigError(where, f"a number {bounds}", repr(value))


def require_integer(where: str, value: object, low: int, high: int | None = None) -> None:
    """Refuse what is not an integer in [low, high].

    Raises:
        ConfigError: for another type (a bool too) or an integer outside.
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < low or (high is not None and value > high):
        most = f" and at most {high}" if high is not None else ""
        raise ConfigError(where, f"an integer of at least {low}{most}", repr(value))


def require_choice(where: str, value: object, choices: tuple[object, ...]) -> None:
    """Refuse what is not one of `choices`.

    Raises:
        ConfigError: with the choices listed.
    """
    if not any(value == choice and type(value) is type(choice) for choice in choices):
        shown = value if any(isinstance(choice, str) for choice in choices) else repr(value)
        raise ConfigError(where, f"one of {', '.join(map(str, choices))}", shown)


def require_text(where: str, value: object) -> None:
    """Refuse what is not a text with something in it.

    Raises:
        ConfigError: for another type or an empty text.
    """
    if not isinstance(value, str) or not value:
        raise ConfigError(where, "a text", repr(value))


@dataclass(frozen=True, eq=False)
class Split:
    """Images uint8 (n, height, width, channels) in [0, 255] and labels int64 (n,) in [0, classes)."""

    images: Array
    labels: Array

    def __len__(self) -> int:
        return len(self.images)


@dataclass(frozen=True, eq=False)
class Data:
    """A data set as every stage sees it.

    Attributes:
        name: the data set's name.
        classes: how many classes the labels name.
        train: what networks learn from and are calibrated on.
        validation: held out of the official training images; what a search may see.
        test: the official test split; reported, never chosen on.
        content_hash: sha256 (hex) over the official arrays, before any split.
        split_hash: sha256 (hex) over the content hash and whatever fixes the three splits.
    """

    name: str
    classes: int
    train: Split
    validation: Split
    test: Split
    content_hash: str
    split_hash: str

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(height, width, channels) of one image."""
        height, width, channels = self.train.images.shape[1:]
        return int(height), int(width), int(channels)


class Spec(Protocol):
    """A network still to be built: a frozen dataclass of one family (see `models`)."""

    def check(self, input_shape: tuple[int, int, int]) -> None:
        """Refuse, with a ConfigError and without TensorFlow, an image size that the network cannot take."""

    def kinds(self) -> frozenset[str]:
        """Which prunable kinds of layer it has: a subset of {"conv", "dense"}."""

    def build(self, input_shape: tuple[int, int, int], classes: int) -> Any:
        """The Keras model, fresh weights, from float32 (n, height, width, channels) in [0, 1] to logits (n, classes)."""


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A network between two stages, as data: nothing of one stage's TensorFlow state can leak into the next.

    Attributes:
        architecture: the float network as Keras JSON.
        weights: its arrays, in the order of `model.get_weights()`. After `qat` those of the fake-quantised model.
        masks: layer name to bool array of its kernel's shape; False marks a weight that pruning has set to zero for good.
        clusters: layer name to int array of its kernel's shape: weights with the same number are equal.
        filters: layer name to how many filters it had before pruning first removed some, and how many are left.
        bits: layer name to the bits of the grid that its kernel gets or has in a full-integer file; empty before `quant`.
    """

    architecture: str
    weights: tuple[Array, ...]
    masks: Mapping[str, Array] = field(default_factory=dict)
    clusters: Mapping[str, Array] = field(default_factory=dict)
    filters: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    bits: Mapping[str, int] = field(default_factory=dict)

    @property
    def zeros(self) -> int:
        """How many weights the masks hold at zero."""
        return sum(int(mask.size - np.count_nonzero(mask)) for mask in self.masks.values())

    @property
    def removed(self) -> int:
        """How many filters pruning has removed."""
        return sum(before - left for before, left in self.filters.values())

    @property
    def fingerprint(self) -> str:
        """sha256 (hex) of the architecture and the weights."""
        found = hashlib.sha256(self.architecture.encode())
        for weight in self.weights:
            found.update(weight.tobytes())
        return found.hexdigest()

    def to_arrays(self) -> dict[str, Array]:
        """The checkpoint as named arrays, none of dtype object."""
        arrays = {"architecture": np.array(self.architecture)}
        arrays |= {f"weight/{position:04d}": weight for position, weight in enumerate(self.weights)}
        arrays |= {f"mask/{name}": mask for name, mask in self.masks.items()}
        arrays |= {f"cluster/{name}": numbers for name, numbers in self.clusters.items()}
        arrays |= {f"filters/{name}": np.array(counts) for name, counts in self.filters.items()}
        return arrays | {f"bits/{name}": np.array(bits) for name, bits in self.bits.items()}

    @staticmethod
    def from_arrays(arrays: Arrays) -> Checkpoint:
        """The checkpoint that `to_arrays` took apart; further names are ignored."""
        weights = tuple(arrays[name] for name in sorted(arrays) if name.startswith("weight/"))
        masks, clusters, filters, bits = (
            {name.removeprefix(kind): array for name, array in arrays.items() if name.startswith(kind)}
            for kind in ("mask/", "cluster/", "filters/", "bits/")
        )
        counts = {name: (int(before), int(left)) for name, (before, left) in filters.items()}
        widths = {name: int(width) for name, width in bits.items()}
        return Checkpoint(str(arrays["architecture"]), weights, masks, clusters, counts, widths)


Curves = Mapping[str, tuple[float, ...]]
"""Metric name to one value an epoch."""


class Storage(Enum):
    """How the written file stores and computes: the four kinds of `.tflite` that the converter makes."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"
    DYNAMIC = "dynamic"
    INTEGER = "integer"


@dataclass(frozen=True)
class Metrics:
    """What is known of one trial's file. The names are the same in JSON, CSV, MLflow and objectives.

    Attributes:
        val_accuracy: top-1 in [0, 1] of the file, run by LiteRT on the validation split.
        test_accuracy: the same on the test split.
        float_accuracy: validation top-1 of the Keras model just before conversion.
        conversion_gap: float_accuracy - val_accuracy.
        size_bytes: bytes of the file.
        gzip_bytes: bytes of the file deflated at level 9.
        efficiency: test accuracy in per cent per KiB of size_bytes.
        compression: bytes of the float32 file of the network one started from, over size_bytes.
        parameters: weights and biases, counted on the file's tensors.
        nonzero_parameters: those of them that are not zero.
        sparsity: the fraction of the weights of the convolutions, the dense layers or both (what `prune.layers` says; depthwise
            kernels and biases are no part of it) that are exactly zero in the file, in [0, 1]; where filters were removed, the
            fraction of those that could be.
        macs: multiply-accumulates for one image.
        weight_bits: mean stored bits per weight.
        distinct_weight_levels: the largest number of different values in one weight tensor.
        latency_ms: median single-image, single-thread LiteRT time in milliseconds.
        latency_p10_ms: its tenth percentile.
        latency_p90_ms: its ninetieth percentile.
        train_seconds: what the trial's stages took in this run, in seconds.
        stages_reused: how many stages came from the cache.
        seconds_saved: what those took when they were computed.
    """

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
    train_seconds: float
    stages_reused: int
    seconds_saved: float

    def as_dict(self) -> dict[str, float | int]:
        """Metric name to value, in the order above."""
        return asdict(self)

    def summary(self, sparse: str) -> str:
        """One line for people.

        Args:
            sparse: what the sparsity is a fraction of (`conv and dense weights zero`).
        """
        return (
            f"test {self.test_accuracy:.2%}, validation {self.val_accuracy:.2%}, {self.size_bytes:,} bytes"
            f" ({self.compression:.1f}x smaller), {self.sparsity:.0%} of {sparse}, {self.latency_ms:.2f} ms"
        )


@dataclass(frozen=True)
class TrialRecord:
    """One finished trial, as it is written to its folder and logged.

    Attributes:
        name: the run's name (`trial-003`, or a time stamp for a plain run).
        folder: where its files are.
        swept: override key to text for what the sweep varies, in the order given; empty for a plain run.
        params: every leaf of the composed configuration, dotted key to text.
        metrics: metric name to value; empty for a failed trial.
        curves: stage name to its learning curves.
        tags: further facts (data-set hash, git commit, versions).
        error: why the trial failed or was stopped; None for a finished one.
        start: seconds since the epoch when it began.
        end: seconds since the epoch when it ended.
        pruned: whether it was stopped early because a finished trial was far ahead of it.
    """

    name: str
    folder: Path
    swept: Mapping[str, str]
    params: Mapping[str, str]
    metrics: Mapping[str, float | int]
    curves: Mapping[str, Curves]
    tags: Mapping[str, str]
    error: str | None
    start: float
    end: float
    pruned: bool = False


class Progress(Protocol):
    """Where long work says how far it is."""

    def stage(self, name: str, unit: str = "epoch") -> None:
        """A stage begins to be computed; its work is counted in `unit`."""

    def advance(self, done: float, total: float, note: str) -> None:
        """`done` of `total` units are through; `note` is a word on how it goes."""

    def finish(self, name: str, seconds: float, reused: bool) -> None:
        """A stage ended: computed in `seconds`, or reused and `seconds` were saved."""


Remember = Callable[[Mapping[str, Any], Callable[[], Arrays]], Arrays]
"""Look named arrays up under a key made of plain values, or compute and keep them."""
