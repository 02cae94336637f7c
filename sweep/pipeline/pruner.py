"""Early stopping of a trial that a finished one dominates by a margin (a pruner for several objectives).

The expected accuracy of a trial is the best that its network has reached: compression and fine-tuning seldom improve it, and
the margin allows for that. This holds only for a trained network, so no trial stops while training or distillation is pending,
or more epochs of fine-tuning than it has been trained for. The size of its file is that of a file made without training, which
is made only where the accuracy alone does not decide.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sweep.core.errors import ConfigError
from sweep.core.metrics import Metrics
from sweep.core.stage import Stage
from sweep.core.types import Progress
from sweep.pipeline.artifacts import Artifacts
from sweep.pipeline.conversion import Converter
from sweep.pipeline.front import FrontRecord
from sweep.pipeline.graph import Node
from sweep.pipeline.measurement import known_of_a_file, of_file
from sweep.pipeline.plan import Plan
from sweep.pipeline.pruned import TrialPruned
from sweep.pipeline.rehearsal import rehearsed
from sweep.pipeline.runner import StageRunner
from sweep.tflite import audit
from sweep.train.context import Context

_log = logging.getLogger(__name__)

_ACCURACIES = ("val_accuracy", "float_accuracy")


@dataclass(frozen=True, eq=False)
class Pruner:
    """Stops a trial that is not expected to reach the front.

    Args:
        front: the file with the current front of the sweep; None for no early stopping.
        plan: the trial's plan.
        runner: has its networks and learning curves.
        artifacts: has its files.
        converter: makes the file without training.
        progress: shows that the file is made.
    """

    front: Path | None
    plan: Plan
    runner: StageRunner
    artifacts: Artifacts
    converter: Converter
    progress: Progress

    def require(self, node: Node) -> None:
        """Stops before a stage that trains, where a finished trial dominates the expected metrics by the margin.

        Raises:
            TrialPruned: naming the finished trial.
        """
        if self.front is None or node.upstream is None or node.stage.untrained() == node.stage:
            return
        nodes = self.runner.nodes
        pending = nodes[nodes.index(node) :]
        untrained = {later: stage for later in pending if (stage := later.stage.untrained()) is not None}
        accuracies = self._val_accuracies(node.upstream)
        if len(untrained) < len(pending) or len(accuracies) < sum(getattr(later.stage, "finetune", 0) for later in pending):
            return
        if self.runner.holds(node) or (front := self._read(self.front)) is None:
            return
        if not front.objectives.keys() <= known_of_a_file() | set(_ACCURACIES):
            return  # an objective is not known before training
        expected = dict.fromkeys(_ACCURACIES, max(accuracies, default=1.0))
        if front.ahead(expected, unknown=np.inf) is None:
            return
        if (reason := front.ahead(expected | dict(self._file_metrics(untrained)))) is not None:
            raise TrialPruned(f"stopped before {node.name}: {reason}")

    def _read(self, path: Path) -> FrontRecord | None:
        """The current front; None where there is no readable one, so that the trial runs to its end."""
        try:
            return FrontRecord.read(path)
        except ConfigError as error:
            _log.warning("no trial is stopped early: %s", error)
            return None

    def _val_accuracies(self, node: Node | None) -> tuple[float, ...]:
        """Validation accuracy of the network after each epoch up to a stage, in [0, 1]."""
        if node is None:
            return ()
        return (*self._val_accuracies(node.upstream), *self.runner.curves(node).get("val_accuracy", ()))

    def _file_metrics(self, stages: Mapping[Node, Stage[Context]]) -> Metrics:
        """The metrics of the file after these stages, each applied in place of its node's."""
        self.progress.stage("rehearse")
        upstream = next(iter(stages)).upstream
        network = rehearsed(stages, self.runner.network(upstream) if upstream else None, self.runner, self.plan)
        content = self.converter.file(network, self.plan.quant)
        file = of_file(
            content,
            audit.read(content),
            network,
            layers=self.plan.prune.layers,
            start_bytes=len(self.artifacts.float_file(self.runner.start)),
            filters=self.artifacts.filters(self.runner.student) if network.filters else None,
        )
        return Metrics.of(file)
