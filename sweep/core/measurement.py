"""What is measured of a trial's file, before it becomes metrics. What was not measured is None."""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from sweep.core.types import Array


@dataclass(frozen=True, eq=False)
class Predictions:
    """The predictions of a file on a split.

    Attributes:
        predicted: the class of each image, int64 (n,).
        labels: the right ones, int64 (n,).
        classes: how many there are.
    """

    predicted: Array
    labels: Array
    classes: int

    @property
    def accuracy(self) -> float:
        """Top-1, in [0, 1]: the images whose label is predicted, over all images."""
        return int(np.count_nonzero(self.predicted == self.labels)) / len(self.labels)


@dataclass(frozen=True, eq=False)
class FileFacts:
    """What is counted on a file's own tensors and operators.

    Attributes:
        parameters: weights and biases.
        nonzero_parameters: those of them that are not zero.
        sparsity: the fraction of the targeted weights that are zero, or of the filters that are gone, in [0, 1].
        macs: multiply-accumulates for one image.
        weight_bits: mean stored bits per weight.
        distinct_weight_levels: the largest number of different values in one weight tensor.
    """

    parameters: int
    nonzero_parameters: int
    sparsity: float
    macs: int
    weight_bits: float
    distinct_weight_levels: int


@dataclass(frozen=True)
class Latency:
    """Time of one image on one thread in milliseconds: the median, the 10th and the 90th percentile."""

    median_ms: float
    p10_ms: float
    p90_ms: float


@dataclass(frozen=True)
class Cost:
    """What a trial took.

    Attributes:
        train_seconds: time that its stages took in this run.
        stages_reused: how many came from the cache.
        seconds_saved: time that those took when they were computed.
    """

    train_seconds: float
    stages_reused: int
    seconds_saved: float


@dataclass(frozen=True, eq=False, kw_only=True)
class Measurement:
    """A file and what was measured of it.

    Attributes:
        content: the file's bytes.
        facts: what was counted on it.
        start_bytes: bytes of the float32 file of the network that one started from.
        validation: its predictions on the validation split.
        test: its predictions on the test split.
        float_accuracy: validation accuracy of the Keras model just before conversion, in [0, 1].
        latency: its time for one image.
        cost: what the trial took.
        device: what was measured on a device, by metric; empty where nothing was.
    """

    content: bytes
    facts: FileFacts | None = None
    start_bytes: int | None = None
    validation: Predictions | None = None
    test: Predictions | None = None
    float_accuracy: float | None = None
    latency: Latency | None = None
    cost: Cost | None = None
    device: Mapping[str, float | int] = field(default_factory=dict)

    @cached_property
    def gzip_bytes(self) -> int:
        """Bytes of the file deflated at level 9."""
        return len(gzip.compress(self.content, 9, mtime=0))
