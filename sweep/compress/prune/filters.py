"""Pruning of whole filters, global or local, in one cut or several, with fine-tuning.

A pruned filter is gone and the network smaller: `channels` says what goes with it. Here is which ones go.
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
    """How much a group of channels matters."""

    def of(self, wiring: dependency_graph.Wiring, model: Any) -> Array:
        """Float (groups,) of the wiring, at least 0, comparable over the whole network."""


@dataclass(frozen=True)
class _Norm:
    """The mean norm of the filters that make a group's channels, each over the quadratic mean of its layer.

    That puts layers on one scale, so that a global choice can compare them (Molchanov et al. 2017, arXiv 1611.06440, section
    2.2). The mean over a group and not its sum, which would spare the channels that residual additions tie together.
    """

    def of(self, wiring: dependency_graph.Wiring, model: Any) -> Array:
        """See `Score`."""
        norms = {}
        for name in wiring.filters:
            layer = model.get_layer(name)
            parts = [weight for weight in layer.weights if weight.name.endswith("kernel:0")]
            norm = self._norm(parts[-1].numpy())  # of a separable convolution, the pointwise one
            norms[name] = norm / max(float(np.sqrt(np.mean(norm**2))), np.finfo(np.float32).tiny)
        return np.array([np.mean([norms[name][number] for name, number in group]) for group in wiring.groups])

    def _norm(self, kernel: Array) -> Array:
        raise NotImplementedError


@dataclass(frozen=True)
class L1(_Norm):
    """The sum of a filter's magnitudes (Li et al. 2017, arXiv 1608.08710)."""

    def _norm(self, kernel: Array) -> Array:
        summed: Array = np.abs(kernel).sum(axis=tuple(range(kernel.ndim - 1)))
        return summed


@dataclass(frozen=True)
class L2(_Norm):
    """The Euclidean norm of a filter (He et al. 2018, arXiv 1808.06866)."""

    def _norm(self, kernel: Array) -> Array:
        root: Array = np.sqrt((kernel.astype(float) ** 2).sum(axis=tuple(range(kernel.ndim - 1))))
        return root


@dataclass(frozen=True)
class BNScale:
    """The mean magnitude of the batch normalisations' scales on a group's channels (Liu et al. 2017, arXiv 1708.06519)."""

    def of(self, wiring: dependency_graph.Wiring, model: Any) -> Array:
        """See `Score`.

        Raises:
            ConfigError: for channels that no batch normalisation scales.
        """
        scales: list[list[float]] = [[] for _ in wiring.groups]
        for layer in model.layers:
            if type(layer).__name__ == "BatchNormalization" and layer.scale:
                for number, scale in zip(wiring.outputs[layer.name], np.abs(layer.gamma.numpy()), strict=True):
                    if number >= 0:
                        scales[number].append(scale)
        for group, found in zip(wiring.groups, scales, strict=True):
            if not found:
                raise ConfigError("score", "batch normalisation after every layer that is cut", f"none after {group[0][0]}")
        return np.array([np.mean(found) for found in scales])


@dataclass(frozen=True)
class _ChannelPruning:
    """What global and local pruning of filters share: cut, fine-tune, and again.

    Args:
        sparsity: the fraction of the targeted layers' filters to remove, in [0, 1); 0 does nothing at all. Filters whose
            channels reach the logits stay, and are not counted.
        layers: `conv`, `dense` or `all` (both).
        score: how much a channel matters.
        minimum: filters that every layer keeps, whatever the sparsity, at least 1.
        steps: in how many cuts, at least 1, the sparsity is reached, with a share of the fine-tuning after each.
        finetune: epochs of training in all, 0 or at least as many as steps.
        learning_rate: their peak rate, above 0.
    """

    sparsity: float
    layers: str
    score: Score
    minimum: int
    steps: int
    finetune: int
    learning_rate: float

    removes_filters = True

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

    def shares(self, wiring: dependency_graph.Wiring) -> Iterable[tuple[int, ...]]:
        """The groups of a wiring, in lists that each lose the same fraction of their filters."""
        raise NotImplementedError

    def apply(self, network: Checkpoint | None, context: Context) -> Outcome:
        """Cut and fine-tune. Masks that the network brings are cut with it and held."""
        network = required(network)
        curves: dict[str, tuple[float, ...]] = {}
        for step in range(1, self.steps + 1):
            network = self._cut(network, self.sparsity * step / self.steps)
            model = checkpoints.restore(network)
            parts = loop.fit(
                model,
                context,
                epochs=self.finetune * step // self.steps - self.finetune * (step - 1) // self.steps,
                learning_rate=self.learning_rate,
                goal=context.goal,
                held=constraints.Held(checkpoints.kernels(model), network),
            )
            network = replace(network, weights=tuple(model.get_weights()))
            curves = {name: (*curves.get(name, ()), *values) for name, values in parts.items()}
        return Outcome(network, curves)

    def untrained(self) -> Self | None:
        """The cut without the fine-tuning; of several, which filters the later ones take depends on it."""
        return replace(self, finetune=0) if self.steps == 1 else None

    @property
    def does_nothing(self) -> bool:
        """Whether no filter goes."""
        return self.sparsity == 0

    def evidence(self, network: Checkpoint) -> Evidence:
        """So many filters fewer, and the zeros of masks that the network brought."""
        return Evidence(zeros=network.zeros, layers=self.layers, masks=network.masks, removed=network.removed)

    def share(self, fraction: float) -> Self:
        """The pruning to a fraction, in (0, 1], of the sparsity."""
        return replace(self, sparsity=self.sparsity * fraction)

    def require(self, model: Spec, input_shape: tuple[int, int, int], classes: int) -> None:
        """Refuse a network whose channels cannot be followed, or that would lose none.

        Raises:
            ConfigError: naming the layer or the key.
        """
        built = model.build(input_shape, classes)
        built.set_weights(random_weights.draw([(weight.name, weight.numpy()) for weight in built.weights]))
        network = checkpoints.snapshot(built)
        if not dependency_graph.wire(built, self.layers).groups:
            raise ConfigError("layers", "layers with filters that can be removed", f"{self.layers}: the logits only")
        try:
            removed = self._cut(network, self.sparsity).removed
        except equivalence.EquivalenceError as error:
            raise ConfigError("", "a network whose channels can be removed", str(error)) from error
        if not removed:
            raise ConfigError("sparsity", f"enough to remove a filter while each layer keeps {self.minimum}", self.sparsity)

    def _cut(self, network: Checkpoint, sparsity: float) -> Checkpoint:
        model = checkpoints.restore(network)
        wiring = dependency_graph.wire(model, self.layers)
        now = wiring.filters
        whole = now | {name: before for name, (before, _) in network.filters.items()}
        scores = self.score.of(wiring, model)
        room = {name: count - self.minimum for name, count in now.items()}
        dropped: list[int] = []
        for share in self.shares(wiring):
            members = Counter(name for number in share for name, _ in wiring.groups[number])
            before = round(sum(count * whole[name] / now[name] for name, count in members.items()))
            budget = round(sparsity * before) - (before - members.total())
            for number in sorted(share, key=lambda one: scores[one]):
                cost = Counter(name for name, _ in wiring.groups[number])
                # The last group may go past the budget, where that is nearer to it than leaving it.
                if cost.total() <= 2 * budget and all(room[name] >= count for name, count in cost.items()):
                    dropped.append(number)
                    budget -= cost.total()
                    room = {name: left - cost[name] for name, left in room.items()}
        return dependency_graph.cut(network, wiring, dropped)


@dataclass(frozen=True)
class GlobalChannels(_ChannelPruning):
    """The channels that matter least go, wherever they are. See `_ChannelPruning` for the arguments."""

    def shares(self, wiring: dependency_graph.Wiring) -> Iterable[tuple[int, ...]]:
        """All in one."""
        return [tuple(range(len(wiring.groups)))]


@dataclass(frozen=True)
class LocalChannels(_ChannelPruning):
    """The same fraction in each targeted layer (layers tied by additions count as one). See `_ChannelPruning`."""

    def shares(self, wiring: dependency_graph.Wiring) -> Iterable[tuple[int, ...]]:
        """Groups with filters of the same layers together."""
        alike: dict[frozenset[str], list[int]] = {}
        for number, group in enumerate(wiring.groups):
            alike.setdefault(frozenset(name for name, _ in group), []).append(number)
        return [tuple(numbers) for numbers in alike.values()]
