"""The contract of a stage: what it does to a network, whether that is nothing, and what the file must show of it.

A stage is a frozen dataclass: its fields, with the network that it receives and the context, determine what it hands on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Protocol, TypeVar, runtime_checkable

from sweep.core.types import Array, Checkpoint, Curves, Storage

Context_contra = TypeVar("Context_contra", contravariant=True)


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a stage hands on: the network, and the learning curves of getting there."""

    network: Checkpoint
    curves: Curves = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Evidence:
    """What a file must show. What is None is no stage's concern.

    Attributes:
        storage: the kind of file.
        bits: layer name to the bits of its kernel's grid.
        activations: the bits of the input and the output.
        max_kib: the most KiB of the file.
        zeros: at least so many weights of the targeted kernels are zero.
        layers: which kernels those are: `conv`, `dense` or `all`.
        masks: layer name to bool array of its kernel's shape; False marks a weight that is zero.
        clusters: layer name to int array of its kernel's shape: weights with the same number are equal.
        removed: so many filters fewer than the student had before pruning.
    """

    storage: Storage | None = None
    bits: Mapping[str, int] | None = None
    activations: int | None = None
    max_kib: float | None = None
    zeros: int | None = None
    layers: str | None = None
    masks: Mapping[str, Array] | None = None
    clusters: Mapping[str, Array] | None = None
    removed: int | None = None

    def __or__(self, later: Evidence) -> Evidence:
        """What this stage and a later one ask for; where both speak, the later one counts."""
        values = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        return Evidence(**values | {name: value for name, value in vars(later).items() if value is not None})


@runtime_checkable
class Stage(Protocol[Context_contra]):
    """A step of the pipeline."""

    @property
    def does_nothing(self) -> bool:
        """Whether every network is handed on as it was received, so that the stage can be left out."""

    @property
    def weights_decide_shapes(self) -> bool:
        """Whether the weights that it receives decide on the shapes or the bits of what it hands on.

        Where they do not, a file's operators, shapes and types are known before anything trains.
        """

    def apply(self, network: Checkpoint | None, context: Context_contra) -> Outcome:
        """From the network received (None: start from fresh weights) to the one handed on."""

    def untrained(self) -> Stage[Context_contra] | None:
        """The stage without its training, for a file of the same form: itself if it has none, None if it is all training."""

    def evidence(self, network: Checkpoint) -> Evidence:
        """What the file must show if the stage worked.

        Args:
            network: what the last stage handed on.
        """
