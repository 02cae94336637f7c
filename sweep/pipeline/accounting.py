"""Whether a network's kernels are those that its float32 file holds, so that metrics count what was asked for."""

from __future__ import annotations

from typing import Any

from sweep.core.errors import ConfigError
from sweep.models import checkpoints
from sweep.models.layers import flat_layers, kernel_weights, layer_list, weight_count
from sweep.tflite import audit, schema


def require_counted(model: Any, facts: audit.Audit) -> None:
    """Refuse a network of whose kernels the file shows more, fewer or others.

    Args:
        model: a Keras model.
        facts: what its float32 file holds, made with weights that are all different from zero.

    Raises:
        ConfigError: without a key, naming the layers.
    """
    expected = "layers whose weights the file holds as kernels (convolutions and dense layers)"
    have = {layer: sum(map(weight_count, kernel_weights(layer))) for layer in flat_layers(model)}
    if sum(have.values()) == sum(kernel.size for kernel in facts.kernels):
        return
    shown = {schema.layer_of(kernel.name) for kernel in facts.kernels}
    missing = [layer for layer, size in have.items() if size and layer.name not in shown]
    raise ConfigError("", expected, layer_list(*missing) or "kernels that none of them has")


def require_true_sparsity(model: Any, layers: str, facts: audit.Audit) -> None:
    """Refuse layers that the file counts with those that are pruned: its sparsity would not be the one asked for.

    Args:
        model: a Keras model.
        layers: `conv`, `dense` or `all`.
        facts: what its float32 file holds.

    Raises:
        ConfigError: without a key, naming the layers.
    """
    if sum(map(weight_count, checkpoints.kernels(model, layers).values())) != facts.weights(layers):
        known = checkpoints.every_kernel(model)
        others = [layer for layer in flat_layers(model) if layer.name not in known and kernel_weights(layer)]
        raise ConfigError("", "Conv2D and Dense layers alone, as the file counts others with them", layer_list(*others))
