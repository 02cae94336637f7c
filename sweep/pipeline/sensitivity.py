"""What each layer of a trained network loses by pruning, and by few bits, of its kernel alone.

One kernel at a time is pruned or rounded while all else stays as it is, and the network answers the validation images, which
nothing is trained or calibrated on. No fine-tuning follows and activations stay float, so a layer in a trial may do better, and
several layers together worse.
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

_WITHIN = 0.01  # of the untouched network's accuracy: what counts as hardly any loss where layers are named
_NAMED = 2


@dataclass(frozen=True)
class Point:
    """The network with one kernel changed.

    Attributes:
        layer: whose kernel; empty for the untouched network.
        parameters: the kernel's weights; of the untouched network those of all kernels.
        kind: `sparsity`, `bits` or `none`.
        value: the sparsity in (0, 1), or the bits; None for the untouched network.
        val_accuracy: top-1 of the Keras model on the validation split, in [0, 1].
        divergence: of its answers from the untouched network's, in nats (see `mixed`).
    """

    layer: str
    parameters: int
    kind: str
    value: float | None
    val_accuracy: float
    divergence: float


def measure_job(job: Job, progress: Progress) -> tuple[tuple[Point, ...], Data]:
    """The points of a job's network as the stages before quantisation leave it, and the data that it was trained on.

    The grids end where the job's quantisation has them end, else at a kernel's largest magnitude.

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
    """The untouched network, then each layer with a kernel, in the network's order: its sparsities, then its bits.

    What the network's masks hold at zero is zero in every point, so a sparsity below a mask's own changes nothing. Depthwise
    kernels are rounded only, since pruning never takes them.

    Args:
        network: the float network, as the stages before quantisation leave it.
        split: the images to answer, and their labels.
        weight_range: where a grid ends.
        progress: where to say how far it is.
    """
    model = checkpoints.restore(network)
    answers, kernels, prunable = loop.Predictor(model), checkpoints.every_kernel(model), checkpoints.kernels(model)
    whole = answers(split.images)

    def point(layer: str, parameters: int, kind: str, value: float | None, logits: Array) -> Point:
        accuracy = float(np.mean(np.argmax(logits, axis=1) == split.labels))
        return Point(layer, parameters, kind, value, accuracy, mixed_precision.divergence(whole, logits))

    points = [point("", sum(math.prod(kernel.shape) for kernel in kernels.values()), "none", None, whole)]
    for number, (name, kernel) in enumerate(kernels.items()):
        before: Array = kernel.numpy()
        changes = [
            *(pruned(name, before, network) if name in prunable else ()),
            *rounded(name, kernel, network, weight_range),
        ]
        for done, (kind, value, after) in enumerate(changes):
            progress.advance(number + done / len(changes), len(kernels), name)
            kernel.assign(after)
            points.append(point(name, before.size, kind, value, answers(split.images)))
        kernel.assign(before)
    return tuple(points)


def table(points: Sequence[Point]) -> str:
    """The points as CSV."""
    return files.csv_text([field.name for field in fields(Point)], map(astuple, points))


def summary(points: Sequence[Point]) -> Iterator[str]:
    """Lines for people: the untouched accuracy, and which layers lose most and least.

    Layers are compared at the highest sparsity at which one of them, at least, is within a point of the untouched network (at
    the lowest sparsity where none is), and at the fewest bits: by accuracy, equal ones by divergence.
    """
    untouched = points[0].val_accuracy
    yield f"untouched: validation {untouched:.2%}"
    hardly = [one.value for one in points if one.kind == "sparsity" and one.val_accuracy >= untouched - _WITHIN]
    for kind, shown in (("sparsity", "{:.0%} sparsity"), ("bits", "{:.0f} bits")):
        if not (values := measured_values(points, kind)):
            continue
        at = max((value for value in hardly if value is not None), default=values[0]) if kind == "sparsity" else values[0]
        ranked = sorted(
            (one for one in points if one.kind == kind and one.value == at), key=lambda one: (one.val_accuracy, -one.divergence)
        )
        named = max(1, min(_NAMED, len(ranked) // 2))
        most, least = (
            ", ".join(f"{one.layer} {one.val_accuracy:.2%}" for one in some)
            for some in (ranked[:named], ranked[: -named - 1 : -1])
        )
        yield f"at {shown.format(at)} of one layer: most sensitive {most}; least {least}"


def measured_values(points: Sequence[Point], kind: str) -> list[float]:
    """The values that were measured, ascending."""
    return sorted({one.value for one in points if one.kind == kind and one.value is not None})


def accuracy_curves(points: Sequence[Point], kind: str) -> dict[str, tuple[float, ...]]:
    """Layer name to accuracies, in the order of the values."""
    curves: dict[str, tuple[float, ...]] = {}
    for one in points:
        if one.kind == kind:
            curves[one.layer] = (*curves.get(one.layer, ()), one.val_accuracy)
    return curves
