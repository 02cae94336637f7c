"""What a stage receives besides the network: data, recipe, augmentation, goal and shared results."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from sweep.core.types import Array, Arrays, Checkpoint, Data, Progress, Spec
from sweep.train.goals import Goal
from sweep.train.recipes import Recipe


class SharedResults(Protocol):
    """A cache of arrays that several stages share."""

    def arrays(self, key: Mapping[str, Any], compute: Callable[[], Arrays]) -> Arrays:
        """The cached arrays of a key; on a miss the result of `compute`, which is then cached.

        Args:
            key: plain values and dataclasses that determine the arrays. A hash of their code and of `compute`'s is added.
            compute: computes the arrays.
        """


class Files(Protocol):
    """Makes `.tflite` files."""

    def file(self, network: Checkpoint, form: Any) -> bytes:
        """Converts a network to the bytes of a `.tflite` file.

        Args:
            network: the network before quantisation.
            form: a choice of the `quant` group.
        """


@dataclass(frozen=True, eq=False)
class Context:
    """What a stage receives besides the network.

    Attributes:
        data: the three splits; a stage trains on `data.train` and evaluates on `data.validation`, never on `data.test`.
        recipe: the training recipe.
        augment: the augmentation, (images, seed, epoch) to images of the same shape.
        view: plain values that identify the augmentation in cache keys; None when the images are not augmented.
        seed: the seed of all randomness in the stage.
        model: the network to build where the stage receives none.
        teacher: the cache key of the teacher, and the teacher; None without one.
        goal: the loss and the targets of the fine-tuning of a trained network.
        results: the cache of results that several stages share.
        files: converts a network, for a stage that has to know the size of its file.
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
        """The augmented training images of an epoch, counted from 0: uint8 (n, height, width, channels)."""
        images = self.data.train.images
        return images if self.view is None else self.augment(images, self.seed, epoch)

    def view_key(self, epoch: int) -> dict[str, Any]:
        """Plain values that identify `images(epoch)` in cache keys; equal for equal images."""
        return {"augment": None} if self.view is None else {"augment": self.view, "seed": self.seed, "epoch": epoch}

    def one_hot(self) -> Array:
        """The training labels, float32 (n, classes)."""
        return np.eye(self.data.classes, dtype=np.float32)[self.data.train.labels]

    def class_weights(self) -> tuple[float, ...] | None:
        """The weight of the loss for each class, as the recipe asks; 0 for a class without training images, None for 1."""
        if self.recipe.class_weight is None:
            return None
        counts = np.bincount(self.data.train.labels, minlength=self.data.classes)
        present = np.count_nonzero(counts)
        return tuple(float(len(self.data.train) / (present * count)) if count else 0.0 for count in counts)


def required(network: Checkpoint | None) -> Checkpoint:
    """The network, for a stage that does not start from a fresh initialisation.

    Raises:
        ValueError: for None.
    """
    if network is None:
        raise ValueError("this stage takes a trained network")
    return network
