"""Applies the stages of one plan through the cache: a result is reused, or computed and written."""

from __future__ import annotations

import json
import logging
from functools import partial
from typing import Any

import numpy as np

from sweep.core.types import Arrays, Checkpoint, Curves, Data, Progress
from sweep.data.augment import Augment
from sweep.models import checkpoints
from sweep.pipeline import sources
from sweep.pipeline.cache import Hit, canonical, digest
from sweep.pipeline.conversion import Converter, kernels
from sweep.pipeline.graph import Node, ParameterCounts, stage_nodes
from sweep.pipeline.memo import Memo, StageResults
from sweep.pipeline.plan import Plan
from sweep.train import loop
from sweep.train.context import Context

_log = logging.getLogger(__name__)


class StageRunner:
    """Applies the stages of a plan and holds their results.

    Args:
        plan: the plan.
        data: its data.
        memo: the stage cache.
        converter: makes the files whose size a stage asks for.
        progress: shows the current stage.

    Attributes:
        nodes: the stages in topological order.
        seconds_spent: the time of the stages that were computed.
        seconds_saved: the time that the reused stages took when they were computed.
        reused: the number of reused stages.
    """

    def __init__(self, plan: Plan, data: Data, memo: Memo, converter: Converter, progress: Progress) -> None:
        self._plan, self._data, self._memo, self._progress = plan, data, memo, progress
        self._converter = converter
        self.nodes = stage_nodes(plan, ParameterCounts(plan, data, memo))
        self.seconds_spent, self.seconds_saved, self.reused = 0.0, 0.0, 0
        self._view = canonical(plan.dataset.augment) if plan.train.augment else None
        if plan.train.augment and plan.dataset.augment == Augment(shift=0, flip=False):
            _log.warning(
                "train.augment is true and dataset.augment leaves images as they are:"
                " dataset.augment.shift=1 moves them by up to a pixel, dataset.augment.flip=true mirrors half of them"
            )
        self._networks: dict[Node, Checkpoint] = {}
        self._curves: dict[Node, Curves] = {}
        self._digests: dict[Node, str] = {}

    @property
    def start(self) -> Node:
        """The first stage: the training of the teacher, where there is one."""
        return self.nodes[0]

    @property
    def student(self) -> Node:
        """The stage that trains the uncompressed student."""
        return next(node for node in self.nodes if node.is_student)

    @property
    def last(self) -> Node:
        """The last stage, whose network is converted."""
        return self.nodes[-1]

    def ready(self) -> list[Node]:
        """The pending stages whose predecessors are done, in the plan's order; none when all stages are done."""
        done = {None, *self._networks}
        return [node for node in self.nodes if node not in done and {node.upstream, node.teacher} <= done]

    def take(self, node: Node, *, wait: bool) -> bool:
        """Reads the result of a stage from the cache, or computes it.

        Args:
            node: a stage that is ready.
            wait: whether to wait while another process computes it.

        Returns:
            Whether the stage is done; False while another process computes it.
        """
        fetch = self._memo.store.fetch if wait else self._memo.store.fetch_unless_busy
        hit: Hit | None = fetch(self.key(node), partial(self._compute, node))
        if hit is None:
            return False
        self._networks[node] = Checkpoint.from_arrays(hit.arrays)
        self._curves[node] = {name: tuple(values) for name, values in json.loads(str(hit.arrays["curves"])).items()}
        if hit.reused:
            self.seconds_saved += hit.seconds
            self.reused += 1
        else:
            self.seconds_spent += hit.seconds
        self._progress.finish(node.name, hit.seconds, hit.reused)
        _log.info("%s: %s, %.1f s", node.name, "reused" if hit.reused else "computed", hit.seconds)
        return True

    def network(self, node: Node) -> Checkpoint:
        """The network of a stage that is done."""
        return self._networks[node]

    def curves(self, node: Node) -> Curves:
        """The learning curves of a stage that is done."""
        return self._curves[node]

    def holds(self, node: Node) -> bool:
        """Whether the cache has the result of a stage."""
        return self._memo.store.holds(self.key(node))

    def key(self, node: Node) -> dict[str, Any]:
        """The cache key: everything that determines the result of a stage."""
        return {
            "stage": node.stage,
            "model": None if node.upstream else node.model,
            "upstream": self.digest(node.upstream) if node.upstream else None,
            "teacher": self.digest(node.teacher) if node.teacher else None,
            "goal": node.goal,
            "recipe": node.recipe,
            "data": self._data.split_hash,
            "view": self._view,
            "seed": self._plan.seed,
            "threads": self._plan.threads,
            "kernels": kernels(),
            "code": sources.behind(*self._parts(node)).digest,
        }

    def digest(self, node: Node) -> str:
        """The sha256 (hex) of the cache key of a stage."""
        if node not in self._digests:
            self._digests[node] = digest(self.key(node))
        return self._digests[node]

    def context(self, node: Node) -> Context:
        """The context that a stage is applied in. It has no teacher while the teacher's stage is pending."""
        return Context(
            data=self._data,
            recipe=node.recipe,
            augment=self._plan.dataset.augment,
            view=self._view,
            seed=self._plan.seed,
            model=node.model,
            teacher=(self.digest(node.teacher), self._networks[node.teacher]) if node.teacher in self._networks else None,
            goal=node.goal,
            results=StageResults(self._memo, self._plan.threads),
            files=self._converter,
            progress=self._progress,
        )

    def _parts(self, node: Node) -> tuple[object, ...]:
        """The objects whose code computes the result of a stage, besides its input networks."""
        augment = self._plan.dataset.augment if self._view else None
        converter = Converter if node.upstream else None  # a stage with an input network may ask for the size of its file
        return node.stage, node.model, node.goal, node.recipe, augment, converter

    def _compute(self, node: Node) -> Arrays:
        self._progress.stage(node.name)
        loop.start(self._plan.threads)
        _log.info("%s: computing %s", node.name, node.stage)
        checkpoints.fresh(self._plan.seed)
        outcome = node.stage.apply(self._networks[node.upstream] if node.upstream else None, self.context(node))
        sources.require_unchanged()
        return {**outcome.network.to_arrays(), "curves": np.array(json.dumps(outcome.curves))}
