"""Calibrates the activation ranges of a float32 file on images and writes them into the file, for the quantiser.

LiteRT runs the file with every activation as an output, in a fifth of the time of TensorFlow's own calibrator. The latter also
has a bug in additions (TensorFlow 2.21): where the sum overwrites an input in memory, the input's range is widened by that of
the sum, in a ResNet by up to half.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from sweep.core import native
from sweep.core.types import Array
from sweep.tflite import litert, schema


class RangeError(ValueError):
    """Weights or activations are not finite: native quantisers crash on an infinite range."""


def require_finite(values: Iterable[tuple[str, Array]]) -> None:
    """Checks that weights or ranges can be quantised.

    Args:
        values: (name of a weight or tensor, its float values), in the network's order.

    Raises:
        RangeError: naming the first weight or tensor with values that are not finite.
    """
    for name, numbers in values:
        if not np.isfinite(numbers).all():
            raise RangeError(f"expected finite numbers in {name}, found {np.min(numbers):g} to {np.max(numbers):g}")


def with_ranges(content: bytes, images: Array) -> bytes:
    """Writes the minimum and maximum of every activation over the images into the file, and [0, 1] for the input.

    Args:
        content: the bytes of a float32 `.tflite`.
        images: uint8 (n, height, width, channels), n >= 1.

    Returns:
        The file's bytes.

    Raises:
        RangeError: naming the first activation that overflows.
        RuntimeError: for a file that LiteRT does not run.
    """
    from ai_edge_litert.schema_py_generated import QuantizationParametersT

    model, _, types = schema.parsed(content)
    graph = model.subgraphs[0]
    activations = [
        int(index)
        for operator in graph.operators
        for index in operator.outputs
        if types[graph.tensors[index].type] == "FLOAT32"
    ]
    outputs, graph.outputs = graph.outputs, np.array(activations, np.int32)
    with native.caught():
        lows, highs = litert.output_ranges(schema.to_bytes(model), images / np.float32(255))
    graph.outputs = outputs
    names = [(graph.tensors[index].name or b"").decode() or f"tensor {index}" for index in activations]
    require_finite(zip(names, np.stack([lows, highs], axis=1), strict=True))
    highs[(lows == 0) & (highs == 0)] = 1  # any non-empty range suits a layer whose activations are all zero
    ranges = {int(graph.inputs[0]): (0.0, 1.0), **dict(zip(activations, zip(lows, highs, strict=True), strict=True))}
    for index, (low, high) in ranges.items():
        quantization = graph.tensors[index].quantization = QuantizationParametersT()
        quantization.min, quantization.max = np.array([low], np.float32), np.array([high], np.float32)
    return schema.to_bytes(model)
