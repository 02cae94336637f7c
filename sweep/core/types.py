"""The values that pass between the packages: frozen dataclasses and numpy arrays.

Nothing here computes, reads a file or imports TensorFlow; every package may import this one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Arrays = Mapping[str, Array]


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
        parent_run_id: the run of its sweep, which its own run is nested under; None for a plain run.
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
    parent_run_id: str | None = None


class Progress(Protocol):
    """Where long work says how far it is."""

    def stage(self, name: str, unit: str = "epoch") -> None:
        """A stage begins to be computed; its work is counted in `unit`."""

    def advance(self, done: float, total: float, note: str) -> None:
        """`done` of `total` units are through; `note` is a word on how it goes."""

    def finish(self, name: str, seconds: float, reused: bool) -> None:
        """A stage ended: computed in `seconds`, or reused and `seconds` were saved."""
