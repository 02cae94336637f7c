"""The answers of a file, whoever made it: computed once, kept in the cache."""

from __future__ import annotations

import hashlib

from sweep.core.measurement import Answers
from sweep.core.types import Arrays, Data, Progress
from sweep.pipeline import sources
from sweep.pipeline.memo import Memo
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
