"""Checks that a network's kernels are those of its float32 file, so that the metrics count the right weights."""

from __future__ import annotations

from typing import Any

from sweep.core.errors import ConfigError
from sweep.models import checkpoints
from sweep.models.layers import flat_layers, kernel_weights, layer_list, weight_count
from sweep.tflite import audit, schema


def require_counted(model: Any, facts: audit.Audit) -> None:
    """Refuses a network whose file has more, fewer or other kernels.

    Args:
        model: a Keras model.
        facts: the audit of its float32 file, made with nonzero weights.

    Raises:
        ConfigError: without a key, naming the layers.
    """
    expected = "layers whose weights the file holds as kernels (convolutions and dense layers)"
    sizes = {layer: sum(map(weight_count, kernel_weights(layer))) for layer in flat_layers(model)}
    if sum(sizes.values()) == sum(kernel.size for kernel in facts.kernels):
        return
    shown = {schema.layer_of(kernel.name) for kernel in facts.kernels}
    missing = [layer for layer, size in sizes.items() if size and layer.name not in shown]
    raise ConfigError("", expected, layer_list(*missing) or "kernels that none of them has")


def require_true_sparsity(model: Any, layers: str, facts: audit.Audit) -> None:
    """Refuses a network where the file's sparsity would count layers that are not pruned.

    Args:
        model: a Keras model.
        layers: `conv`, `dense` or `all`.
        facts: the audit of its float32 file.

    Raises:
        ConfigError: without a key, naming the layers.
    """
    if sum(map(weight_count, checkpoints.kernels(model, layers).values())) != facts.weights(layers):
        known = checkpoints.every_kernel(model)
        others = [layer for layer in flat_layers(model) if layer.name not in known and kernel_weights(layer)]
        raise ConfigError("", "Conv2D and Dense layers alone, as the file counts others with them", layer_list(*others))
