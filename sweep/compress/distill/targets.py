"""Soft targets and attention maps of a teacher on the training images, computed once and cached."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from sweep.compress.distill.attention import MapSpec, attention_maps
from sweep.core.types import Array, Arrays, Checkpoint
from sweep.models import checkpoints
from sweep.train import loop
from sweep.train.context import Context


class _CachedOutputs:
    """A network's outputs on the training images, computed once for each augmented view and cached.

    Args:
        name: plain values that identify the network in the cache key.
        network: builds the Keras model; called only on a cache miss.
        context: the data, its augmentation, and the cache.
        dtype: the dtype in the cache.
    """

    def __init__(self, name: Mapping[str, Any], network: Callable[[], Any], context: Context, dtype: type) -> None:
        self._name, self._network, self._context, self._dtype = name, network, context, dtype
        self._predictor: loop.Predictor | None = None

    def __call__(self, epoch: int) -> Array:
        """The outputs on the images of epoch `epoch`, (n, k)."""
        key = {**self._name, **self._context.view_key(epoch)}
        return self._context.results.arrays(key, lambda: self._compute(epoch))["answers"]

    def _compute(self, epoch: int) -> Arrays:
        if self._predictor is None:
            self._predictor = loop.Predictor(self._network())
        return {"answers": self._predictor(self._context.images(epoch)).astype(self._dtype)}


class SoftTargets(_CachedOutputs):
    """A teacher's logits: float32 (n, classes) for each view of the training images.

    Args:
        key: the teacher's cache key.
        teacher: the teacher.
        context: the data, its augmentation, and the cache.
    """

    def __init__(self, key: str, teacher: Checkpoint, context: Context) -> None:
        super().__init__({"soft targets of": key}, lambda: checkpoints.restore(teacher), context, np.float32)


class AttentionMaps(_CachedOutputs):
    """A teacher's attention maps, concatenated: float16 (n, elements of all maps) for each view of the training images.

    float16 halves the size. Its rounding error is below 0.0005 of a map's norm; maps of two networks differ by tenths of it.

    Args:
        key: the teacher's cache key.
        teacher: the teacher.
        context: the data, its augmentation, and the cache.
        maps: layer names, each with its map's height and width.
    """

    def __init__(self, key: str, teacher: Checkpoint, context: Context, maps: list[MapSpec]) -> None:
        def network() -> Any:
            import tensorflow as tf
            import tf_keras as keras

            model = checkpoints.restore(teacher)
            return keras.Model(model.input, tf.concat(attention_maps(model, maps), axis=1))

        super().__init__({"attention maps of": key, "places": maps}, network, context, np.float16)
