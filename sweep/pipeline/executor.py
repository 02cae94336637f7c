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
    """The result of a plan.

    Attributes:
        content: the bytes of the `.tflite`.
        metrics: the metrics of the file.
        curves: stage name to its learning curves.
        baselines: the float32 files of the uncompressed networks: `start` (the teacher, or else the student) and `student`;
            each with the `name` of its stage, `size_bytes`, `val_accuracy` and `test_accuracy`.
        bits: layer name to the bit-width of its kernel; empty for a file that is not full-integer.
        example: a test image that the file classifies correctly; None where it does not classify one of the first correctly.
        data: the data set.
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
    """Runs a plan: applies the stages, makes the file, audits and measures it.

    Args:
        plan: the plan.
        store: the stage cache.
        progress: shows the current stage.
        front: the file with the current front of the sweep, read before each stage that trains; None for no early stopping.
        limits: metric to the (lowest, highest) value that the sweep's constraints allow.

    Raises:
        TrialPruned: for a file that would violate the limits, or a trial whose expected metrics are dominated.
        ConfigError: before anything trains, for a plan that cannot work.
        AuditError: for a file that is not as the plan asks, or exceeds a budget of the target.
        Unfit: for a file that does not run on the target.
        Exception: any other error of a stage, the converter or the interpreter.
    """
    plan.target.require_form(plan.quant)
    trial = _Trial.of(plan, store, progress, front)
    trial.take_stages(limits)
    return trial.result()


def network(plan: Plan, store: Cache, progress: Progress) -> tuple[Checkpoint, Data]:
    """Applies the stages before quantisation. No file is written, nothing is measured.

    Args:
        plan: the plan; its quantisation is not used.
        store: the stage cache.
        progress: shows the current stage.

    Returns:
        The network and its data.

    Raises:
        ConfigError: before anything trains, for a plan that cannot work.
        Exception: any other error of a stage.
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
        """Applies all stages in order. While another process computes a stage, those that do not need it go first."""
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
        """Makes, verifies and measures the file."""
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
