"""The accuracies of a file, whoever made it: measured once, kept in the cache."""

from __future__ import annotations

import hashlib

import numpy as np

from sweep.core.types import Arrays, Data, Progress
from sweep.pipeline import sources
from sweep.pipeline.memo import Memo
from sweep.tflite import benchmark
from sweep.tflite.interface import OWN, Interface


def accuracies(
    content: bytes, data: Data, memo: Memo, *, threads: int, progress: Progress, interface: Interface = OWN
) -> tuple[float, float]:
    """Top-1 of a file on the validation and the test split, in [0, 1].

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

    def measure() -> Arrays:
        progress.stage("measure")
        splits = (data.validation, data.test)
        return {"accuracies": np.array([benchmark.accuracy(content, split, threads, interface) for split in splits])}

    key = {
        "accuracy of": hashlib.sha256(content).hexdigest(),
        "interface": interface,
        "data": data.split_hash,
        "code": sources.behind(benchmark).digest,
    }
    validation, test = memo.arrays(key, measure)["accuracies"]
    return float(validation), float(test)
