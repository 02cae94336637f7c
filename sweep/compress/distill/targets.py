"""What a teacher says of the training images, computed once and kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from sweep.compress.distill.attention import Place, attention_maps
from sweep.core.types import Array, Arrays, Checkpoint
from sweep.models import checkpoints
from sweep.train import loop
from sweep.train.context import Context


class _Views:
    """A network's answers to the training images, one array for each view of them, out of the cache where it has them.

    Args:
        name: plain values that name the network.
        network: makes it; asked for nothing while the cache has all.
        context: the data, its views, and the cache.
        kind: the dtype that is kept.
    """

    def __init__(self, name: Mapping[str, Any], network: Callable[[], Any], context: Context, kind: type) -> None:
        self._name, self._network, self._context, self._kind = name, network, context, kind
        self._answers: loop.Answers | None = None

    def __call__(self, epoch: int) -> Array:
        """(n, k): the answers to the images of epoch `epoch`."""
        key = {**self._name, **self._context.view_key(epoch)}
        return self._context.remember(key, lambda: self._compute(epoch))["answers"]

    def _compute(self, epoch: int) -> Arrays:
        if self._answers is None:
            self._answers = loop.Answers(self._network())
        return {"answers": self._answers(self._context.images(epoch)).astype(self._kind)}


class SoftTargets(_Views):
    """A teacher's logits: float32 (n, classes) for each view of the training images.

    Args:
        key: the teacher's cache key.
        teacher: the teacher.
        context: the data, its views, and the cache.
    """

    def __init__(self, key: str, teacher: Checkpoint, context: Context) -> None:
        super().__init__({"soft targets of": key}, lambda: checkpoints.restore(teacher), context, np.float32)


class AttentionMaps(_Views):
    """A teacher's attention maps, side by side: float16 (n, numbers of all maps) for each view of the training images.

    Half the bytes of float32, and an error below 0.0005 of a map's length, where maps of two networks are tenths apart.

    Args:
        key: the teacher's cache key.
        teacher: the teacher.
        context: the data, its views, and the cache.
        places: layer names, each with its map's height and width.
    """

    def __init__(self, key: str, teacher: Checkpoint, context: Context, places: list[Place]) -> None:
        def network() -> Any:
            import tensorflow as tf
            import tf_keras as keras

            model = checkpoints.restore(teacher)
            return keras.Model(model.input, tf.concat(attention_maps(model, places), axis=1))

        super().__init__({"attention maps of": key, "places": places}, network, context, np.float16)
