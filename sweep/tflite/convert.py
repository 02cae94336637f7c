"""Converts a Keras model to the bytes of a `.tflite` file, and quantises a float32 file to a full-integer one.

This is the only module that calls TensorFlow's converter. Nothing is measured here.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from sweep.core import native
from sweep.core.types import Storage
from sweep.tflite import calibrate, requantize

_MIN_RELATIVE_RANGE = 2.0**-10


class ExportError(RuntimeError):
    """The converter or its quantiser refused the network."""


def convert(model: Any, storage: Storage, bits: Mapping[str, int] | None = None) -> bytes:
    """Converts a Keras model.

    The graph is frozen first, which makes the conversion 5 to 10 times faster and does not change the file.

    Args:
        model: a Keras model from float32 images (n, height, width, channels) to logits. For INTEGER it is fake-quantised;
            where a bias would saturate, the ranges of its kernels are widened in place.
        storage: the format of the file. INTEGER has int8 input and output.
        bits: for INTEGER, layer name to the bits of its kernel's grid, which the converter does not always preserve.

    Returns:
        The bytes of a `.tflite` with an input (1, height, width, channels) and an output (1, classes), the logits.

    Raises:
        ExportError: when the converter refuses the network, or a weight or the range of an activation is not finite.
    """
    try:
        calibrate.require_finite((weight.name, weight.numpy()) for weight in model.weights)
    except calibrate.RangeError as error:
        raise ExportError(f"the network: {error}") from error
    content = _converted(model, storage)
    if storage is not Storage.INTEGER:
        return content
    if requantize.has_saturated_bias(content):
        widen_narrow_grids(model)
        content = _converted(model, storage)
    return requantize.limit_biases(requantize.rescale_grids(content, bits or {}))


def _converted(model: Any, storage: Storage) -> bytes:
    """The file as the converter writes it."""
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    image = tf.TensorSpec((1, *model.input_shape[1:]), tf.float32, name="image")
    function = tf.function(lambda image: {"logits": model(image, training=False)}).get_concrete_function(image)
    converter = tf.lite.TFLiteConverter.from_concrete_functions([convert_variables_to_constants_v2(function)])
    if storage is not Storage.FLOAT32:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if storage is Storage.FLOAT16:
        converter.target_spec.supported_types = [tf.float16]
    if storage is Storage.INTEGER:
        converter.inference_input_type = converter.inference_output_type = tf.int8
    with _export_errors("the network"), warnings.catch_warnings():
        # The ranges of a full-integer file are in the network's own fake quantisation.
        warnings.filterwarnings("ignore", "Statistics for quantized inputs were expected")
        return bytes(converter.convert())


def quantise(content: bytes, calibration: requantize.Calibration) -> bytes:
    """Quantises a float32 file to full integer, with activation ranges calibrated on the rounded kernels.

    The converter's quantisers are called directly, through TensorFlow's private modules, because the ranges come from
    `calibrate`. The newer quantiser is used for 8-bit activations, the older one for 16 bits, which the newer one lacks.

    Args:
        content: the bytes of the network's float32 `.tflite`.
        calibration: the calibration images and the quantised kernels.

    Returns:
        The bytes of a `.tflite` whose input and output are integers of `activation_bits`.

    Raises:
        ExportError: when the quantiser refuses the file, or a kernel of the file does not match the network's.
    """
    import tensorflow as tf
    from tensorflow.lite.python.convert import mlir_quantize
    from tensorflow.lite.python.optimize.calibrator import Calibrator

    try:
        ranged = calibrate.with_ranges(requantize.round_kernels(content, calibration.kernels), calibration.images)
    except (ValueError, RuntimeError) as error:
        raise ExportError(f"the float32 file: {_first_line(error)}") from error
    with _export_errors("the float32 file"):
        if calibration.activation_bits == 16:
            quantised = Calibrator(ranged).calibrate_and_quantize(
                lambda: iter(()), tf.int16, tf.int16, False, activations_type=tf.int16, bias_type=tf.int64
            )
        else:
            quantised = mlir_quantize(ranged, input_data_type=tf.int8, output_data_type=tf.int8)
    try:
        return requantize.limit_biases(requantize.write_kernels(bytes(quantised), calibration.kernels))
    except ValueError as error:
        raise ExportError(f"the quantised file: {error}") from error


@contextmanager
def _export_errors(what: str) -> Iterator[None]:
    """Turns the exceptions of the converter into an ExportError that has the last line of its stderr."""
    with native.caught() as last_line:
        try:
            yield
        except Exception as error:
            raise ExportError(f"the converter refused {what}: {_first_line(error)} {last_line()}".strip()) from error


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def widen_narrow_grids(model: Any) -> None:
    """Widens the range of every channel of a kernel to at least 2^-10 of the widest of its layer, in place.

    The scale of a bias follows its channel's weights, so that the bias then fits into 32 bits. The precision that such a
    channel loses is negligible beside the other channels.

    Args:
        model: a fake-quantised Keras model.
    """
    for weight in model.weights:
        if not weight.name.endswith("kernel_max:0"):
            continue
        maxima = weight.numpy()
        min_range = np.float32(_MIN_RELATIVE_RANGE * maxima.max() if maxima.max() > 0 else _MIN_RELATIVE_RANGE)
        widened = np.maximum(maxima, min_range)
        weight.assign(widened)
        prefix = weight.name.removesuffix("kernel_max:0")
        kernel_min = next(other for other in model.weights if other.name == f"{prefix}kernel_min:0")
        kernel_min.assign(-widened)
