"""A Keras model becomes the bytes of a `.tflite` file, and a float32 file those of a full-integer one.

Nothing else touches the converter, and nothing is measured here.
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


class ExportError(RuntimeError):
    """The converter refused the network."""


def convert(model: Any, storage: Storage, bits: Mapping[str, int] | None = None) -> bytes:
    """The file's bytes: one image in, logits out.

    The graph is frozen first, which makes the conversion 5 to 10 times faster and changes nothing in what comes out.

    Args:
        model: a Keras model from float32 images (n, height, width, channels) to logits; for INTEGER fake-quantised, and with
            wider grids afterwards where a bias would not have fitted into the file.
        storage: the kind of file. INTEGER takes and gives int8.
        bits: layer name to the bits of its kernel's grid, which the converter does not always keep; for INTEGER.

    Raises:
        ExportError: when the converter cannot do it, or a weight or the range of an activation is not finite.
    """
    try:
        calibrate.require_finite((weight.name, weight.numpy()) for weight in model.weights)
    except calibrate.RangeError as error:
        raise ExportError(f"the network: {error}") from error
    content = _converted(model, storage)
    if storage is not Storage.INTEGER:
        return content
    if requantize.cuts_biases(content):
        widen_narrow_grids(model)
        content = _converted(model, storage)
    return requantize.hold_biases(requantize.mend(content, bits or {}))


def _converted(model: Any, storage: Storage) -> bytes:
    """What the converter makes of a Keras model."""
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
    with _refusals("the network"), warnings.catch_warnings():
        # The ranges of a full-integer file are in the network's own fake quantisation.
        warnings.filterwarnings("ignore", "Statistics for quantized inputs were expected")
        return bytes(converter.convert())


def quantise(content: bytes, calibration: requantize.Calibration) -> bytes:
    """The full-integer file of a float32 one: kernels on their grids, activations in the ranges that images give them then.

    The quantisers are those that the converter calls, by the names that they have inside TensorFlow, since the ranges are our
    own (see `calibrate`): the newer one for 8-bit activations, and for 16 bits, which that does not know, the older one.

    Args:
        content: the bytes of the network's float32 `.tflite`.
        calibration: images, and the kernels' integers.

    Returns:
        The bytes of a `.tflite` that takes and gives integers of as many bits as its activations have.

    Raises:
        ExportError: when the toolkit cannot do it, or a kernel is not in the file as in the network.
    """
    import tensorflow as tf
    from tensorflow.lite.python.convert import mlir_quantize
    from tensorflow.lite.python.optimize.calibrator import Calibrator

    try:
        ranged = calibrate.with_ranges(requantize.snap(content, calibration.kernels), calibration.images)
    except (ValueError, RuntimeError) as error:
        raise ExportError(f"the float32 file: {_first_line(error)}") from error
    with _refusals("the float32 file"):
        if calibration.activation_bits == 16:
            quantised = Calibrator(ranged).calibrate_and_quantize(
                lambda: iter(()), tf.int16, tf.int16, False, activations_type=tf.int16, bias_type=tf.int64
            )
        else:
            quantised = mlir_quantize(ranged, input_data_type=tf.int8, output_data_type=tf.int8)
    try:
        return requantize.hold_biases(requantize.place(bytes(quantised), calibration.kernels))
    except ValueError as error:
        raise ExportError(f"the quantised file: {error}") from error


@contextmanager
def _refusals(what: str) -> Iterator[None]:
    """Make an ExportError of whatever the converter raises, with what it wrote to stderr last."""
    with native.caught() as last_line:
        try:
            yield
        except Exception as error:
            raise ExportError(f"the converter refused {what}: {_first_line(error)} {last_line()}".strip()) from error


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


_NARROWEST = 2.0**-10


def widen_narrow_grids(model: Any) -> None:
    """Give every channel of a kernel a grid at least a thousandth as wide as its layer's widest.

    What such a channel's weights then lose is nothing beside the other channels, but its bias, which is stored in steps of its
    weights' grid, fits into 32 bits.
    """
    for weight in model.weights:
        name, end, _ = weight.name.rpartition("kernel_max:0")
        if end:
            most = weight.numpy()
            least = np.float32(_NARROWEST * most.max() if most.max() > 0 else _NARROWEST)
            widened = np.maximum(most, least)
            weight.assign(widened)
            lowest = next(one for one in model.weights if one.name == f"{name}kernel_min:0")
            lowest.assign(-widened)
