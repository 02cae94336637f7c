"""The metrics of a file: what its bytes show, what an interpreter measures, and what the trial that made it cost."""

from __future__ import annotations

from typing import NamedTuple

from sweep.core.metrics import Metrics
from sweep.core.types import Arrays, Checkpoint
from sweep.pipeline.artifacts import Artifacts
from sweep.pipeline.runner import StageRunner
from sweep.tflite import audit, benchmark


class FileMetrics(NamedTuple):
    """The metrics of a file that training alone does not change, or hardly: known before anything was learnt."""

    size_bytes: int
    gzip_bytes: int
    compression: float
    parameters: int
    nonzero_parameters: int
    sparsity: float
    macs: int
    weight_bits: float
    distinct_weight_levels: int

    @staticmethod
    def of(
        content: bytes, facts: audit.Audit, network: Checkpoint, *, layers: str, start_bytes: int, filters: int | None
    ) -> FileMetrics:
        """The metrics of a file.

        Args:
            content: the file.
            facts: what was read from it.
            network: what it was made of.
            layers: the targeted kernels: `conv`, `dense` or `all`.
            start_bytes: bytes of the float32 file of the network that one started from.
            filters: how many filters the student had before pruning; needed only where filters were removed.
        """
        sparsity = facts.sparsity(layers)
        if network.filters and filters is not None:
            sparsity = (filters - facts.filters) / sum(before for before, _ in network.filters.values())
        return FileMetrics(**_counted(content, facts, sparsity), compression=start_bytes / len(content))  # type: ignore[arg-type]


def of_file(content: bytes, facts: audit.Audit, accuracies: tuple[float, float]) -> dict[str, float | int]:
    """The metrics that a file has whoever made it, by name; `sparsity` is of all its convolutions and dense layers.

    Args:
        content: the file.
        facts: what was read from it.
        accuracies: on the validation and the test split, in [0, 1].

    Raises:
        MeasureError: for a file that does not run.
    """
    return _counted(content, facts, facts.sparsity("all")) | _run(content, accuracies)


def measured(file: FileMetrics, artifact: Arrays, artifacts: Artifacts, runner: StageRunner) -> Metrics:
    """All metrics of a trial.

    Args:
        file: what its file's bytes show.
        artifact: see `Artifacts.file`.
        artifacts: answers the accuracies.
        runner: knows what the stages cost.
    """
    content = artifact["tflite"].tobytes()
    accuracies, float_accuracy = artifacts.accuracies(content), float(artifact["float_accuracy"])
    return Metrics(
        **file._asdict(),
        **_run(content, accuracies),  # type: ignore[arg-type]
        float_accuracy=float_accuracy,
        conversion_gap=float_accuracy - accuracies[0],
        train_seconds=runner.seconds_spent,
        stages_reused=runner.reused,
        seconds_saved=runner.seconds_saved,
    )


def _counted(content: bytes, facts: audit.Audit, sparsity: float) -> dict[str, float | int]:
    """What a file's bytes show."""
    return {
        "size_bytes": len(content),
        "gzip_bytes": benchmark.gzip_bytes(content),
        "parameters": facts.parameters,
        "nonzero_parameters": facts.nonzero_parameters,
        "sparsity": sparsity,
        "macs": facts.macs,
        "weight_bits": facts.weight_bits,
        "distinct_weight_levels": facts.distinct_weight_levels,
    }


def _run(content: bytes, accuracies: tuple[float, float]) -> dict[str, float]:
    """What an interpreter measures."""
    latency = benchmark.latency(content)
    return {
        "val_accuracy": accuracies[0],
        "test_accuracy": accuracies[1],
        "efficiency": 100 * accuracies[1] / (len(content) / 1024),
        "latency_ms": latency.median_ms,
        "latency_p10_ms": latency.p10_ms,
        "latency_p90_ms": latency.p90_ms,
    }
