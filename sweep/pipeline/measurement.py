"""The measurement of a file: what its bytes show, what an interpreter answers, and what the trial that made it cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from sweep.core.measurement import Answers, Cost, FileFacts, Measurement
from sweep.core.metrics import Metrics
from sweep.core.types import Arrays, Checkpoint
from sweep.pipeline.artifacts import Artifacts
from sweep.pipeline.protocols import Target
from sweep.pipeline.runner import StageRunner
from sweep.tflite import audit, benchmark


def of_file(
    content: bytes, facts: audit.Audit, network: Checkpoint, *, layers: str, start_bytes: int, filters: int | None
) -> Measurement:
    """What training alone does not change, or hardly: known before anything was learnt.

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
    return Measurement(content=content, facts=_counted(facts, sparsity), start_bytes=start_bytes)


def of_foreign_file(
    content: bytes, facts: audit.Audit, validation: Answers, test: Answers, device: Mapping[str, float | int]
) -> Measurement:
    """All that is measured of a file whoever made it; its sparsity is of all its convolutions and dense layers.

    Args:
        content: the file.
        facts: what was read from it.
        validation: its answers on the validation split.
        test: its answers on the test split.
        device: what was measured on a device, by metric.

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
    """What a file's bytes show."""
    return FileFacts(
        parameters=facts.parameters,
        nonzero_parameters=facts.nonzero_parameters,
        sparsity=sparsity,
        macs=facts.macs,
        weight_bits=facts.weight_bits,
        distinct_weight_levels=facts.distinct_weight_levels,
    )


def known_of_a_file() -> frozenset[str]:
    """The metrics that `of_file` tells."""
    nothing = FileFacts(0, 0, 0.0, 0, 0.0, 0)
    return frozenset(Metrics.of(Measurement(content=b"\0", facts=nothing, start_bytes=1)))


def measured(file: Measurement, artifact: Arrays, artifacts: Artifacts, runner: StageRunner, target: Target) -> Measurement:
    """All that is measured of a trial.

    Args:
        file: as `of_file`.
        artifact: see `Artifacts.file`.
        artifacts: has the file's answers.
        runner: knows what the stages cost.
        target: what the file is for.

    Raises:
        Unfit: for a file that does not run on the target.
    """
    validation, test = artifacts.answers(file.content)
    return replace(
        file,
        validation=validation,
        test=test,
        float_accuracy=float(artifact["float_accuracy"]),
        latency=benchmark.latency(file.content),
        cost=Cost(runner.seconds_spent, runner.reused, runner.seconds_saved),
        device=artifacts.on_target(file.content, target),
    )
