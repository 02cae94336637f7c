"""What is known of a trial's file before anything trains: the stages are applied without their training, to random weights.

Training changes the weights of a network, not its shapes, so the operators, the multiply-accumulates, the parameters, the
stored types and the memory of the file are those of the trained one. Its bytes are nearly: equal vectors are stored once, and
how many are equal depends on the weights. Where the weights decide on the shapes (a global threshold over filters, a search for
bits) nothing is known.
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
"""Metric to the fraction by which training may change it; the others are exact."""


def rehearsed(
    stages: Mapping[Node, Stage[Context]], received: Checkpoint | None, runner: StageRunner, plan: Plan
) -> Checkpoint:
    """The network that stages without training hand on.

    Args:
        stages: node to the stage that is applied in its place, in the plan's order.
        received: the network that the first of them receives.
        runner: knows the context of each node; without its teacher where that has not been trained.
        plan: says with how many threads and under which seed.
    """
    loop.start(plan.threads)
    network = received
    for node, stage in stages.items():
        checkpoints.fresh(plan.seed)
        network = stage.apply(network, runner.context(node)).network
    return required(network)


@dataclass(frozen=True, eq=False)
class Rehearsal:
    """The plan without its training.

    Args:
        plan: what to do.
        data: its data.
        runner: has its stages.
        converter: makes the file.
        memo: keeps it.
        progress: where to say that it is made.
    """

    plan: Plan
    data: Data
    runner: StageRunner
    converter: Converter
    memo: Memo
    progress: Progress

    def tells_of(self, limits: Limits) -> bool:
        """Whether a constraint is on what is known before training."""
        return not limits.keys().isdisjoint(self._certain())

    def require(self, limits: Limits) -> None:
        """Stop a trial whose file cannot keep the constraints of its sweep.

        Args:
            limits: metric to its (lowest, highest) allowed value.

        Raises:
            TrialPruned: naming each metric, what is known of it and what is allowed, with everything that is known.
        """
        known = self.metrics()
        broken = []
        for name, value in known.items():
            low, high = limits.get(name, (-np.inf, np.inf))
            uncertain = UNCERTAINTY.get(name, 0.0) * abs(value)
            if value - uncertain > high or value + uncertain < low:
                relation, bound = ("at most", high) if value > high else ("at least", low)
                metric = METRICS[name]
                broken.append(f"{name} {metric.in_line(value)}, {relation} {metric.in_line(bound)} allowed")
        if broken:
            raise TrialPruned(f"refused before training: {'; '.join(broken)}", known)

    def metrics(self) -> dict[str, float]:
        """Metric to the value that the plan's file will have, for the metrics that training does not change."""
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
        """The student's stages without their training; those that are all training are left out."""
        student = (node for node in self.runner.nodes if node.is_student)
        return {node: stage for node in student if (stage := node.stage.untrained()) is not None}

    def _file(self) -> tuple[bytes, dict[str, int]]:
        """The bytes of the file of random weights, and the memory that it takes under TFLM where that runs it."""
        plan, stages = self.plan, self._stages()

        def make() -> Arrays:
            self.progress.stage("rehearse")
            untrained = random_weights.network(plan.model, self.data.input_shape, self.data.classes, plan.seed)
            network = rehearsed(stages, untrained, self.runner, plan)
            content = self.converter.file(network, plan.quant)
            arena = {name: np.array(size) for name, size in fitness.arena(content).items()}
            return {"tflite": np.frombuffer(content, np.uint8), **arena}

        kept = dict(self.memo.arrays(self._key, make))
        return kept.pop("tflite").tobytes(), {name: int(size) for name, size in kept.items()}

    @property
    def is_kept(self) -> bool:
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
