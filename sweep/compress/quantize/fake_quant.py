"""Wraps a network for quantisation-aware training with TFMOT's n-bit scheme, and calibrates its activation ranges.

The scheme is applied to the whole network, with bits of its own for each layer.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from sweep.models import equivalence
from sweep.tflite import calibrate
from sweep.tflite.weight_storage import MOST_BITS

_ACTIVATION_BITS = 8


class WrappingError(RuntimeError):
    """TFMOT cannot train the network under fake quantisation."""


def wrapped(model: Any, bits: Mapping[str, int], *, shared: Collection[str]) -> Any:
    """Wraps a model with fake quantisers on every weight and activation, whose ranges are still to be calibrated.

    Args:
        model: a float Keras model.
        bits: layer name to the bits of its kernel's grid; 8 for other layers.
        shared: layers whose kernel has one scale for all of its channels, so that equal weights stay equal as integers.

    Returns:
        The fake-quantised Keras model.

    Raises:
        WrappingError: for a network that TFMOT does not know how to wrap.
    """
    import tensorflow as tf
    import tf_keras as keras
    from tensorflow_model_optimization.python.core.quantization.keras import quantize
    from tensorflow_model_optimization.python.core.quantization.keras.experimental.default_n_bit import (
        default_n_bit_quantize_layout_transform as layouts,
    )
    from tensorflow_model_optimization.python.core.quantization.keras.experimental.default_n_bit import (
        default_n_bit_quantize_registry as registries,
    )
    from tensorflow_model_optimization.python.core.quantization.keras.experimental.default_n_bit import (
        default_n_bit_quantize_scheme as schemes,
    )
    from tensorflow_model_optimization.python.core.quantization.keras.experimental.default_n_bit import (
        default_n_bit_quantizers as quantizers,
    )

    if isinstance(model, keras.Sequential):  # TFMOT gives the input a layer of its own in a functional model only
        model = keras.Model(model.inputs, model.outputs, name=model.name)

    class OneGrid(quantizers.DefaultNBitConvWeightsQuantizer):  # type: ignore[misc]
        """One range for all channels of a convolution, stored per channel, so that the converter folds batch norm."""

        def __call__(self, inputs: Any, training: bool, weights: Any, **kwargs: Any) -> Any:
            if training:
                threshold = tf.fill(weights["max_var"].shape, tf.reduce_max(tf.abs(inputs)))
                weights["min_var"].assign(-threshold)
                weights["max_var"].assign(threshold)
            return super().__call__(inputs, False, weights, **kwargs)

    class Registry(registries.DefaultNBitQuantizeRegistry):  # type: ignore[misc]
        """TFMOT's registry, with bits for each layer in place of one number for all."""

        def get_quantize_config(self, layer: Any) -> Any:
            width = bits.get(layer.name, MOST_BITS)
            config = registries.DefaultNBitQuantizeRegistry(
                num_bits_weight=width, num_bits_activation=_ACTIVATION_BITS
            ).get_quantize_config(layer)
            if layer.name in shared and isinstance(config.weight_quantizer, quantizers.DefaultNBitConvWeightsQuantizer):
                config.weight_quantizer = OneGrid(num_bits_weight=width, num_bits_activation=_ACTIVATION_BITS)
            return config

    registry = Registry(num_bits_weight=MOST_BITS, num_bits_activation=_ACTIVATION_BITS)

    class Layout(layouts.DefaultNBitQuantizeLayoutTransform):  # type: ignore[misc]
        """TFMOT's layout, which asks no registry for the kernels that feed a concatenation and would give them 8 bits."""

        def apply(self, model: Any, layer_quantize_map: Any) -> Any:
            model, configs = super().apply(model, layer_quantize_map)
            for layer in model.layers:
                config = configs.get(layer.name, {}).get("quantize_config")
                if layer.name in bits and isinstance(config, registries.DefaultNBitQuantizeConfig):
                    configs[layer.name]["quantize_config"] = registry.get_quantize_config(layer)
            return model, configs

    class Scheme(schemes.DefaultNBitQuantizeScheme):  # type: ignore[misc]
        def get_layout_transformer(self) -> Any:
            return Layout(num_bits_weight=MOST_BITS, num_bits_activation=_ACTIVATION_BITS)

        def get_quantize_registry(self) -> Any:
            return registry

    scheme = Scheme(num_bits_weight=MOST_BITS, num_bits_activation=_ACTIVATION_BITS)
    try:
        with _input_order_kept():
            return quantize.quantize_apply(quantize.quantize_annotate_model(model), scheme)
    except (RuntimeError, ValueError) as error:
        reason = re.sub(r":<class '[\w.]*?(\w+)'>", r" (\1)", str(error)).partition(". ")[0]
        raise WrappingError(f"one that the toolkit cannot train so: {reason}") from error


def require_equivalent(wrapped: Any, model: Any) -> None:
    """Refuses a wrapped network whose logits, with the fake quantisers disabled, are not those of the float one.

    Args:
        wrapped: the fake-quantised model.
        model: the float Keras model.

    Raises:
        EquivalenceError: with the relative deviation.
    """
    images = equivalence.images(model.input_shape[1:]) / np.float32(255)
    expected = model(images, training=False).numpy()
    if not np.isfinite(expected).all():
        return  # there is nothing to compare, and the calibration names the layer
    with _quantisers_disabled():
        logits = wrapped(images, training=False).numpy()
    equivalence.require(equivalence.Step.WRAPPING, expected, logits)


def calibrate_ranges(model: Any, images: Any) -> None:
    """Sets every activation range to the minimum and maximum over the images, in place.

    TFMOT starts the ranges at -6 and 6 and moves them by a thousandth a step, which clips or wastes the grid for long.

    Args:
        model: a fake-quantised Keras model.
        images: uint8 (n, height, width, channels); they are one batch.

    Raises:
        RangeError: naming the first range that is not finite.
    """
    import tensorflow as tf

    norms = [inner for layer in model.layers if type(inner := getattr(layer, "layer", layer)).__name__ == "BatchNormalization"]
    trainable = [norm.trainable for norm in norms]
    for norm in norms:
        norm.trainable = False
    with _ranges_follow_the_batch():
        model(tf.constant(images, tf.float32) / 255.0, training=True)
    for norm, was in zip(norms, trainable, strict=True):
        norm.trainable = was
    calibrate.require_finite((weight.name, weight.numpy()) for weight in model.weights)
    pin_input_range(model)


@contextmanager
def _input_order_kept() -> Iterator[None]:
    """Makes TFMOT keep the order of a layer's inputs.

    TFMOT (0.8.1) looks them up in its list of layers, whose order each transformation changes, and writes them in that order: a
    concatenation of a transformed convolution and a pooling would have its inputs swapped.
    """
    from tensorflow_model_optimization.python.core.quantization.keras.graph_transformations import model_transformer

    transformer = model_transformer.ModelTransformer
    original = transformer._get_layers

    def in_order(self: Any, names: list[str]) -> list[Any]:
        return sorted(original(self, names), key=lambda layer: names.index(layer["config"]["name"]))

    with _replaced(transformer, "_get_layers", in_order):
        yield


@contextmanager
def _quantisers_disabled() -> Iterator[None]:
    """Makes every fake quantiser return its input."""
    from tensorflow_model_optimization.python.core.quantization.keras import quant_ops

    with _replaced(quant_ops, "_FakeQuantWithMinMaxVars", lambda inputs, *args, **kwargs: inputs):
        yield


@contextmanager
def _ranges_follow_the_batch() -> Iterator[None]:
    """Makes the moving averages of the ranges take the values of the batch."""
    from tensorflow_model_optimization.python.core.quantization.keras import quant_ops

    original = quant_ops.MovingAvgQuantize

    def without_decay(*args: Any, **kwargs: Any) -> Any:
        return original(*args, **{**kwargs, "ema_decay": 0.0})

    with _replaced(quant_ops, "MovingAvgQuantize", without_decay):
        yield


@contextmanager
def _replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    """Gives a module or a class another value of an attribute for a while."""
    original = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, original)


def pin_input_range(model: Any) -> None:
    """Sets the range of the input to that of images, [0, 1], so that its grid is exactly the pixel values."""
    limits = {weight.name.rpartition("_")[2]: weight for weight in model.layers[1].weights}
    limits["min:0"].assign(0.0)
    limits["max:0"].assign(1.0)
