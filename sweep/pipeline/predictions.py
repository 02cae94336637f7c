"""The predictions of a file in LiteRT, and its metrics on a target, computed once through the cache."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from sweep.core.measurement import Predictions
from sweep.core.types import Arrays, Data, Progress
from sweep.pipeline import sources
from sweep.pipeline.memo import Memo
from sweep.pipeline.protocols import Target
from sweep.tflite import benchmark
from sweep.tflite.interface import OWN, Interface


def predictions(
    content: bytes, data: Data, memo: Memo, *, threads: int, progress: Progress, interface: Interface = OWN
) -> tuple[Predictions, Predictions]:
    """Returns the predictions of a file on the validation and the test split.

    Args:
        content: the bytes of the file.
        data: has the splits.
        memo: the stage cache.
        threads: the number of interpreters that run at once.
        progress: shows that the file is measured.
        interface: the scaling of the input and the meaning of the output.

    Raises:
        MeasureError: for a file that does not run on such images.
    """
    splits = {"validation": data.validation, "test": data.test}

    def measure() -> Arrays:
        progress.stage("measure")
        return {name: benchmark.predict(content, split.images, threads, interface) for name, split in splits.items()}

    key = {
        "predictions of": hashlib.sha256(content).hexdigest(),
        "interface": interface,
        "data": data.split_hash,
        "code": sources.behind(benchmark).digest,
    }
    predicted = memo.arrays(key, measure)
    validation, test = (Predictions(predicted[name], split.labels, data.classes) for name, split in splits.items())
    return validation, test


def on_target(
    content: bytes, target: Target, data: Data, memo: Memo, *, threads: int, progress: Progress, interface: Interface = OWN
) -> dict[str, Any]:
    """Returns the device metrics of a file, by name; without those that do not exist for it.

    Args:
        content: the bytes of the file.
        target: the device.
        data: has the validation split.
        memo: the stage cache.
        threads: the number of LiteRT interpreters that run at once, for the comparison.
        progress: shows that the file is measured.
        interface: the scaling of the input and the meaning of the output.

    Raises:
        Unfit: for a file that does not run on the target.
    """

    def measure() -> Arrays:
        progress.stage("measure")
        measured = target.measured(content, data.validation, threads, interface)
        return {name: np.array(value) for name, value in measured.items()}

    key = {
        "on target": target,
        "file": hashlib.sha256(content).hexdigest(),
        "interface": interface,
        "data": data.split_hash,
        "versions": target.versions,
        "code": sources.behind(target).digest,
    }
    return {name: value.item() for name, value in memo.arrays(key, measure).items()}
