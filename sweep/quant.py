"""Quantisation: what the file's weights become, after training (PTQ) or with training (QAT).

Both full-integer choices wrap the network with the toolkit's n-bit scheme and calibrate its activation ranges on training
images; QAT then trains under the fake quantisation, PTQ does not. So the two differ in nothing but that training. Weights live
on a symmetric grid, per output channel (per tensor in dense layers), where zero is exact: what pruning dropped stays zero in
the file.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Self

from sweep import data, fit, models
from sweep.records import Array, Checkpoint, Storage, require_choice, require_integer, require_number

# Grids that the file holds exactly: packed INT4 and INT8.
_BITS = (4, 8)
_ACTIVATION_BITS = 8


@dataclass(frozen=True)
class _Untouched:
    """A choice that leaves the network as it is and speaks to the converter only."""

    def apply(self, network: Checkpoint | None, context: fit.Context) -> fit.Outcome:
        """Hand the network on."""
        return fit.Outcome(fit.required(network))

    def untrained(self) -> Self:
        """Itself."""
        return self

    def restore(self, network: Checkpoint) -> Any:
        """The Keras model to convert."""
        return models.restore(network)


@dataclass(frozen=True)
class Float32(_Untouched):
    """No quantisation."""

    storage = Storage.FLOAT32
    bits = None


@dataclass(frozen=True)
class Float16(_Untouched):
    """Weights stored as float16, computed in float32."""

    storage = Storage.FLOAT16
    bits = None


@dataclass(frozen=True)
class Dynamic(_Untouched):
    """Weights of the larger tensors stored as int8, activations float (quantised on the fly)."""

    storage = Storage.DYNAMIC
    bits = None


@dataclass(frozen=True)
class PTQ:
    """Post-training quantisation to integers throughout, int8 in and out.

    Args:
        bits: of the weights' grid, 4 or 8; activations have 8.
        calibration_samples: how many training images set the activation ranges (at most all), at least 1.
    """

    bits: int
    calibration_samples: int

    storage = Storage.INTEGER

    def __post_init__(self) -> None:
        require_choice("bits", self.bits, _BITS)
        require_integer("calibration_samples", self.calibration_samples, 1)

    def apply(self, network: Checkpoint | None, context: fit.Context) -> fit.Outcome:
        """Wrap the network and calibrate it."""
        network = fit.required(network)
        model = _fake_quantised(models.restore(network), self.bits)
        _calibrate(model, self._samples(context))
        return fit.Outcome(self._snapshot(network, model))

    def untrained(self) -> Self:
        """Itself."""
        return self

    def _samples(self, context: fit.Context) -> Array:
        """Training images of all classes in fair proportion, however the file is sorted."""
        train = context.data.train
        return train.images[data.fair_order(train.labels)[: self.calibration_samples]]

    def restore(self, network: Checkpoint) -> Any:
        """The fake-quantised Keras model to convert."""
        model = _fake_quantised(models.architecture(network), self.bits)
        model.set_weights(list(network.weights))
        return model

    def _snapshot(self, network: Checkpoint, model: Any) -> Checkpoint:
        return Checkpoint(network.architecture, tuple(model.get_weights()), network.masks)


@dataclass(frozen=True)
class QAT(PTQ):
    """Quantisation-aware training (Jacob et al. 2018, arXiv 1712.05877): calibrated as PTQ, then trained on labels.

    Args:
        bits: see `PTQ`.
        calibration_samples: see `PTQ`.
        finetune: epochs of that training, at least 0; with 0 it is PTQ.
        learning_rate: their peak rate, above 0.
    """

    finetune: int
    learning_rate: float

    def __post_init__(self) -> None:
        super().__post_init__()
        require_integer("finetune", self.finetune, 0)
        require_number("learning_rate", self.learning_rate, 0, open_low=True)

    def apply(self, network: Checkpoint | None, context: fit.Context) -> fit.Outcome:
        """Wrap, calibrate and train; pruned weights are held at zero."""
        network = fit.required(network)
        model = _fake_quantised(models.restore(network), self.bits)
        _calibrate(model, self._samples(context))
        held = fit.HeldMasks(models.kernels(model), network.masks)
        curves = fit.on_labels(model, context, epochs=self.finetune, learning_rate=self.learning_rate, masks=held)
        _pin_input_range(model)
        return fit.Outcome(self._snapshot(network, model), curves)

    def untrained(self) -> Self:
        """The calibration alone."""
        return replace(self, finetune=0)


def _fake_quantised(model: Any, bits: int) -> Any:
    """The float `model` with every weight and activation on a grid, its ranges still to be calibrated."""
    from tensorflow_model_optimization.python.core.quantization.keras import quantize
    from tensorflow_model_optimization.python.core.quantization.keras.experimental.default_n_bit import (
        default_n_bit_quantize_scheme as n_bit,
    )

    scheme = n_bit.DefaultNBitQuantizeScheme(num_bits_weight=bits, num_bits_activation=_ACTIVATION_BITS)
    return quantize.quantize_apply(quantize.quantize_annotate_model(model), scheme)


def _calibrate(model: Any, images: Any) -> None:
    """Set every activation range to what `images`, uint8 (n, height, width, channels), give in one batch.

    The toolkit starts the ranges at -6 and 6 and moves them by a thousandth a step: for long that would clip or waste the grid.
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
    _pin_input_range(model)


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


def _pin_input_range(model: Any) -> None:
    """Give the input the range that images have, [0, 1], so that its grid is exactly the pixel values."""
    low, high = (next(one for one in model.layers[1].weights if one.name.endswith(end)) for end in ("_min:0", "_max:0"))
    low.assign(0.0)
    high.assign(1.0)
