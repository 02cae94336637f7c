"""Converts between Keras models and checkpoints, and finds the kernels of a model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from sweep.core.types import Array, Checkpoint


def fresh(seed: int) -> None:
    """Clears Keras's state and sets the seed, so that no stage depends on an earlier one."""
    import tf_keras as keras

    keras.backend.clear_session()
    keras.utils.set_random_seed(seed)


def snapshot(model: Any, masks: Mapping[str, Array] | None = None) -> Checkpoint:
    """The checkpoint of a float Keras model, with its pruning masks (layer name to bool of the kernel's shape)."""
    return Checkpoint(model.to_json(), tuple(model.get_weights()), dict(masks or {}))


def restore(checkpoint: Checkpoint) -> Any:
    """The Keras model of a float checkpoint. Its JSON names layers and contains no code."""
    model = architecture(checkpoint)
    model.set_weights(list(checkpoint.weights))
    return model


def architecture(checkpoint: Checkpoint) -> Any:
    """The float Keras model of a checkpoint, with fresh weights."""
    import tf_keras as keras

    return keras.models.model_from_json(checkpoint.architecture)


def kernel_names(checkpoint: Checkpoint) -> list[str]:
    """The layer names of `every_kernel`, in its order, without building the model."""
    layers = json.loads(checkpoint.architecture)["config"]["layers"]
    return [layer["config"]["name"] for layer in layers if layer["class_name"] in ("Conv2D", "Dense", "DepthwiseConv2D")]


def kernels(model: Any, layers: str = "all") -> dict[str, Any]:
    """Layer name to kernel variable of each prunable layer, in the model's order.

    Args:
        model: a float Keras model, or one wrapped for quantisation-aware training.
        layers: `conv` (full convolutions), `dense` or `all`. Depthwise convolutions are never pruned.
    """
    import tf_keras as keras

    wanted = {"conv": (keras.layers.Conv2D,), "dense": (keras.layers.Dense,)}
    return _kernels(model, wanted["conv"] + wanted["dense"] if layers == "all" else wanted[layers])


def every_kernel(model: Any) -> dict[str, Any]:
    """Layer name to kernel variable as `kernels`, depthwise convolutions included."""
    import tf_keras as keras

    return _kernels(model, (keras.layers.Conv2D, keras.layers.Dense, keras.layers.DepthwiseConv2D))


def _kernels(model: Any, types: tuple[type, ...]) -> dict[str, Any]:
    variables = {}
    for layer in model.layers:
        inner = getattr(layer, "layer", layer)
        if type(inner) in types:
            # By name among the weights: a quantisation wrapper replaces the layer's own `kernel` with a tensor.
            roles = {weight.name.rpartition("/")[2]: weight for weight in layer.weights}
            variables[inner.name] = roles["depthwise_kernel:0"] if "depthwise_kernel:0" in roles else roles["kernel:0"]
    return variables
