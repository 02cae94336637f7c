"""The data types that the packages exchange: frozen dataclasses of numpy arrays, and protocols.

This module does no computation, reads no file and imports no TensorFlow; every package may import it.
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
    """A data set in three splits.

    Attributes:
        name: the data set's name.
        classes: the number of classes.
        train: the images for training and calibration.
        validation: images held out of the official training images; the only ones that a search may see.
        test: the official test split; reported, never used for a choice.
        content_hash: sha256 (hex) of the official arrays, before splitting.
        split_hash: sha256 (hex) of the content hash and the parameters of the splits.
        class_names: the names of the classes, in order; empty where they have none but their numbers.
    """

    name: str
    classes: int
    train: Split
    validation: Split
    test: Split
    content_hash: str
    split_hash: str
    class_names: tuple[str, ...] = ()

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(height, width, channels) of one image."""
        height, width, channels = self.train.images.shape[1:]
        return int(height), int(width), int(channels)


class Spec(Protocol):
    """The specification of a network: a frozen dataclass whose fields are its hyperparameters."""

    def check(self, input_shape: tuple[int, int, int]) -> None:
        """Checks the input shape (height, width, channels) without TensorFlow.

        Raises:
            ConfigError: for images that are too small for the network.
        """

    def kinds(self) -> frozenset[str]:
        """The prunable kinds of layer in the network: a subset of {"conv", "dense"}."""

    def build(self, input_shape: tuple[int, int, int], classes: int) -> Any:
        """Builds the Keras model with fresh weights: float32 (n, height, width, channels) in [0, 1] to logits (n, classes)."""


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A network between two stages, as data, so that no TensorFlow state passes from one stage to the next.

    Attributes:
        architecture: the float network as Keras JSON.
        weights: the weights, in the order of `model.get_weights()`; after `qat` those of the fake-quantised model.
        masks: layer name to pruning mask, bool of the kernel's shape; False marks a weight that stays zero.
        clusters: layer name to cluster indices, int of the kernel's shape; weights with the same index are equal.
        filters: layer name to (filters before pruning, filters left), for layers that lost filters.
        bits: layer name to bit-width of the kernel in a full-integer file; empty before `quant`.
    """

    architecture: str
    weights: tuple[Array, ...]
    masks: Mapping[str, Array] = field(default_factory=dict)
    clusters: Mapping[str, Array] = field(default_factory=dict)
    filters: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    bits: Mapping[str, int] = field(default_factory=dict)

    @property
    def zeros(self) -> int:
        """The number of weights that the masks set to zero."""
        return sum(int(mask.size - np.count_nonzero(mask)) for mask in self.masks.values())

    @property
    def removed(self) -> int:
        """The number of filters that pruning removed."""
        return sum(before - left for before, left in self.filters.values())

    @property
    def fingerprint(self) -> str:
        """sha256 (hex) of the architecture and the weights."""
        digest = hashlib.sha256(self.architecture.encode())
        for weight in self.weights:
            digest.update(weight.tobytes())
        return digest.hexdigest()

    def to_arrays(self) -> dict[str, Array]:
        """The checkpoint as named arrays, none of dtype object."""
        arrays = {"architecture": np.array(self.architecture)}
        arrays |= {f"weight/{position:04d}": weight for position, weight in enumerate(self.weights)}
        arrays |= {f"mask/{name}": mask for name, mask in self.masks.items()}
        arrays |= {f"cluster/{name}": indices for name, indices in self.clusters.items()}
        arrays |= {f"filters/{name}": np.array(counts) for name, counts in self.filters.items()}
        return arrays | {f"bits/{name}": np.array(bits) for name, bits in self.bits.items()}

    @staticmethod
    def from_arrays(arrays: Arrays) -> Checkpoint:
        """The inverse of `to_arrays`; further names are ignored."""
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
    """The storage format of a `.tflite` file: the four that the converter supports."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"
    DYNAMIC = "dynamic"
    INTEGER = "integer"


@dataclass(frozen=True)
class TrialRecord:
    """An ended trial, as it is written to its folder and logged.

    Attributes:
        name: the run's name (`trial-003`, or a time stamp for a plain run).
        folder: the folder of its files.
        swept: override key to text, for the axes of the sweep in their order; empty for a plain run.
        params: every leaf of the composed configuration, dotted key to text.
        metrics: metric name to value; empty for a failed trial.
        curves: stage name to its learning curves.
        tags: further facts (data-set hash, git commit, versions).
        error: why the trial failed or was stopped; None for a finished one.
        start: the time of its start, in seconds since the epoch.
        end: the time of its end, in seconds since the epoch.
        pruned: whether it was stopped early or refused before training.
        parent_run_id: the id of the sweep's run, its parent in MLflow; None for a plain run.
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
    """A progress display."""

    def stage(self, name: str, unit: str = "epoch") -> None:
        """Shows that a stage begins, whose work is counted in `unit`."""

    def advance(self, done: float, total: float, note: str) -> None:
        """Shows that `done` of `total` units are complete, with a short note such as the loss."""

    def finish(self, name: str, seconds: float, reused: bool) -> None:
        """Shows that a stage ended: computed in `seconds`, or reused from the cache, which saved `seconds`."""
