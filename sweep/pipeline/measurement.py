"""The measurement of a file: its audit, its predictions, its latency, its device metrics, and the cost of its trial."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from sweep.core.measurement import Cost, FileFacts, Measurement, Predictions
from sweep.core.metrics import Metrics
from sweep.core.types import Arrays, Checkpoint
from sweep.pipeline.artifacts import Artifacts
from sweep.pipeline.protocols import Target
from sweep.pipeline.runner import StageRunner
from sweep.tflite import audit, benchmark


def of_file(
    content: bytes, facts: audit.Audit, network: Checkpoint, *, layers: str, start_bytes: int, filters: int | None
) -> Measurement:
    """The part of a measurement that training changes little or not at all, so that it is known before.

    Args:
        content: the bytes of the file.
        facts: its audit.
        network: the network that it was made of.
        layers: the targeted kernels: `conv`, `dense` or `all`.
        start_bytes: the size of the float32 file of the first network (the teacher, or else the student), in bytes.
        filters: the number of filters of the student before pruning; needed only where filters were removed.
    """
    sparsity = facts.sparsity(layers)
    if network.filters and filters is not None:
        sparsity = (filters - facts.filters) / sum(before for before, _ in network.filters.values())
    return Measurement(content=content, facts=_counted(facts, sparsity), start_bytes=start_bytes)


def of_foreign_file(
    content: bytes, facts: audit.Audit, validation: Predictions, test: Predictions, device: Mapping[str, float | int]
) -> Measurement:
    """The measurement of a file of unknown origin. Its sparsity is that of all convolutions and dense layers.

    Args:
        content: the bytes of the file.
        facts: its audit.
        validation: its predictions on the validation split.
        test: its predictions on the test split.
        device: its device metrics, by name.

    Raises:
        MeasureError: for a file that does not run.
    """
    return Measurement(
        content=content,
        facts=_counted(facts, facts.sparsity("all")),
        validation=validation,
        test=test,
        latency=benchmark.latency(content),
        device=device,
    )


def _counted(facts: audit.Audit, sparsity: float) -> FileFacts:
    """The facts of an audit that metrics are computed from."""
    return FileFacts(
        parameters=facts.parameters,
        nonzero_parameters=facts.nonzero_parameters,
        sparsity=sparsity,
        macs=facts.macs,
        weight_bits=facts.weight_bits,
        distinct_weight_levels=facts.distinct_weight_levels,
    )


def known_of_a_file() -> frozenset[str]:
    """The metrics that `of_file` gives."""
    nothing = FileFacts(0, 0, 0.0, 0, 0.0, 0)
    return frozenset(Metrics.of(Measurement(content=b"\0", facts=nothing, start_bytes=1)))


def measured(file: Measurement, artifact: Arrays, artifacts: Artifacts, runner: StageRunner, target: Target) -> Measurement:
    """The measurement of a trial's file.

    Args:
        file: the result of `of_file`.
        artifact: the result of `Artifacts.file`.
        artifacts: has the predictions of the file.
        runner: has the time of the stages.
        target: the device that the file is for.

    Raises:
        Unfit: for a file that does not run on the target.
    """
    validation, test = artifacts.predictions(file.content)
    return replace(
        file,
        validation=validation,
        test=test,
        float_accuracy=float(artifact["float_accuracy"]),
        latency=benchmark.latency(file.content),
        cost=Cost(runner.seconds_spent, runner.reused, runner.seconds_saved),
        device=artifacts.on_target(file.content, target),
    )
