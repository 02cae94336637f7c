"""Attention maps of feature maps, and the pairs of layers of student and teacher whose maps are compared."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from sweep.core.errors import ConfigError
from sweep.core.types import Array

_MAP_SIDE = 8  # of an attention map, at most: what the cache keeps for each image and pair is 64 numbers then
EPSILON = 1e-12  # lower bound of a squared norm, so that gradients stay finite: that of the authors' code


def attention(features: Any, size: tuple[int, int]) -> Any:
    """The attention map of a feature map: squared activations summed over channels, pooled and L2-normalised.

    The sum is F_sum with p = 2 of Zagoruyko and Komodakis 2017 (arXiv 1612.03928), section 3.1. It is average-pooled before the
    normalisation.

    Args:
        features: float32 (n, height, width, channels).
        size: height and width of the map, at most those of the features.

    Returns:
        float32 (n, height * width of the map), at least 0; all zero where the features are.
    """
    import tensorflow as tf

    rows, columns = (tf.constant(_pooling(length, parts)) for length, parts in zip(features.shape[1:3], size, strict=True))
    energy = tf.reduce_sum(tf.square(features), axis=-1)
    pooled = tf.matmul(tf.matmul(rows, energy), columns, transpose_b=True)
    return tf.math.l2_normalize(tf.reshape(pooled, (-1, size[0] * size[1])), axis=1, epsilon=EPSILON)


def _pooling(length: int, parts: int) -> Array:
    """The matrix that averages `length` pixels over equal parts, which may share a pixel: float32 (parts, length)."""
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
    """Layer name to output tensor, of the layers whose output is (n, height, width, channels) and larger than 1x1.

    The layers are in the model's order. The image itself is left out.
    """
    import tf_keras as keras

    maps = {}
    for layer in model.layers:
        # A layer that is called twice has two outputs; the output of a nested network is in a graph of its own.
        if isinstance(layer, (keras.layers.InputLayer, keras.Model)) or len(layer.inbound_nodes) != 1:
            continue
        shape = layer.output_shape
        if isinstance(shape, tuple) and len(shape) == 4 and None not in shape[1:] and shape[1] * shape[2] > 1:
            maps[layer.name] = layer.output
    return maps


class Pair(NamedTuple):
    """A layer of the student, a layer of the teacher, and the height and width of the two maps that are compared."""

    student: str
    teacher: str
    size: tuple[int, int]


def pairs(student: Any, teacher: Any, layers: Mapping[str, str] | None) -> list[Pair]:
    """Pairs the layers of two Keras models.

    Args:
        student: the student's model.
        teacher: the teacher's model.
        layers: the student's layers to the teacher's, by name; None to pair, for each height and width that both networks
            have, the last layer of each that has it, and where they have none in common, the last layers with a feature map.

    Returns:
        The pairs, in the student's order.

    Raises:
        ConfigError: for a layer that does not exist or has no feature map, or a network without feature maps.
    """
    mine, theirs = feature_maps(student), feature_maps(teacher)
    for role, found in (("student", mine), ("teacher", theirs)):
        if not found:
            expected = f"a {role} with layers of height x width x channels, larger than 1x1"
            raise ConfigError("layers", expected, f"none in {student.name if role == 'student' else teacher.name}")
    if layers is None:
        last, other = ({tuple(output.shape[1:3]): name for name, output in found.items()} for found in (mine, theirs))
        layers = {last[size]: other[size] for size in last if size in other} or {list(mine)[-1]: list(theirs)[-1]}
    for role, found, names in (("student", mine, layers.keys()), ("teacher", theirs, layers.values())):
        if wrong := [name for name in names if name not in found]:
            raise ConfigError("layers", f"layers of the {role} with a feature map: {', '.join(found)}", wrong[0])
    # In the network's order: the same mapping in another order names the same result.
    return [Pair(name, layers[name], _map_size(mine[name], theirs[layers[name]])) for name in mine if name in layers]


def _map_size(features: Any, other: Any) -> tuple[int, int]:
    height, width = (min(_MAP_SIDE, *sides) for sides in zip(features.shape[1:3], other.shape[1:3], strict=True))
    return height, width
