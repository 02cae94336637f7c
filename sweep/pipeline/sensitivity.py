"""What each layer of a trained network loses by pruning, and by few bits, of its kernel alone.

One kernel at a time is pruned or rounded while all else stays as it is, and the network answers the validation images, which
nothing is trained or calibrated on. No fine-tuning follows and activations stay float, so a layer in a trial may do better, and
several layers together worse.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass, fields
from typing import Any

import numpy as np

from sweep.compress.prune import magnitude, schedules
from sweep.compress.quantize import clipping, mixed_precision, rounding
from sweep.core import files
from sweep.core.types import Array, Checkpoint, Progress, Split
from sweep.models import checkpoints
from sweep.train import loop

SPARSITIES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
BITS = (2, 3, 4, 5, 6, 7, 8)
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
    answers, kernels, prunable = loop.Answers(model), checkpoints.every_kernel(model), checkpoints.kernels(model)
    whole = answers(split.images)

    def point(layer: str, parameters: int, kind: str, value: float | None, logits: Array) -> Point:
        accuracy = float(np.mean(np.argmax(logits, axis=1) == split.labels))
        return Point(layer, parameters, kind, value, accuracy, mixed_precision.divergence(whole, logits))

    points = [point("", sum(math.prod(kernel.shape) for kernel in kernels.values()), "none", None, whole)]
    for number, (name, kernel) in enumerate(kernels.items()):
        before: Array = kernel.numpy()
        changes = [
            *(_pruned(name, before, network) if name in prunable else ()),
            *_rounded(name, kernel, network, weight_range),
        ]
        for done, (kind, value, after) in enumerate(changes):
            progress.advance(number + done / len(changes), len(kernels), name)
            kernel.assign(after)
            points.append(point(name, before.size, kind, value, answers(split.images)))
        kernel.assign(before)
    return tuple(points)


def _pruned(name: str, kernel: Array, network: Checkpoint) -> Iterator[tuple[str, float, Array]]:
    """(kind, sparsity, the kernel without its smallest weights), as `prune=local` chooses them."""
    kept = {name: mask} if (mask := network.masks.get(name)) is not None else {}
    for sparsity in SPARSITIES:
        pruning = magnitude.LocalMagnitude(
            sparsity=sparsity, layers="all", schedule=schedules.ConstantSparsity(), finetune=0, learning_rate=1.0
        )
        yield "sparsity", sparsity, kernel * pruning.masks({name: kernel}, kept, 1.0)[name]


def _rounded(
    name: str, kernel: Any, network: Checkpoint, weight_range: clipping.ClippingMethod
) -> Iterator[tuple[str, int, Array]]:
    """(kind, bits, the kernel on its grid), as `quant=ptq` rounds it. Zero is on every grid."""
    for bits in BITS:
        yield (
            "bits",
            bits,
            rounding.quantize_kernel(kernel, bits, weight_range, per_tensor=name in network.clusters).values.reshape(
                kernel.shape
            ),
        )


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
