"""Random weights for checks of an untrained network.

No factor is exactly 1 and no offset exactly 0, as they are in a fresh network, since the converter would fold them away.
Kernels preserve the variance of their inputs (He et al. 2015, arXiv 1502.01852), so that activations have a realistic magnitude
at any depth.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from sweep.core.types import Array, Checkpoint, Spec
from sweep.models import checkpoints

_OFFSETS = frozenset({"bias", "beta", "moving_mean", "mean"})
_FACTORS = frozenset({"gamma", "moving_variance", "variance", "moving_stddev"})


def network(model: Spec, input_shape: tuple[int, int, int], classes: int, seed: int) -> Checkpoint:
    """A network with random weights.

    Args:
        model: the specification of the network.
        input_shape: (height, width, channels) of an image.
        classes: the number of logits.
        seed: the seed of what `build` draws.
    """
    checkpoints.fresh(seed)
    built = model.build(input_shape, classes)
    built.set_weights(draw([(weight.name, weight.numpy()) for weight in built.weights]))
    return checkpoints.snapshot(built)


def draw(weights: Sequence[tuple[str, Array]]) -> list[Array]:
    """Random values for a network's weights, the same at every call.

    Args:
        weights: (name in Keras, value) of each weight, with names such as `conv1/kernel:0`.

    Returns:
        Values of the same shapes and dtypes: kernels normal with variance 2 / fan-in, offsets of either sign with magnitude in
        [0.05, 0.15], factors and variances in [0.8, 1.25] but not 1. Weights that are no floats, such as counters, are
        unchanged.
    """
    draws = np.random.default_rng(0)
    return [_drawn(name.rpartition("/")[2].partition(":")[0], value, draws) for name, value in weights]


def _drawn(role: str, value: Array, draws: np.random.Generator) -> Array:
    if not np.issubdtype(value.dtype, np.floating):
        return value
    if role in _FACTORS:
        drawn = np.exp(_both_signs(value, math.log(1.02), math.log(1.25), draws))
    elif role in _OFFSETS or value.ndim < 2:
        drawn = _both_signs(value, 0.05, 0.15, draws)
    else:
        drawn = draws.normal(0.0, math.sqrt(2 / _fan_in(role, value.shape)), value.shape)
    return np.asarray(drawn, value.dtype)


def _both_signs(value: Array, low: float, high: float, draws: np.random.Generator) -> Array:
    """Values with uniform magnitudes in [low, high] and random signs."""
    drawn: Array = draws.uniform(low, high, value.shape) * draws.choice((-1.0, 1.0), value.shape)
    return drawn


def _fan_in(role: str, shape: tuple[int, ...]) -> int:
    """The fan-in of a kernel; for a depthwise kernel, of one channel."""
    return max(1, math.prod(shape[:-2] if role == "depthwise_kernel" else shape[:-1]))
