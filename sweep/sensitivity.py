"""`python -m sweep.sensitivity`: what each layer of a trained network loses by pruning, and by few bits, of its kernel alone.

The stages before quantisation bring the network, out of the cache where they are there. Then one kernel at a time is pruned or
rounded while all else stays as it is, and the network answers the validation images, which nothing is trained or calibrated on.
No fine-tuning follows and activations stay float, so a layer in a trial may do better, and several layers together worse.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from sweep import command, files, fit, mixed, models, plots, prune, quant, supervisor, trial
from sweep.cache import Cache
from sweep.progress import Terminal
from sweep.records import Array, Checkpoint, ConfigError, Split

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from sweep.plan import Job

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


def measure(network: Checkpoint, split: Split, weight_range: quant.Range, terminal: Terminal) -> tuple[Point, ...]:
    """The untouched network, then each layer with a kernel, in the network's order: its sparsities, then its bits.

    What the network's masks hold at zero is zero in every point, so a sparsity below a mask's own changes nothing. Depthwise
    kernels are rounded only, since pruning never takes them.

    Args:
        network: the float network, as the stages before quantisation leave it.
        split: the images to answer, and their labels.
        weight_range: where a grid ends.
        terminal: where to say how far it is.
    """
    model = models.restore(network)
    answers, kernels, prunable = fit.Answers(model), models.every_kernel(model), models.kernels(model)
    whole = answers(split.images)

    def point(layer: str, parameters: int, kind: str, value: float | None, logits: Array) -> Point:
        accuracy = float(np.mean(np.argmax(logits, axis=1) == split.labels))
        return Point(layer, parameters, kind, value, accuracy, mixed.divergence(whole, logits))

    points = [point("", sum(math.prod(kernel.shape) for kernel in kernels.values()), "none", None, whole)]
    for number, (name, kernel) in enumerate(kernels.items()):
        before: Array = kernel.numpy()
        changes = [
            *(_pruned(name, before, network) if name in prunable else ()),
            *_rounded(name, kernel, network, weight_range),
        ]
        for done, (kind, value, after) in enumerate(changes):
            terminal.advance(number + done / len(changes), len(kernels), name)
            kernel.assign(after)
            points.append(point(name, before.size, kind, value, answers(split.images)))
        kernel.assign(before)
    return tuple(points)


def _pruned(name: str, kernel: Array, network: Checkpoint) -> Iterator[tuple[str, float, Array]]:
    """(kind, sparsity, the kernel without its smallest weights), as `prune=local` chooses them."""
    kept = {name: mask} if (mask := network.masks.get(name)) is not None else {}
    for sparsity in SPARSITIES:
        pruning = prune.LocalMagnitude(
            sparsity=sparsity, layers="all", schedule=prune.ConstantSparsity(), finetune=0, learning_rate=1.0
        )
        yield "sparsity", sparsity, kernel * pruning.masks({name: kernel}, kept, 1.0)[name]


def _rounded(name: str, kernel: Any, network: Checkpoint, weight_range: quant.Range) -> Iterator[tuple[str, int, Array]]:
    """(kind, bits, the kernel on its grid), as `quant=ptq` rounds it. Zero is on every grid."""
    for bits in BITS:
        yield "bits", bits, quant.rounded(kernel, bits, weight_range, one=name in network.clusters).values.reshape(kernel.shape)


def table(points: Sequence[Point]) -> str:
    """The points as CSV."""
    return files.csv_text([field.name for field in fields(Point)], map(astuple, points))


def picture(points: Sequence[Point], title: str) -> bytes:
    """The points as PNG."""
    labels = {"sparsity": "Sparsity of the layer's kernel (%)", "bits": "Bits of the layer's kernel"}
    panels = []
    for kind, label in labels.items():
        values = tuple(round(100 * value) if kind == "sparsity" else int(value) for value in _values(points, kind))
        panels.append(plots.Panel(label, values, _curves(points, kind)))
    return plots.sensitivity_png(title, points[0].val_accuracy, [panel for panel in panels if panel.accuracies])


def summary(points: Sequence[Point]) -> Iterator[str]:
    """Lines for people: the untouched accuracy, and which layers lose most and least.

    Layers are compared at the highest sparsity at which one of them, at least, is within a point of the untouched network (at
    the lowest sparsity where none is), and at the fewest bits: by accuracy, equal ones by divergence.
    """
    untouched = points[0].val_accuracy
    yield f"untouched: validation {untouched:.2%}"
    hardly = [one.value for one in points if one.kind == "sparsity" and one.val_accuracy >= untouched - _WITHIN]
    for kind, shown in (("sparsity", "{:.0%} sparsity"), ("bits", "{:.0f} bits")):
        if not (values := _values(points, kind)):
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


def _values(points: Sequence[Point], kind: str) -> list[float]:
    """The values that were measured, ascending."""
    return sorted({one.value for one in points if one.kind == kind and one.value is not None})


def _curves(points: Sequence[Point], kind: str) -> dict[str, tuple[float, ...]]:
    """Layer name to accuracies, in the order of the values."""
    curves: dict[str, tuple[float, ...]] = {}
    for one in points:
        if one.kind == kind:
            curves[one.layer] = (*curves.get(one.layer, ()), one.val_accuracy)
    return curves


def run(config: DictConfig) -> None:
    """One network, layer by layer."""
    command.carry_out(lambda job, _: _execute(job), config)


def _execute(job: Job) -> None:
    """Bring the network, measure, write, log, and say what came of it."""
    if (job.folder / "model.tflite").exists():
        raise ConfigError("sweep.name", "a name without a run of sweep.main, whose files would go", job.name)
    with Terminal() as terminal:

        def work() -> tuple[tuple[Point, ...], trial.Findings]:
            network, data = trial.network(job.plan, Cache(job.store), terminal)
            began = time.perf_counter()
            terminal.stage("sensitivity", "layer")
            fit.start(job.plan.threads)
            models.fresh(job.plan.seed)
            points = measure(network, data.validation, getattr(job.plan.quant, "weight_range", quant.MinMax()), terminal)
            trial.write_data(job, data)
            files.write(job.folder / "sensitivity.csv", table(points))
            files.write(job.folder / "sensitivity.png", picture(points, f"{job.name}: one layer changed, all others untouched"))
            terminal.finish("sensitivity", time.perf_counter() - began, reused=False)
            curves = {kind: _curves(points, kind) for kind in ("sparsity", "bits")}
            return points, trial.Findings({"float_accuracy": points[0].val_accuracy}, curves, data)

        points, _ = trial.recorded(job, work, source="sweep.sensitivity")
        for line in (*summary(points), *(f"{job.folder}/sensitivity.{kind}" for kind in ("csv", "png"))):
            terminal.say(line)


def main() -> int:
    """The command. Returns the exit code."""
    return command.main(run, sweeps=False)


if __name__ == "__main__":
    sys.exit(supervisor.supervised(main))
