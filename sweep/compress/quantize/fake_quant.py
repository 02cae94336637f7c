"""A network under fake quantisation, as the model-optimisation toolkit wraps it, and the ranges of its activations.

The toolkit's n-bit scheme is applied to the whole network, with each layer's own bits.
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
    """The toolkit cannot train the network under fake quantisation."""


def wrapped(model: Any, bits: Mapping[str, int], *, shared: Collection[str]) -> Any:
    """The float `model` with every weight and activation on a grid, its ranges still to be calibrated.

    Args:
        model: a float Keras model.
        bits: layer name to the bits of its kernel's grid.
        shared: layers whose kernel has one grid for all of its channels, so that weights that are equal stay equal as integers.

    Raises:
        WrappingError: for a network that the toolkit does not know how to wrap.
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

    if isinstance(model, keras.Sequential):  # the toolkit gives the input a layer of its own in a functional model only
        model = keras.Model(model.inputs, model.outputs, name=model.name)

    class OneGrid(quantizers.DefaultNBitConvWeightsQuantizer):  # type: ignore[misc]
        """A convolution's range, the same for each channel: the converter folds batch normalisation into no other kind."""

        def __call__(self, inputs: Any, training: bool, weights: Any, **kwargs: Any) -> Any:
            if training:
                end = tf.fill(weights["max_var"].shape, tf.reduce_max(tf.abs(inputs)))
                weights["min_var"].assign(-end)
                weights["max_var"].assign(end)
            return super().__call__(inputs, False, weights, **kwargs)

    class Registry(registries.DefaultNBitQuantizeRegistry):  # type: ignore[misc]
        """The toolkit's own, with each layer's bits in place of one number for all."""

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
        """The toolkit's own, which asks no registry for the kernels that feed a concatenation and would give them 8 bits."""

        def apply(self, model: Any, layer_quantize_map: Any) -> Any:
            model, chosen = super().apply(model, layer_quantize_map)
            for layer in model.layers:
                config = chosen.get(layer.name, {}).get("quantize_config")
                if layer.name in bits and isinstance(config, registries.DefaultNBitQuantizeConfig):
                    chosen[layer.name]["quantize_config"] = registry.get_quantize_config(layer)
            return model, chosen

    class Scheme(schemes.DefaultNBitQuantizeScheme):  # type: ignore[misc]
        def get_layout_transformer(self) -> Any:
            return Layout(num_bits_weight=MOST_BITS, num_bits_activation=_ACTIVATION_BITS)

        def get_quantize_registry(self) -> Any:
            return registry

    scheme = Scheme(num_bits_weight=MOST_BITS, num_bits_activation=_ACTIVATION_BITS)
    try:
        with _inputs_in_their_order():
            return quantize.quantize_apply(quantize.quantize_annotate_model(model), scheme)
    except (RuntimeError, ValueError) as error:
        reason = re.sub(r":<class '[\w.]*?(\w+)'>", r" (\1)", str(error)).partition(". ")[0]
        raise WrappingError(f"one that the toolkit cannot train so: {reason}") from error


def require_equivalent(wrapped: Any, model: Any) -> None:
    """Refuse a wrapped network that would not answer as the float one if nothing were rounded: the toolkit has rewired it.

    Args:
        wrapped: what `wrapped` made of `model`.
        model: the float Keras model.

    Raises:
        EquivalenceError: saying how far they are apart.
    """
    images = equivalence.images(model.input_shape[1:]) / np.float32(255)
    expected = model(images, training=False).numpy()
    if not np.isfinite(expected).all():
        return  # there is nothing to compare, and the calibration names the layer
    with _nothing_rounded():
        found = wrapped(images, training=False).numpy()
    equivalence.require(equivalence.Step.WRAPPING, expected, found)


def calibrate_ranges(model: Any, images: Any) -> None:
    """Set every activation range to what `images`, uint8 (n, height, width, channels), give in one batch.

    The toolkit starts the ranges at -6 and 6 and moves them by a thousandth a step: for long that would clip or waste the grid.

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
def _inputs_in_their_order() -> Iterator[None]:
    """Let the toolkit find the inputs of a layer in the order in which the layer takes them.

    It looks them up in its list of layers, whose order each rewriting changes, and writes the order that it found: a
    concatenation of a rewritten convolution and a pooling would have its inputs swapped (0.8.1).
    """
    from tensorflow_model_optimization.python.core.quantization.keras.graph_transformations import model_transformer

    transformer = model_transformer.ModelTransformer
    as_listed = transformer._get_layers

    def as_asked(self: Any, names: list[str]) -> list[Any]:
        return sorted(as_listed(self, names), key=lambda layer: names.index(layer["config"]["name"]))

    transformer._get_layers = as_asked
    try:
        yield
    finally:
        transformer._get_layers = as_listed


@contextmanager
def _nothing_rounded() -> Iterator[None]:
    """Let every quantiser hand its input on."""
    from tensorflow_model_optimization.python.core.quantization.keras import quant_ops

    rounded = quant_ops._FakeQuantWithMinMaxVars
    quant_ops._FakeQuantWithMinMaxVars = lambda inputs, *args, **kwargs: inputs
    try:
        yield
    finally:
        quant_ops._FakeQuantWithMinMaxVars = rounded


@contextmanager
def _ranges_follow_the_batch() -> Iterator[None]:
    """Let the moving averages forget everything but the batch at hand."""
    from tensorflow_model_optimization.python.core.quantization.keras import quant_ops

    averaged = quant_ops.MovingAvgQuantize

    def latest(*args: Any, **kwargs: Any) -> Any:
        return averaged(*args, **{**kwargs, "ema_decay": 0.0})

    quant_ops.MovingAvgQuantize = latest
    try:
        yield
    finally:
        quant_ops.MovingAvgQuantize = averaged


def pin_input_range(model: Any) -> None:
    """Give the input the range that images have, [0, 1], so that its grid is exactly the pixel values."""
    low, high = (next(one for one in model.layers[1].weights if one.name.endswith(end)) for end in ("_min:0", "_max:0"))
    low.assign(0.0)
    high.assign(1.0)
