"""The stages of one plan, taken through the cache: reused where their results are there, computed where not."""

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
    """Computes the stages of a plan, and keeps their results.

    Args:
        plan: what to do.
        data: its data.
        memo: the stage cache.
        converter: makes the files that a stage weighs.
        progress: where to say how far it is.

    Attributes:
        nodes: the plan's stages, each after all that it needs.
        seconds_spent: what the stages took that were computed.
        seconds_saved: what those took, when they were computed, that were reused.
        reused: how many were reused.
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
        """The stage that the plan begins with: the teacher's training where there is a teacher."""
        return self.nodes[0]

    @property
    def student(self) -> Node:
        """The stage that makes the uncompressed student."""
        return next(node for node in self.nodes if node.is_student)

    @property
    def last(self) -> Node:
        """The stage whose network becomes the file."""
        return self.nodes[-1]

    def ready(self) -> list[Node]:
        """The stages that can be taken now, in the plan's order; none when all of them are."""
        taken = {None, *self._networks}
        return [node for node in self.nodes if node not in taken and {node.upstream, node.teacher} <= taken]

    def take(self, node: Node, *, wait: bool) -> bool:
        """Take a stage's result out of the cache, or compute it.

        Args:
            node: a stage that is ready.
            wait: whether to wait where another process is computing it.

        Returns:
            Whether it is taken; False where another process is computing it.
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
        """What a stage that was taken hands on."""
        return self._networks[node]

    def curves(self, node: Node) -> Curves:
        """The learning curves of a stage that was taken."""
        return self._curves[node]

    def holds(self, node: Node) -> bool:
        """Whether the cache has the stage's result."""
        return self._memo.store.holds(self.key(node))

    def key(self, node: Node) -> dict[str, Any]:
        """All that determines the stage's result."""
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
        """sha256 (hex) of the stage's key."""
        if node not in self._digests:
            self._digests[node] = digest(self.key(node))
        return self._digests[node]

    def context(self, node: Node) -> Context:
        """What the stage may use besides the network that it receives; no teacher where none has been taken yet."""
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
        """What computes the stage's result, besides the networks that it receives."""
        augment = self._plan.dataset.augment if self._view else None
        weighs = Converter if node.upstream else None  # a stage that is given a network may ask what its file would weigh
        return node.stage, node.model, node.goal, node.recipe, augment, weighs

    def _compute(self, node: Node) -> Arrays:
        self._progress.stage(node.name)
        loop.start(self._plan.threads)
        _log.info("%s: computing %s", node.name, node.stage)
        checkpoints.fresh(self._plan.seed)
        outcome = node.stage.apply(self._networks[node.upstream] if node.upstream else None, self.context(node))
        sources.require_unchanged()
        return {**outcome.network.to_arrays(), "curves": np.array(json.dumps(outcome.curves))}
