"""The files of a plan's networks: made once, measured once, kept in the cache."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sweep.compress.quantize.formats import Float32
from sweep.core.types import Arrays, Data, Progress
from sweep.pipeline import sources
from sweep.pipeline.accuracies import accuracies
from sweep.pipeline.conversion import Converter
from sweep.pipeline.graph import Node
from sweep.pipeline.memo import Memo
from sweep.pipeline.protocols import Quantisation
from sweep.pipeline.runner import StageRunner
from sweep.tflite import audit


@dataclass(frozen=True, eq=False)
class Artifacts:
    """Files and their accuracies.

    Args:
        runner: has the networks.
        converter: makes their files.
        memo: the stage cache.
        data: answers the accuracies.
        threads: of the interpreter.
        progress: where to say how far it is.
    """

    runner: StageRunner
    converter: Converter
    memo: Memo
    data: Data
    threads: int
    progress: Progress

    def file(self, node: Node, form: Quantisation) -> Arrays:
        """The stage's network as a file.

        Returns:
            `tflite` and, before it was packed, `named`, uint8 (bytes,); its Keras validation accuracy (`float_accuracy`).
        """

        def make() -> Arrays:
            self.progress.stage("convert")
            return self.converter.artifact(self.runner.network(node), form)

        code = sources.behind(form, Converter).digest
        return self.memo.arrays({"file of": self.runner.digest(node), "form": form, "code": code}, make)

    def float_file(self, node: Node) -> bytes:
        """The stage's network as a float32 file."""
        return self.file(node, Float32())["tflite"].tobytes()

    def filters(self, node: Node) -> int:
        """How many filters the stage's network has, in its float32 file."""
        return audit.read(self.float_file(node)).filters

    def baseline(self, node: Node) -> dict[str, Any]:
        """What the stage's network is as a float32 file: stage name, bytes, accuracies."""
        content = self.float_file(node)
        validation, test = self.accuracies(content)
        return {"name": node.name, "size_bytes": len(content), "val_accuracy": validation, "test_accuracy": test}

    def accuracies(self, content: bytes) -> tuple[float, float]:
        """Top-1 of a file on the validation and the test split, in [0, 1]."""
        return accuracies(content, self.data, self.memo, threads=self.threads, progress=self.progress)
