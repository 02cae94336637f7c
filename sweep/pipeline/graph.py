"""The graph of a plan's stages: which one needs which."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import repeat

from sweep.compress.distill import teachers
from sweep.compress.distill.stages import Train
from sweep.core.types import Spec, Storage
from sweep.pipeline.plan import Plan
from sweep.pipeline.protocols import Stage
from sweep.train import goals, recipes


@dataclass(frozen=True, eq=False)
class Node:
    """A stage in its place: how it trains, what it receives, who teaches it, and what its fine-tuning works towards."""

    name: str
    stage: Stage
    model: Spec
    recipe: recipes.Recipe
    upstream: Node | None
    teacher: Node | None
    goal: goals.Goal
    is_student: bool


def stage_nodes(plan: Plan, parameters: teachers.Parameters) -> list[Node]:
    """Every stage that the plan runs, each after all that it needs."""
    nodes: list[Node] = []
    teacher: Node | None = None
    for step in plan.distill.teacher_chain(plan.model, parameters):
        recipe = replace(plan.train, epochs=step.epochs or plan.train.epochs)
        teacher = Node(step.role, step.stage, step.model, recipe, None, teacher, goals.Labels(), is_student=False)
        nodes.append(teacher)
    stages: dict[str, Iterator[Stage]] = {
        "train": repeat(Train()),
        "distill": repeat(plan.distill.stage()),
        "prune": iter(_shares(plan)),
        "cluster": repeat(plan.cluster),
        "quant": repeat(plan.quant.stage()),
    }
    idle = {
        # Where it comes first, distilling without a teacher is training.
        "distill": teacher is None and plan.pipeline.order[0] != "distill",
        "prune": plan.prune.sparsity == 0,
        "cluster": plan.cluster.levels is None,
        "quant": plan.quant.storage is not Storage.INTEGER,
    }
    upstream: Node | None = None
    seen = Counter[str]()
    for name in plan.pipeline.order:
        stage = next(stages[name])
        if not idle.get(name, False):
            seen[name] += 1
            goal = plan.distill.finetuning() if name in ("prune", "cluster", "quant") and stage.untrained() != stage else None
            taught = teacher if name == "distill" or goal else None
            role = name if seen[name] == 1 else f"{name}_{seen[name]}"
            upstream = Node(role, stage, plan.model, plan.train, upstream, taught, goal or goals.Labels(), is_student=True)
            nodes.append(upstream)
    return nodes


def _shares(plan: Plan) -> list[Stage]:
    """What each pruning in the order does: they reach the sparsity in equal shares."""
    count = plan.pipeline.order.count("prune")
    return [plan.prune.share(number / count) for number in range(1, count + 1)]
