"""Filter pruning, global or local, in one step or several, with fine-tuning.

Filters are removed from the network, with every channel that depends on them (`dependency_graph`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Protocol, Self

import numpy as np

from sweep.compress.prune import dependency_graph
from sweep.core.errors import (
    MOST_CHANNELS,
    ConfigError,
    require_choice,
    require_epochs,
    require_integer,
    require_learning_rate,
    require_number,
)
from sweep.core.protocols import require_part
from sweep.core.stage import Evidence, Outcome
from sweep.core.types import Array, Checkpoint, Spec
from sweep.models import checkpoints, equivalence, random_weights
from sweep.train import constraints, loop
from sweep.train.context import Context, required


class Score(Protocol):
    """The importance of groups of channels."""

    def of(self, graph: dependency_graph.DependencyGraph, model: Any) -> Array:
        """Returns the scores of the graph's groups.

        Args:
            graph: the dependency graph of the model.
            model: a float Keras model.

        Returns:
            float (groups,), at least 0, comparable over the whole network.

        Raises:
            ConfigError: for a network that cannot be scored so.
        """


@dataclass(frozen=True)
class NormScore:
    """The mean norm of a group's filters, each divided by the root mean square of its layer's norms.

    The division makes layers comparable (Molchanov et al. 2017, arXiv 1611.06440, section 2.2, divide by the Euclidean norm).
    A sum over the group in place of the mean would spare the channels that residual additions tie together.
    """

    def of(self, graph: dependency_graph.DependencyGraph, model: Any) -> Array:
        """Returns float64 (groups,), at least 0."""
        norms = {}
        for name in graph.filters:
            layer = model.get_layer(name)
            parts = [weight for weight in layer.weights if weight.name.endswith("kernel:0")]
            norm = self._norm(parts[-1].numpy())  # of a separable convolution, the pointwise one
            norms[name] = norm / max(float(np.sqrt(np.mean(norm**2))), np.finfo(np.float32).tiny)
        return np.array([np.mean([norms[name][number] for name, number in group]) for group in graph.groups])

    def _norm(self, kernel: Array) -> Array:
        raise NotImplementedError


@dataclass(frozen=True)
class L1(NormScore):
    """The L1 norm of a filter (Li et al. 2017, arXiv 1608.08710)."""

    def _norm(self, kernel: Array) -> Array:
        summed: Array = np.abs(kernel).sum(axis=tuple(range(kernel.ndim - 1)))
        return summed


@dataclass(frozen=True)
class L2(NormScore):
    """The L2 norm of a filter (He et al. 2018, arXiv 1808.06866)."""

    def _norm(self, kernel: Array) -> Array:
        root: Array = np.sqrt((kernel.astype(float) ** 2).sum(axis=tuple(range(kernel.ndim - 1))))
        return root


@dataclass(frozen=True)
class BNScale:
    """The mean magnitude of the batch norm scales of a group's channels (network slimming; Liu et al. 2017, arXiv 1708.06519).

    Only the score is that of network slimming: training adds no L1 penalty on the scales.
    """

    def of(self, graph: dependency_graph.DependencyGraph, model: Any) -> Array:
        """Returns float64 (groups,), at least 0.

        Raises:
            ConfigError: for channels that no batch normalisation scales.
        """
        scales: list[list[float]] = [[] for _ in graph.groups]
        for layer in model.layers:
            if type(layer).__name__ == "BatchNormalization" and layer.scale:
                for number, scale in zip(graph.outputs[layer.name], np.abs(layer.gamma.numpy()), strict=True):
                    if number >= 0:
                        scales[number].append(scale)
        for group, group_scales in zip(graph.groups, scales, strict=True):
            if not group_scales:
                raise ConfigError("score", "batch normalisation after every layer that is cut", f"none after {group[0][0]}")
        return np.array([np.mean(group_scales) for group_scales in scales])


@dataclass(frozen=True)
class ChannelPruning:
    """Iterative filter pruning: in each step filters are removed and the network is fine-tuned.

    Args:
        sparsity: the fraction of the targeted layers' filters to remove, in [0, 1); 0 does nothing at all. Filters whose
            channels reach the logits stay and are not counted.
        layers: `conv`, `dense` or `all` (both).
        score: the importance of a group of channels.
        minimum: the minimum number of filters of each layer, at least 1.
        steps: the number of pruning steps, at least 1, each followed by a share of the fine-tuning.
        finetune: epochs of fine-tuning in all, 0 or at least as many as steps.
        learning_rate: the peak learning rate, above 0.
    """

    sparsity: float
    layers: str
    score: Score
    minimum: int
    steps: int
    finetune: int
    learning_rate: float

    removes_filters = True
    weights_decide_shapes = True

    def __post_init__(self) -> None:
        require_number("sparsity", self.sparsity, 0, 1, open_high=True)
        require_choice("layers", self.layers, ("conv", "dense", "all"))
        require_part("score", self.score, Score)
        require_integer("minimum", self.minimum, 1, MOST_CHANNELS)
        require_integer("steps", self.steps, 1, 1000)
        require_epochs("finetune", self.finetune, 0)
        if 0 < self.finetune < self.steps:
            raise ConfigError("finetune", f"0, or an epoch for each of the {self.steps} steps", self.finetune)
        require_learning_rate("learning_rate", self.learning_rate)

    def shares(self, graph: dependency_graph.DependencyGraph) -> Iterable[tuple[int, ...]]:
        """Partitions the groups: each part loses the same fraction of its filters.

        Args:
            graph: the dependency graph.

        Returns:
            Numbers of groups, one tuple per part.
        """
        raise NotImplementedError

    def apply(self, network: Checkpoint | None, context: Context) -> Outcome:
        """Prunes and fine-tunes. Masks of the network are sliced with it and preserved."""
        network = required(network)
        curves: dict[str, tuple[float, ...]] = {}
        for step in range(1, self.steps + 1):
            network = self._pruned(network, self.sparsity * step / self.steps)
            model = checkpoints.restore(network)
            parts = loop.fit(
                model,
                context,
                epochs=self.finetune * step // self.steps - self.finetune * (step - 1) // self.steps,
                learning_rate=self.learning_rate,
                goal=context.goal,
                constraints=constraints.FixedConstraints(checkpoints.kernels(model), network),
            )
            network = replace(network, weights=tuple(model.get_weights()))
            curves = {name: (*curves.get(name, ()), *values) for name, values in parts.items()}
        return Outcome(network, curves)

    def untrained(self) -> Self | None:
        """Pruning without the fine-tuning; None for several steps, whose filters depend on it."""
        return replace(self, finetune=0) if self.steps == 1 else None

    @property
    def does_nothing(self) -> bool:
        """Whether no filter is removed."""
        return self.sparsity == 0

    def evidence(self, network: Checkpoint) -> Evidence:
        """So many filters fewer, and the zeros of masks that the network brought."""
        return Evidence(zeros=network.zeros, layers=self.layers, masks=network.masks, removed=network.removed)

    def share(self, fraction: float) -> Self:
        """The pruning to a fraction, in (0, 1], of the sparsity."""
        return replace(self, sparsity=self.sparsity * fraction)

    def require(self, model: Spec, input_shape: tuple[int, int, int], classes: int) -> None:
        """Refuses a network whose channels cannot be traced, or that would lose none.

        Raises:
            ConfigError: naming the layer or the key.
        """
        built = model.build(input_shape, classes)
        built.set_weights(random_weights.draw([(weight.name, weight.numpy()) for weight in built.weights]))
        network = checkpoints.snapshot(built)
        if not dependency_graph.trace(built, self.layers).groups:
            raise ConfigError("layers", "layers with filters that can be removed", f"{self.layers}: the logits only")
        try:
            removed = self._pruned(network, self.sparsity).removed
        except equivalence.EquivalenceError as error:
            raise ConfigError("", "a network whose channels can be removed", str(error)) from error
        if not removed:
            raise ConfigError("sparsity", f"enough to remove a filter while each layer keeps {self.minimum}", self.sparsity)

    def _pruned(self, network: Checkpoint, sparsity: float) -> Checkpoint:
        model = checkpoints.restore(network)
        graph = dependency_graph.trace(model, self.layers)
        now = graph.filters
        whole = now | {name: before for name, (before, _) in network.filters.items()}
        scores = self.score.of(graph, model)
        room = {name: count - self.minimum for name, count in now.items()}
        dropped: list[int] = []
        for share in self.shares(graph):
            members = Counter(name for number in share for name, _ in graph.groups[number])
            before = round(sum(count * whole[name] / now[name] for name, count in members.items()))
            budget = round(sparsity * before) - (before - members.total())
            for number in sorted(share, key=lambda group: scores[group]):
                cost = Counter(name for name, _ in graph.groups[number])
                # The last group may exceed the budget where that is nearer to it than keeping the group.
                if cost.total() <= 2 * budget and all(room[name] >= count for name, count in cost.items()):
                    dropped.append(number)
                    budget -= cost.total()
                    room = {name: count - cost[name] for name, count in room.items()}
        return dependency_graph.remove_channels(network, graph, dropped)


@dataclass(frozen=True)
class GlobalChannels(ChannelPruning):
    """Removes the groups of lowest score over all targeted layers."""

    def shares(self, graph: dependency_graph.DependencyGraph) -> Iterable[tuple[int, ...]]:
        """One part with all groups."""
        return [tuple(range(len(graph.groups)))]


@dataclass(frozen=True)
class LocalChannels(ChannelPruning):
    """Removes the same fraction of filters from each targeted layer; layers that additions tie together count as one."""

    @property
    def weights_decide_shapes(self) -> bool:  # type: ignore[override]
        """Whether there is more than one step: how many filters a later one removes is known after an earlier one alone."""
        return self.steps > 1

    def shares(self, graph: dependency_graph.DependencyGraph) -> Iterable[tuple[int, ...]]:
        """One part for each set of layers that share groups."""
        parts: dict[frozenset[str], list[int]] = {}
        for number, group in enumerate(graph.groups):
            parts.setdefault(frozenset(name for name, _ in group), []).append(number)
        return [tuple(numbers) for numbers in parts.values()]
