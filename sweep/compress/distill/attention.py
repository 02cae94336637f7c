"""Attention maps of feature maps, and which maps of two networks belong together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from sweep.core.errors import ConfigError
from sweep.core.types import Array

_MAP_SIDE = 8  # of an attention map, at most: what the cache keeps for each image and pair is 64 numbers then
LEAST = 1e-12  # of the squared length of a map or a difference, so that gradients stay finite: the authors' own


def attention(features: Any, size: tuple[int, int]) -> Any:
    """Where activations are large: the sum over the channels of their squares, as a vector of length 1.

    Zagoruyko and Komodakis 2017, section 3.1: their F_sum with p = 2. It is averaged over equal parts before it is normalised.

    Args:
        features: float32 (n, height, width, channels).
        size: into how many parts height and width are divided, at most as many as they have.

    Returns:
        float32 (n, product of `size`), at least 0; all zero where the features are.
    """
    import tensorflow as tf

    rows, columns = (tf.constant(_parts(have, want)) for have, want in zip(features.shape[1:3], size, strict=True))
    energy = tf.reduce_sum(tf.square(features), axis=-1)
    pooled = tf.matmul(tf.matmul(rows, energy), columns, transpose_b=True)
    return tf.math.l2_normalize(tf.reshape(pooled, (-1, size[0] * size[1])), axis=1, epsilon=LEAST)


def _parts(have: int, want: int) -> Array:
    """float32 (want, have): the mean over each of `want` equal parts of `have` pixels, which may share a pixel."""
    edges, pixels = np.linspace(0, have, want + 1)[:, None], np.arange(have)
    shared = np.minimum(edges[1:], pixels + 1) - np.maximum(edges[:-1], pixels)
    means: Array = np.maximum(shared, 0) * want / have
    return means.astype(np.float32)


Place = tuple[str, tuple[int, int]]
"""A layer's name, and the height and width of its attention map."""


def attention_maps(model: Any, places: list[Place]) -> list[Any]:
    """The attention map of each place, (n, height * width), as tensors of the Keras model `model`."""
    outputs = feature_maps(model)
    return [attention(outputs[name], size) for name, size in places]


def feature_maps(model: Any) -> dict[str, Any]:
    """Layer name to output tensor of the layers that have (n, height, width, channels), larger than 1x1, in the model's order.

    The image itself is left out.
    """
    import tf_keras as keras

    found = {}
    for layer in model.layers:
        # What is called twice has two outputs; that of a network inside the network is in a graph of its own.
        if isinstance(layer, (keras.layers.InputLayer, keras.Model)) or len(layer.inbound_nodes) != 1:
            continue
        shape = layer.output_shape
        if isinstance(shape, tuple) and len(shape) == 4 and None not in shape[1:] and shape[1] * shape[2] > 1:
            found[layer.name] = layer.output
    return found


class Pair(NamedTuple):
    """A layer of the student, the layer of the teacher that it is compared with, and the height and width of their maps."""

    student: str
    teacher: str
    size: tuple[int, int]


def pairs(student: Any, teacher: Any, layers: Mapping[str, str] | None) -> list[Pair]:
    """Which layers of two Keras models are compared.

    Args:
        student: the network in training.
        teacher: its teacher.
        layers: the student's layers to the teacher's, by name; None to pair, for each height and width that both networks
            have, the last layer of each that has it, and where they have none in common, the last layers with a feature map.

    Raises:
        ConfigError: for a layer that is not there or has no feature map, or a network without one.
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
    return [Pair(one, layers[one], _map_size(mine[one], theirs[layers[one]])) for one in mine if one in layers]


def _map_size(one: Any, other: Any) -> tuple[int, int]:
    height, width = (min(_MAP_SIDE, *sides) for sides in zip(one.shape[1:3], other.shape[1:3], strict=True))
    return height, width
