"""What a file answers in LiteRT, and what it takes on its target, whoever made it: measured once, kept in the cache."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from sweep.core.measurement import Answers
from sweep.core.types import Arrays, Data, Progress
from sweep.pipeline import sources
from sweep.pipeline.memo import Memo
from sweep.pipeline.protocols import Target
from sweep.tflite import benchmark
from sweep.tflite.interface import OWN, Interface


def answers(
    content: bytes, data: Data, memo: Memo, *, threads: int, progress: Progress, interface: Interface = OWN
) -> tuple[Answers, Answers]:
    """Returns a file's answers on the validation and the test split.

    Args:
        content: the file's bytes.
        data: has the splits.
        memo: the stage cache.
        threads: of the interpreter.
        progress: where to say that it measures.
        interface: of a file that takes or gives something else than those of this project.

    Raises:
        MeasureError: for a file that does not run on such images.
    """
    splits = {"validation": data.validation, "test": data.test}

    def measure() -> Arrays:
        progress.stage("measure")
        return {name: benchmark.predict(content, split.images, threads, interface) for name, split in splits.items()}

    key = {
        "answers of": hashlib.sha256(content).hexdigest(),
        "interface": interface,
        "data": data.split_hash,
        "code": sources.behind(benchmark).digest,
    }
    predicted = memo.arrays(key, measure)
    validation, test = (Answers(predicted[name], split.labels, data.classes) for name, split in splits.items())
    return validation, test


def on_target(
    content: bytes, target: Target, data: Data, memo: Memo, *, threads: int, progress: Progress, interface: Interface = OWN
) -> dict[str, Any]:
    """Returns the metrics of a file that are about a device, by name; those that there are none of are left out.

    Args:
        content: the file's bytes.
        target: the device.
        data: has the validation split.
        memo: the stage cache.
        threads: of LiteRT, which the target is compared with.
        progress: where to say that it measures.
        interface: of a file that takes or gives something else than those of this project.

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
