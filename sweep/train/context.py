"""The context and the outcome of a stage."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from sweep.core.types import Array, Arrays, Checkpoint, Data, Progress, Spec
from sweep.train.goals import Goal
from sweep.train.recipes import Recipe


class SharedResults(Protocol):
    """The cache, for results that several stages share."""

    def arrays(self, key: Mapping[str, Any], compute: Callable[[], Arrays]) -> Arrays:
        """The arrays that are kept under a key, or those that `compute` returns, which are kept from now on.

        Args:
            key: plain values and dataclasses that determine the arrays. The code of both, and that of `compute`, is added.
            compute: computes them.
        """


class Files(Protocol):
    """Makes `.tflite` files."""

    def file(self, network: Checkpoint, form: Any) -> bytes:
        """A network as a file.

        Args:
            network: as the form takes it.
            form: a choice of the `quant` group.
        """


@dataclass(frozen=True, eq=False)
class Context:
    """What a stage may use besides the network that it receives.

    Attributes:
        data: the three splits; a stage learns from `data.train` and watches `data.validation`, never `data.test`.
        recipe: how to train.
        augment: the augmentation, (images, seed, epoch) to images of the same shape.
        view: plain values that name what `augment` does, for cache keys; None when the images are taken as they are.
        seed: of everything random in the stage.
        model: the network to build where the stage starts from nothing.
        teacher: the network to learn from, and its cache key; None where there is none.
        goal: the loss and the targets of the fine-tuning of a trained network.
        results: the cache, for results that several stages share.
        files: makes a network's file, for a stage that has to know what it weighs.
        progress: the progress display.
    """

    data: Data
    recipe: Recipe
    augment: Callable[[Array, int, int], Array]
    view: Mapping[str, Any] | None
    seed: int
    model: Spec
    teacher: tuple[str, Checkpoint] | None
    goal: Goal
    results: SharedResults
    files: Files
    progress: Progress

    def images(self, epoch: int) -> Array:
        """The training images as epoch `epoch` (from 0) sees them: uint8 (n, height, width, channels)."""
        images = self.data.train.images
        return images if self.view is None else self.augment(images, self.seed, epoch)

    def view_key(self, epoch: int) -> dict[str, Any]:
        """Plain values that name `images(epoch)`, equal for equal images."""
        return {"augment": None} if self.view is None else {"augment": self.view, "seed": self.seed, "epoch": epoch}

    def one_hot(self) -> Array:
        """The training labels, float32 (n, classes)."""
        return np.eye(self.data.classes, dtype=np.float32)[self.data.train.labels]


def required(network: Checkpoint | None) -> Checkpoint:
    """The network, for a stage that does not start from fresh weights.

    Raises:
        ValueError: for None.
    """
    if network is None:
        raise ValueError("this stage takes a trained network")
    return network
