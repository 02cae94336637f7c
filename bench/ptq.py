"""How long post-training quantisation takes: a float32 file to a full-integer one, against TensorFlow's own converter.

    python bench/ptq.py                 every network: about two minutes
    python bench/ptq.py resnet20        one of them

Ours is what `quant=ptq` does with the float32 file of a network and its kernels as arrays: round, read the ranges of the
activations off 128 images, quantise, put the integers in. It is timed at every width from 2 to 8 bits with each of the three
ranges; the median, and the slowest. What a user would do instead is `TFLiteConverter.from_keras_model` with a representative
data set of the same images, which makes 8 bits only; the median of three. One thread, random weights, random images. Seconds,
measured on two quiet cores:

    network       weights  float32 file (once)  from it, median  slowest  converter  ratio
    khan_student   20,432                 0.11             0.03     0.04       0.47     18
    lenet5        107,550                 0.12             0.04     0.09       0.88     20
    mobilenet      35,680                 0.24             0.07     0.09       2.96     43
    resnet8        77,360                 0.23             0.10     0.14       2.77     27
    resnet20      270,896                 0.49             0.29     0.35       6.05     21
    resnet56      851,504                 1.12             0.71     0.85      16.30     23
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from sweep.compress.quantize import clipping, rounding
from sweep.core import native
from sweep.core.types import Array, Spec, Storage
from sweep.models import checkpoints, families
from sweep.tflite import requantize
from sweep.tflite.convert import quantise
from sweep.train import loop

IMAGES = 128
WIDTHS = range(2, 9)
RANGES: tuple[clipping.ClippingMethod, ...] = (clipping.MinMax(), clipping.MSE(), clipping.OCTAV())
NETWORKS: dict[str, tuple[Spec, tuple[int, int, int]]] = {
    "khan_student": (families.Khan(filters=(16, 32), units=()), (28, 28, 1)),
    "lenet5": (families.LeNet5(), (28, 28, 1)),
    "mobilenet": (families.MobileNet(stem=16, filters=(32, 64, 64, 128, 128), strides=(1, 2, 1, 2, 1)), (32, 32, 3)),
    "resnet8": (families.ResNet(blocks=1), (32, 32, 3)),
    "resnet20": (families.ResNet(blocks=3), (32, 32, 3)),
    "resnet56": (families.ResNet(blocks=9), (32, 32, 3)),
}


def seconds(work: Callable[[], object]) -> float:
    """What one call takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def quantised(
    content: bytes, kernels: dict[str, Any], images: Array, bits: int, weight_range: clipping.ClippingMethod
) -> bytes:
    """The file with every kernel at so many bits."""
    rounded = {name: rounding.quantize_kernel(kernel, bits, weight_range, per_tensor=False) for name, kernel in kernels.items()}
    return quantise(content, requantize.Calibration(images, rounded))


def converted(model: Any, images: Array) -> bytes:
    """The full-integer file of the public converter, with the advice of its documentation."""
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    pixels = images / np.float32(255)
    converter.representative_dataset = lambda: ([image[None]] for image in pixels)
    with native.caught():
        return bytes(converter.convert())


def row(name: str) -> Iterator[str]:
    """The cells of a network's line."""
    spec, shape = NETWORKS[name]
    checkpoints.fresh(0)
    model = spec.build(shape, 10)
    images = np.random.default_rng(0).integers(0, 256, (IMAGES, *shape), np.uint8)
    kernels = checkpoints.every_kernel(model)
    content = b""

    def convert() -> None:
        nonlocal content
        content = convert(model, Storage.FLOAT32)

    first = seconds(convert)
    quantised(content, kernels, images, 8, RANGES[0])  # imports
    ours = [seconds(lambda at=at: quantised(content, kernels, images, *at)) for at in ((b, r) for b in WIDTHS for r in RANGES)]
    theirs = statistics.median(seconds(lambda: converted(model, images)) for _ in range(3))
    yield name
    yield f"{sum(math.prod(kernel.shape) for kernel in kernels.values()):,}"
    yield f"{first:.2f}"
    yield f"{statistics.median(ours):.2f}"
    yield f"{max(ours):.2f}"
    yield f"{theirs:.2f}"
    yield f"{theirs / statistics.median(ours):.0f}"


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", choices=[[], *NETWORKS], help="which (all)")
    names = parser.parse_args().networks or list(NETWORKS)
    loop.start(1)
    print("| network | weights | float32 file (once) | from it, median | slowest | converter | ratio |")
    print("|---|---|---|---|---|---|---|")
    for name in names:
        print(f"| {' | '.join(row(name))} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
