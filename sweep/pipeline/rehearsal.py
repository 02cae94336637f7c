"""Metrics of a trial's file that are known before training: the stages are applied to random weights, without training.

Training changes the weights of a network, not its shapes. So operators, multiply-accumulates, parameters, stored types and the
tensor arena are those of the trained file. Its size is nearly: equal vectors are stored once, and their number depends on the
weights. Where the weights decide on the shapes (a global threshold over filters, a bit search) nothing is known.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from sweep.core.metrics import METRICS
from sweep.core.stage import Stage
from sweep.core.types import Arrays, Checkpoint, Data, Progress
from sweep.devices import fitness
from sweep.models import checkpoints, random_weights
from sweep.pipeline import sources
from sweep.pipeline.conversion import Converter, kernels
from sweep.pipeline.graph import Node
from sweep.pipeline.memo import Memo
from sweep.pipeline.plan import Plan
from sweep.pipeline.pruned import TrialPruned
from sweep.pipeline.runner import StageRunner
from sweep.results.sweeps import Limits
from sweep.tflite import audit, tflm
from sweep.train import loop
from sweep.train.context import Context, required

UNCERTAINTY = {"size_bytes": 0.02}
"""Metric to the relative change that training may cause; all others are exact."""


def rehearsed(
    stages: Mapping[Node, Stage[Context]], received: Checkpoint | None, runner: StageRunner, plan: Plan
) -> Checkpoint:
    """Applies stages without their training.

    Args:
        stages: node to the stage that replaces the node's own, in the plan's order.
        received: the input network of the first stage.
        runner: has the context of each node.
        plan: has the number of threads and the seed.
    """
    loop.start(plan.threads)
    network = received
    for node, stage in stages.items():
        checkpoints.fresh(plan.seed)
        network = stage.apply(network, runner.context(node)).network
    return required(network)


@dataclass(frozen=True, eq=False)
class Rehearsal:
    """Runs a plan without its training.

    Args:
        plan: the plan.
        data: its data.
        runner: has its stages.
        converter: makes the file.
        memo: the stage cache.
        progress: shows that the file is made.
    """

    plan: Plan
    data: Data
    runner: StageRunner
    converter: Converter
    memo: Memo
    progress: Progress

    def covers(self, limits: Limits) -> bool:
        """Whether a limit is on a metric that is known before training."""
        return not limits.keys().isdisjoint(self._certain())

    def require(self, limits: Limits) -> None:
        """Stops a trial whose file would violate the constraints of its sweep.

        Args:
            limits: metric to its (lowest, highest) allowed value.

        Raises:
            TrialPruned: with each violated limit, and all metrics that are known.
        """
        known = self.metrics()
        violations = []
        for name, value in known.items():
            low, high = limits.get(name, (-np.inf, np.inf))
            uncertain = UNCERTAINTY.get(name, 0.0) * abs(value)
            if value - uncertain > high or value + uncertain < low:
                relation, bound = ("at most", high) if value > high else ("at least", low)
                metric = METRICS[name]
                violations.append(f"{name} {metric.in_line(value)}, {relation} {metric.in_line(bound)} allowed")
        if violations:
            raise TrialPruned(f"refused before training: {'; '.join(violations)}", known)

    def metrics(self) -> dict[str, float]:
        """Metric to its value in the plan's file, for the metrics that are known before training."""
        names = self._certain()
        if not names:
            return {}
        content, arena = self._file()
        facts = audit.read(content)
        values: dict[str, float] = {
            "size_bytes": len(content),
            "parameters": facts.parameters,
            "macs": facts.macs,
            "weight_bits": facts.weight_bits,
            **arena,
        }
        return {name: value for name, value in values.items() if name in names}

    def _certain(self) -> frozenset[str]:
        """The metrics that are known before training."""
        if any(node.stage.weights_decide_shapes for node in self.runner.nodes if node.is_student):
            return frozenset()
        sparse = {"size_bytes", "weight_bits"} if self.plan.quant.sparse else set()
        return frozenset({"size_bytes", "parameters", "macs", "weight_bits", "arena_bytes"} - sparse)

    def _stages(self) -> dict[Node, Stage[Context]]:
        """The student's stages without their training, except those that only train."""
        student = (node for node in self.runner.nodes if node.is_student)
        return {node: stage for node in student if (stage := node.stage.untrained()) is not None}

    def _file(self) -> tuple[bytes, dict[str, int]]:
        """The file of random weights, and its `arena_bytes` where TFLM runs it."""
        plan, stages = self.plan, self._stages()

        def make() -> Arrays:
            self.progress.stage("rehearse")
            untrained = random_weights.network(plan.model, self.data.input_shape, self.data.classes, plan.seed)
            network = rehearsed(stages, untrained, self.runner, plan)
            content = self.converter.file(network, plan.quant)
            arena = {name: np.array(size) for name, size in fitness.arena(content).items()}
            return {"tflite": np.frombuffer(content, np.uint8), **arena}

        arrays = dict(self.memo.arrays(self._key, make))
        return arrays.pop("tflite").tobytes(), {name: int(size) for name, size in arrays.items()}

    @property
    def is_cached(self) -> bool:
        """Whether the cache has the file."""
        return self.memo.store.holds(self._key)

    @cached_property
    def _key(self) -> dict[str, Any]:
        plan, stages = self.plan, self._stages()
        return {
            "rehearsal of": plan.model,
            "stages": list(stages.values()),
            "form": plan.quant,
            "data": self.data.split_hash,
            "seed": plan.seed,
            "threads": plan.threads,
            "kernels": kernels(),
            "versions": fitness.versions(tflm.DISTRIBUTION),
            "code": sources.behind(plan.model, plan.quant, Converter, random_weights, fitness, *stages.values()).digest,
        }
