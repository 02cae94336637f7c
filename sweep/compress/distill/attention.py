"""Attention maps of feature maps, and the pairs of layers of student and teacher whose maps are compared."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from sweep.core.errors import ConfigError
from sweep.core.types import Array

_MAP_SIDE = 8  # the largest side of an attention map, so that the cache has at most 64 numbers for each image and pair
EPSILON = 1e-12  # lower bound of a squared norm, as in the authors' code, so that gradients stay finite


def attention(features: Any, size: tuple[int, int]) -> Any:
    """The attention map of a feature map: squared activations summed over channels, pooled and L2-normalised.

    The sum is F_sum with p = 2 of Zagoruyko and Komodakis 2017 (arXiv 1612.03928), section 3.1. It is average-pooled before the
    normalisation.

    Args:
        features: float32 (n, height, width, channels).
        size: height and width of the map, at most those of the features.

    Returns:
        float32 (n, height * width of the map), at least 0; all zero for features that are all zero.
    """
    import tensorflow as tf

    rows, columns = (tf.constant(_pooling(length, parts)) for length, parts in zip(features.shape[1:3], size, strict=True))
    energy = tf.reduce_sum(tf.square(features), axis=-1)
    pooled = tf.matmul(tf.matmul(rows, energy), columns, transpose_b=True)
    return tf.math.l2_normalize(tf.reshape(pooled, (-1, size[0] * size[1])), axis=1, epsilon=EPSILON)


def _pooling(length: int, parts: int) -> Array:
    """The matrix that average-pools `length` pixels to `parts` equal bins, possibly fractional: float32 (parts, length)."""
    edges, pixels = np.linspace(0, length, parts + 1)[:, None], np.arange(length)
    overlaps = np.minimum(edges[1:], pixels + 1) - np.maximum(edges[:-1], pixels)
    means: Array = np.maximum(overlaps, 0) * parts / length
    return means.astype(np.float32)


MapSpec = tuple[str, tuple[int, int]]
"""A layer's name, and the height and width of its attention map."""


def attention_maps(model: Any, maps: list[MapSpec]) -> list[Any]:
    """The attention maps, (n, height * width) each, as tensors of the Keras model `model`."""
    outputs = feature_maps(model)
    return [attention(outputs[name], size) for name, size in maps]


def feature_maps(model: Any) -> dict[str, Any]:
    """Layer name to output tensor, for the layers whose output is (n, height, width, channels) and larger than 1x1.

    The layers are in the model's order. The input layer is not among them.
    """
    import tf_keras as keras

    maps = {}
    for layer in model.layers:
        # A layer that is called twice has two outputs; the output of a nested model belongs to another graph.
        if isinstance(layer, (keras.layers.InputLayer, keras.Model)) or len(layer.inbound_nodes) != 1:
            continue
        shape = layer.output_shape
        if isinstance(shape, tuple) and len(shape) == 4 and None not in shape[1:] and shape[1] * shape[2] > 1:
            maps[layer.name] = layer.output
    return maps


class Pair(NamedTuple):
    """A layer of the student, a layer of the teacher, and the common height and width of their attention maps."""

    student: str
    teacher: str
    size: tuple[int, int]


def pairs(student: Any, teacher: Any, layers: Mapping[str, str] | None) -> list[Pair]:
    """Pairs the layers of two Keras models.

    Args:
        student: the student's model.
        teacher: the teacher's model.
        layers: the student's layers to the teacher's, by name. None pairs, for each height and width that both networks have,
            the last layer of each with that size; without a common size it pairs the last feature maps.

    Returns:
        The pairs, in the student's order.

    Raises:
        ConfigError: for a layer that does not exist or has no feature map, or a network without feature maps.
    """
    student_maps, teacher_maps = feature_maps(student), feature_maps(teacher)
    for role, model, maps in (("student", student, student_maps), ("teacher", teacher, teacher_maps)):
        if not maps:
            expected = f"a {role} with layers of height x width x channels, larger than 1x1"
            raise ConfigError("layers", expected, f"none in {model.name}")
    if layers is None:
        layers = _pairs_by_size(student_maps, teacher_maps)
    for role, maps, names in (("student", student_maps, layers.keys()), ("teacher", teacher_maps, layers.values())):
        if unknown := [name for name in names if name not in maps]:
            raise ConfigError("layers", f"layers of the {role} with a feature map: {', '.join(maps)}", unknown[0])
    # In the network's order, so that the same mapping in another order has the same cache key.
    return [
        Pair(name, layers[name], _map_size(features, teacher_maps[layers[name]]))
        for name, features in student_maps.items()
        if name in layers
    ]


def _pairs_by_size(student_maps: Mapping[str, Any], teacher_maps: Mapping[str, Any]) -> dict[str, str]:
    """The last layers of each common height and width; without one, the last layers."""
    student_layers = {tuple(features.shape[1:3]): name for name, features in student_maps.items()}
    teacher_layers = {tuple(features.shape[1:3]): name for name, features in teacher_maps.items()}
    matches = {name: teacher_layers[size] for size, name in student_layers.items() if size in teacher_layers}
    return matches or {list(student_maps)[-1]: list(teacher_maps)[-1]}


def _map_size(features: Any, other: Any) -> tuple[int, int]:
    """The smaller height and the smaller width of two feature maps, at most _MAP_SIDE."""
    height, width = (min(_MAP_SIDE, *sides) for sides in zip(features.shape[1:3], other.shape[1:3], strict=True))
    return height, width
