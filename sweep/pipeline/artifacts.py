"""The files of a plan's networks, made and measured once through the cache."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from sweep.compress.quantize.formats import Float32
from sweep.core.measurement import Predictions
from sweep.core.types import Arrays, Data, Progress
from sweep.pipeline import sources
from sweep.pipeline.conversion import Converter
from sweep.pipeline.graph import Node
from sweep.pipeline.memo import Memo
from sweep.pipeline.predictions import on_target, predictions
from sweep.pipeline.protocols import Quantisation, Target
from sweep.pipeline.runner import StageRunner
from sweep.results.examples import Example
from sweep.tflite import audit, example


@dataclass(frozen=True, eq=False)
class Artifacts:
    """Makes and measures files.

    Args:
        runner: has the networks.
        converter: makes their files.
        memo: the stage cache.
        data: the data set.
        threads: the number of interpreters that run at once.
        progress: shows the current step.
    """

    runner: StageRunner
    converter: Converter
    memo: Memo
    data: Data
    threads: int
    progress: Progress

    def file(self, node: Node, form: Quantisation) -> Arrays:
        """Converts the network of a stage.

        Returns:
            `tflite`, the file, and `named`, the file before it was minimised, uint8 (bytes,); `float_accuracy`, the validation
            accuracy of the Keras model.
        """

        def make() -> Arrays:
            self.progress.stage("convert")
            return self.converter.artifact(self.runner.network(node), form)

        code = sources.behind(form, Converter).digest
        return self.memo.arrays({"file of": self.runner.digest(node), "form": form, "code": code}, make)

    def float_file(self, node: Node) -> bytes:
        """The float32 file of a stage's network."""
        return self.file(node, Float32())["tflite"].tobytes()

    def filters(self, node: Node) -> int:
        """The number of filters of a stage's network, counted in its float32 file."""
        return audit.read(self.float_file(node)).filters

    def baseline(self, node: Node) -> dict[str, Any]:
        """The record of a stage's network as a float32 file: stage name, bytes and accuracies."""
        content = self.float_file(node)
        validation, test = self.predictions(content)
        accuracies = {"val_accuracy": validation.accuracy, "test_accuracy": test.accuracy}
        return {"name": node.name, "size_bytes": len(content), **accuracies}

    def predictions(self, content: bytes) -> tuple[Predictions, Predictions]:
        """The predictions of a file on the validation and the test split."""
        return predictions(content, self.data, self.memo, threads=self.threads, progress=self.progress)

    def example(self, content: bytes) -> Example | None:
        """A test image that a file classifies correctly; None where none of the first is."""
        key = {
            "example of": hashlib.sha256(content).hexdigest(),
            "data": self.data.split_hash,
            "code": sources.behind(example).digest,
        }
        arrays = self.memo.arrays(key, lambda: example.widest(content, self.data.test))
        if not len(arrays["index_and_label"]):
            return None
        number, label = arrays["index_and_label"].tolist()
        return Example(number, label, arrays["input"].tobytes(), arrays["output"].tobytes())

    def on_target(self, content: bytes, target: Target) -> dict[str, Any]:
        """The device metrics of a file, by name; without those that do not exist for it.

        Raises:
            Unfit: for a file that does not run on the target.
        """
        return on_target(content, target, self.data, self.memo, threads=self.threads, progress=self.progress)
