"""One trial: its stages in their order, through the cache, into a file that is then verified and measured.

The only module that knows the order of things.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from sweep.compress.quantize.formats import Float32
from sweep.core.metrics import Metrics
from sweep.core.types import Checkpoint, Curves, Data, Progress
from sweep.pipeline.artifacts import Artifacts
from sweep.pipeline.cache import Cache
from sweep.pipeline.conversion import Converter
from sweep.pipeline.measurement import measured, of_file
from sweep.pipeline.memo import Memo
from sweep.pipeline.plan import Plan
from sweep.pipeline.preflight import Preflight
from sweep.pipeline.pruner import Pruner
from sweep.pipeline.runner import StageRunner
from sweep.pipeline.verification import require_budgets, verified
from sweep.results.examples import Example
from sweep.results.sweeps import Limits


@dataclass(frozen=True, eq=False)
class Result:
    """What a plan came to.

    Attributes:
        content: the bytes of the `.tflite`.
        metrics: what is known of it.
        curves: stage name to its learning curves.
        baselines: the float32 files of the uncompressed networks: `start`, what one started from (the teacher where there is
            one), and `student`; each with its stage's `name`, `size_bytes`, `val_accuracy` and `test_accuracy`.
        bits: layer name to the bits of its kernel's grid; empty where the file is not of integers.
        example: an image that the file classifies right; None where that is none of the first of the test split.
        data: the data it was trained and measured on.
    """

    content: bytes
    metrics: Metrics
    curves: Mapping[str, Curves]
    baselines: Mapping[str, Mapping[str, Any]]
    bits: Mapping[str, int]
    example: Example | None
    data: Data


def run(
    plan: Plan, store: Cache, progress: Progress, front: Path | None = None, limits: Limits = MappingProxyType({})
) -> Result:
    """Carry the plan out: stages, file, audit, measurements.

    Args:
        plan: what to do.
        store: where finished stages are, and go.
        progress: where to say how far it is.
        front: the file with the front of the sweep so far, read before each stage that trains; None to go on whatever comes.
        limits: metric to the (lowest, highest) value that the sweep's constraints allow.

    Raises:
        TrialPruned: when the file could not keep the limits, or what is to be expected of the plan is dominated already.
        ConfigError: before anything trains, for what cannot work.
        AuditError: when the file does not show what the plan asked for, or exceeds a budget of the target.
        Unfit: when the file does not run on the target.
        Exception: whatever a stage, the converter or the interpreter could not do.
    """
    plan.target.require_form(plan.quant)
    trial = _Trial.of(plan, store, progress, front)
    trial.take_stages(limits)
    return trial.result()


def network(plan: Plan, store: Cache, progress: Progress) -> tuple[Checkpoint, Data]:
    """The network as the stages before quantisation leave it, and its data. No file is written, nothing is measured.

    Args:
        plan: what to do; its quantisation plays no part, so the network is that of every run that differs in it alone.
        store: where finished stages are, and go.
        progress: where to say how far it is.

    Raises:
        ConfigError: before anything trains, for what cannot work.
        Exception: whatever a stage could not do.
    """
    trial = _Trial.of(replace(plan, quant=Float32()), store, progress, None)
    trial.take_stages({})
    return trial.runner.network(trial.runner.last), trial.data


@dataclass(frozen=True, eq=False)
class _Trial:
    """The parts of one trial."""

    plan: Plan
    data: Data
    runner: StageRunner
    preflight: Preflight
    pruner: Pruner
    artifacts: Artifacts

    @staticmethod
    def of(plan: Plan, store: Cache, progress: Progress, front: Path | None) -> _Trial:
        data = plan.check()
        memo, converter = Memo(store), Converter(store, data, plan.seed, plan.threads)
        runner = StageRunner(plan, data, memo, converter, progress)
        artifacts = Artifacts(runner, converter, memo, data, plan.threads, progress)
        preflight = Preflight(plan, data, runner, converter, memo, progress)
        pruner = Pruner(front, plan, runner, artifacts, converter, progress)
        return _Trial(plan, data, runner, preflight, pruner, artifacts)

    def take_stages(self, limits: Limits) -> None:
        """Take every stage in the plan's order, but what does not need one that another process is computing goes before it."""
        self.preflight.require_within(limits)
        while ready := self.runner.ready():
            for node in ready:
                if not self.runner.holds(node):
                    self.preflight.require()
                self.pruner.require(node)
                if self.runner.take(node, wait=False):
                    break
            else:
                self.runner.take(ready[0], wait=True)

    def result(self) -> Result:
        """Make, verify and measure the file."""
        runner, artifacts = self.runner, self.artifacts
        network = runner.network(runner.last)
        artifact = artifacts.file(runner.last, self.plan.quant)
        baselines = {"start": artifacts.baseline(runner.start), "student": artifacts.baseline(runner.student)}
        filters = artifacts.filters(runner.student) if network.filters else None
        stages = [node.stage for node in runner.nodes if node.is_student]
        facts, content = verified(self.plan, stages, network, artifact, filters), artifact["tflite"].tobytes()
        file = of_file(
            content,
            facts,
            network,
            layers=self.plan.prune.layers,
            start_bytes=len(artifacts.float_file(runner.start)),
            filters=filters,
        )
        curves = {node.name: runner.curves(node) for node in runner.nodes}
        metrics = Metrics.of(measured(file, artifact, artifacts, runner, self.plan.target))
        require_budgets(self.plan.target, metrics)
        return Result(content, metrics, curves, baselines, network.bits, artifacts.example(content), self.data)
