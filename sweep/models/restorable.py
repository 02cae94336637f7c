"""Checks that a network can be restored from its checkpoint, as in every later stage."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from sweep.core.errors import ConfigError
from sweep.core.types import Array
from sweep.models import checkpoints
from sweep.models.layers import layer_list
from sweep.models.probes import close, first_line, flat, random_images


def not_restorable(model: Any, attempt: Callable[[Any], object], error: Exception) -> ConfigError:
    """The error for a network on which `attempt` fails, naming the first layer on which it fails and the reason."""
    for layer in model.layers:
        try:
            attempt(layer)
        except Exception as reason:  # noqa: BLE001 - the message has it
            return ConfigError("", _RESTORABLE, f"{layer_list(layer)}: {first_line(reason)}")
    return ConfigError("", _RESTORABLE, f"{type(error).__name__}: {first_line(error)}")


_RESTORABLE = "layers that come back from their description (get_config) without code"


def require_restorable(model: Any, input_shape: tuple[int, int, int]) -> None:
    """Refuses a network whose restored checkpoint differs in its outputs, losses, weight updates, or constraints.

    Raises:
        ConfigError: without a key, naming the layer.
    """
    import tf_keras as keras

    # Distinct values, so that no factor of 1 or bias of 0 hides a difference; of similar magnitude as before.
    draws = np.random.default_rng(0)
    weights = [
        (value * draws.uniform(0.9, 1.1, value.shape) + draws.uniform(0, 0.02, value.shape)).astype(value.dtype)
        if np.issubdtype(value.dtype, np.floating)
        else value
        for value in model.get_weights()
    ]
    try:
        model.set_weights(weights)
        restored = checkpoints.restore(checkpoints.snapshot(model))
    except Exception as error:  # from a layer's own code
        raise not_restorable(model, lambda layer: keras.layers.deserialize(keras.layers.serialize(layer)), error) from error
    for weight, again in zip(model.weights, restored.weights, strict=True):
        before, after = ((each.name, each.trainable, type(each.constraint).__name__) for each in (weight, again))
        if before != after:
            raise ConfigError("", _RESTORABLE, f"{before[0]} as {after}, which was {before}")
    images = random_images(input_shape)

    def behaviour(network: Any, *, training: bool) -> list[Array]:
        """The logits, the losses that layers add, and the weights, which a call in training mode may update."""
        keras.utils.set_random_seed(0)
        network.set_weights(weights)
        logits = network(images, training=training).numpy()
        return [logits, np.array([float(loss) for loss in network.losses]), *network.get_weights()]

    for training in (False, True):
        first, second, back = (behaviour(network, training=training) for network in (model, model, restored))
        if all(map(close, first, second)) and not all(map(close, first, back)):
            layer = first_difference(model, *(outputs(network, images) for network in (model, restored)))
            raise ConfigError("", _RESTORABLE, f"another network, from {layer} on")


def outputs(model: Any, images: Array) -> dict[str, list[Array]]:
    """Layer name to the layer's outputs on images, for each layer that is used once."""
    import tf_keras as keras

    layers = [layer for layer in model.layers if len(layer.inbound_nodes) == 1]
    probe = keras.Model(model.inputs, [layer.output for layer in layers])
    values = flat(probe(images, training=False))
    return {layer.name: [np.asarray(values.pop(0)) for _ in flat(layer.output)] for layer in layers}


def first_difference(model: Any, first: Mapping[str, list[Array]], second: Mapping[str, list[Array]]) -> str:
    """The first layer whose outputs differ between two sets; the last layer if none does."""
    for name, parts in first.items():
        if not all(map(close, parts, second[name])):
            return layer_list(model.get_layer(name))
    return layer_list(model.layers[-1])
