"""The dependency graph of a plan's stages."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import repeat

import numpy as np

from sweep.compress.distill import teachers
from sweep.compress.distill.stages import Train
from sweep.core.stage import Stage
from sweep.core.types import Arrays, Data, Spec
from sweep.models import checkpoints, contract
from sweep.pipeline import sources
from sweep.pipeline.memo import Memo
from sweep.pipeline.plan import Plan
from sweep.train import goals, loop, recipes
from sweep.train.context import Context


@dataclass(frozen=True, eq=False)
class ParameterCounts:
    """Counts the parameters of networks for a plan's images.

    Args:
        plan: has the number of threads and the seed that networks are built with.
        data: has the shape of the images.
        memo: caches the counts.
    """

    plan: Plan
    data: Data
    memo: Memo

    def __call__(self, model: Spec) -> int:
        """The number of parameters, including non-trainable ones.

        Raises:
            ConfigError: for a network that cannot be built.
        """

        def count() -> Arrays:
            loop.start(self.plan.threads)
            checkpoints.fresh(self.plan.seed)
            return {"parameters": np.array(contract.build(model, self.data.input_shape, self.data.classes).count_params())}

        key = {
            "parameters of": model,
            "input_shape": self.data.input_shape,
            "classes": self.data.classes,
            "code": sources.behind(model).digest,
        }
        return int(self.memo.arrays(key, count)["parameters"])


@dataclass(frozen=True, eq=False)
class Node:
    """A stage in the graph: its training recipe, its predecessor, its teacher, and the goal of its fine-tuning."""

    name: str
    stage: Stage[Context]
    model: Spec
    recipe: recipes.Recipe
    upstream: Node | None
    teacher: Node | None
    goal: goals.Goal
    is_student: bool


def stage_nodes(plan: Plan, parameters: teachers.Parameters) -> tuple[Node, ...]:
    """The stages of a plan in topological order.

    Args:
        plan: the plan.
        parameters: counts the parameters of a network, to choose assistants by size.
    """
    nodes: list[Node] = []
    teacher: Node | None = None
    for step in plan.distill.teacher_chain(plan.model, parameters):
        recipe = replace(plan.train, epochs=step.epochs or plan.train.epochs)
        teacher = Node(step.role, step.stage, step.model, recipe, None, teacher, goals.Labels(), is_student=False)
        nodes.append(teacher)
    stages: dict[str, Iterator[Stage[Context]]] = {
        "train": repeat(Train()),
        "distill": repeat(plan.distill.stage()),
        "prune": iter(_shares(plan)),
        "cluster": repeat(plan.cluster),
        "bit_search": repeat(plan.quant.bit_search),
        "quant": repeat(plan.quant.stage()),
    }
    upstream: Node | None = None
    seen = Counter[str]()
    for name in plan.pipeline.stages:
        stage = next(stages[name])
        # As the first stage, distillation without a teacher is training.
        if not (stage.does_nothing or (name == "distill" != plan.pipeline.order[0] and plan.distill.does_nothing)):
            seen[name] += 1
            goal = plan.distill.finetuning() if name in ("prune", "cluster", "quant") and stage.untrained() != stage else None
            node_teacher = teacher if name == "distill" or goal else None
            role = name if seen[name] == 1 else f"{name}_{seen[name]}"
            upstream = Node(
                role, stage, plan.model, plan.train, upstream, node_teacher, goal or goals.Labels(), is_student=True
            )
            nodes.append(upstream)
    return tuple(nodes)


def _shares(plan: Plan) -> list[Stage[Context]]:
    """The prunings of the order, which reach the sparsity in equal steps."""
    count = plan.pipeline.order.count("prune")
    return [plan.prune.share(number / count) for number in range(1, count + 1)]
