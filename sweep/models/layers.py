"""Finds the layers of a Keras model, nested ones included, and their kernels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from sweep.models.probes import flat


def last_with_weights(model: Any) -> tuple[list[Any], Any]:
    """The last layer with weights on each path to the output, and the last layer that computes."""
    last = model.outputs[0]._keras_history.layer
    pending, seen, layers = [last], set(), []
    while type(last).__name__ in ("Dropout", "Flatten", "Reshape"):
        last = _before(last, model)[0]
    while pending:
        layer = pending.pop()
        if id(layer) in seen:
            continue
        seen.add(id(layer))
        if layer.weights:
            layers.append(layer)
        else:
            pending += _before(layer, model)
    return layers, last


def _before(layer: Any, model: Any) -> list[Any]:
    """The layers whose outputs are the inputs of a layer."""
    nodes = [node for node in layer.inbound_nodes if any(node in nodes for nodes in model._nodes_by_depth.values())]
    return [parent for node in nodes for parent in flat(node.inbound_layers)]


def all_layers(model: Any) -> Iterator[Any]:
    """Yields every layer once, nested ones included."""
    yield from model._flatten_layers(include_self=False, recursive=True)


def flat_layers(model: Any) -> Iterator[Any]:
    """Yields the layers of a network, with each nested network replaced by its layers."""
    import tf_keras as keras

    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from flat_layers(layer)
        else:
            yield layer


def kernel_weights(layer: Any) -> list[Any]:
    """The kernels of a layer; for a user's own layer, every weight of two or more dimensions."""
    own = not of_keras(type(layer))
    roles = [(weight, weight.name.rpartition("/")[2]) for weight in layer.weights]
    return [weight for weight, role in roles if "kernel" in role or "embeddings" in role or (own and _rank(weight) > 1)]


def _rank(weight: Any) -> int:
    return len(weight.shape)


def weight_count(weight: Any) -> int:
    """The number of elements of a variable."""
    return int(np.prod(weight.shape))


def layer_list(*layers: Any) -> str:
    """Layers as text for a message: `conv1 (Conv2D), conv2 (Conv2D)`."""
    return ", ".join(f"{layer.name} ({type(layer).__name__})" for layer in layers)


def of_keras(kind: type) -> bool:
    """Whether a class belongs to Keras 2 (tf_keras)."""
    return kind.__module__.partition(".")[0] == "tf_keras"
