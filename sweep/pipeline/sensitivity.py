"""The sensitivity of each layer of a trained network to pruning and to few bits.

One kernel at a time is pruned or rounded while the rest of the network stays float, and the accuracy is measured on the
validation images. There is no fine-tuning, so a layer in a trial may lose less, and several layers together more.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass, fields

import numpy as np

from sweep.compress.quantize import clipping, mixed_precision
from sweep.core import files
from sweep.core.types import Array, Checkpoint, Data, Progress, Split
from sweep.models import checkpoints
from sweep.pipeline import executor
from sweep.pipeline.cache import Cache
from sweep.pipeline.kernel_changes import pruned, rounded
from sweep.pipeline.plan import Job
from sweep.train import loop

_TOLERANCE = 0.01  # of accuracy below the unchanged network: a loss that counts as small
_NAMED = 2  # layers in a line of the summary


@dataclass(frozen=True)
class Point:
    """The network with one kernel changed.

    Attributes:
        layer: the name of the layer; empty for the unchanged network.
        parameters: the number of weights of the kernel; of all kernels for the unchanged network.
        kind: `sparsity`, `bits` or `none`.
        value: the sparsity in (0, 1), or the bits; None for the unchanged network.
        val_accuracy: top-1 of the Keras model on the validation split, in [0, 1].
        divergence: the KL divergence of its outputs from those of the unchanged network, in nats (see
            `mixed_precision.divergence`).
    """

    layer: str
    parameters: int
    kind: str
    value: float | None
    val_accuracy: float
    divergence: float


def measure_job(job: Job, progress: Progress) -> tuple[tuple[Point, ...], Data]:
    """Measures the network of a job before its quantisation.

    Kernels are rounded with the clipping method of the job's quantisation; without one, at their largest magnitude.

    Returns:
        The points, and the data that the network was trained on.

    Raises:
        Exception: as `executor.network`.
    """
    network, data = executor.network(job.plan, Cache(job.store), progress)
    began = time.perf_counter()
    progress.stage("sensitivity", "layer")
    loop.start(job.plan.threads)
    checkpoints.fresh(job.plan.seed)
    points = measure(network, data.validation, getattr(job.plan.quant, "weight_range", clipping.MinMax()), progress)
    progress.finish("sensitivity", time.perf_counter() - began, reused=False)
    return points, data


def measure(network: Checkpoint, split: Split, weight_range: clipping.ClippingMethod, progress: Progress) -> tuple[Point, ...]:
    """Measures the unchanged network, then each layer with a kernel in the network's order: sparsities, then bits.

    Masked weights are zero in every point, so a sparsity below that of the mask changes nothing. Depthwise kernels are only
    rounded, since they are never pruned.

    Args:
        network: the float network before quantisation.
        split: the images and labels that the accuracy is measured on.
        weight_range: the clipping method.
        progress: shows how far the measurement is.
    """
    model = checkpoints.restore(network)
    predict, kernels, prunable = loop.Predictor(model), checkpoints.every_kernel(model), checkpoints.kernels(model)
    unchanged = predict(split.images)

    def point(layer: str, parameters: int, kind: str, value: float | None, logits: Array) -> Point:
        accuracy = float(np.mean(np.argmax(logits, axis=1) == split.labels))
        return Point(layer, parameters, kind, value, accuracy, mixed_precision.divergence(unchanged, logits))

    points = [point("", sum(math.prod(kernel.shape) for kernel in kernels.values()), "none", None, unchanged)]
    for number, (name, kernel) in enumerate(kernels.items()):
        before: Array = kernel.numpy()
        changes = [
            *(pruned(name, before, network) if name in prunable else ()),
            *rounded(name, kernel, network, weight_range),
        ]
        for done, (kind, value, after) in enumerate(changes):
            progress.advance(number + done / len(changes), len(kernels), name)
            kernel.assign(after)
            points.append(point(name, before.size, kind, value, predict(split.images)))
        kernel.assign(before)
    return tuple(points)


def table(points: Sequence[Point]) -> str:
    """The points as CSV."""
    return files.csv_text([field.name for field in fields(Point)], map(astuple, points))


def summary(points: Sequence[Point]) -> Iterator[str]:
    """Yields lines of text: the accuracy of the unchanged network, and the most and least sensitive layers.

    Layers are compared at the highest sparsity at which at least one is within a point of the unchanged network (at the lowest
    sparsity where none is), and at the fewest bits: by accuracy, ties by divergence.
    """
    unchanged = points[0].val_accuracy
    yield f"untouched: validation {unchanged:.2%}"
    harmless = [point.value for point in points if point.kind == "sparsity" and point.val_accuracy >= unchanged - _TOLERANCE]
    for kind, shown in (("sparsity", "{:.0%} sparsity"), ("bits", "{:.0f} bits")):
        if not (values := measured_values(points, kind)):
            continue
        at = max((value for value in harmless if value is not None), default=values[0]) if kind == "sparsity" else values[0]
        ranked = sorted(
            (point for point in points if point.kind == kind and point.value == at),
            key=lambda point: (point.val_accuracy, -point.divergence),
        )
        count = max(1, min(_NAMED, len(ranked) // 2))
        most = ", ".join(f"{point.layer} {point.val_accuracy:.2%}" for point in ranked[:count])
        least = ", ".join(f"{point.layer} {point.val_accuracy:.2%}" for point in ranked[::-1][:count])
        yield f"at {shown.format(at)} of one layer: most sensitive {most}; least {least}"


def measured_values(points: Sequence[Point], kind: str) -> list[float]:
    """The measured sparsities or bits, ascending."""
    return sorted({point.value for point in points if point.kind == kind and point.value is not None})


def accuracy_curves(points: Sequence[Point], kind: str) -> dict[str, tuple[float, ...]]:
    """Layer name to accuracies, in the order of the values."""
    curves: dict[str, tuple[float, ...]] = {}
    for point in points:
        if point.kind == kind:
            curves[point.layer] = (*curves.get(point.layer, ()), point.val_accuracy)
    return curves
