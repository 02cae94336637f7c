"""`python -m sweep.sensitivity`: accuracy against sparsity and bits, layer by layer. See `--help`."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from sweep.cli import command, supervisor
from sweep.cli.progress import Terminal
from sweep.compress.quantize import clipping
from sweep.core import files
from sweep.core.errors import ConfigError
from sweep.models import checkpoints
from sweep.pipeline import executor, trial
from sweep.pipeline.cache import Cache
from sweep.pipeline.sensitivity import accuracy_curves, measure, measured_values, summary, table
from sweep.reporting import sensitivity
from sweep.train import loop

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from sweep.pipeline.plan import Job

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sweep.pipeline.sensitivity import Point


def picture(points: Sequence[Point], title: str) -> bytes:
    """The points as PNG."""
    labels = {"sparsity": "Sparsity of the layer's kernel (%)", "bits": "Bits of the layer's kernel"}
    panels = []
    for kind, label in labels.items():
        values = tuple(round(100 * value) if kind == "sparsity" else int(value) for value in measured_values(points, kind))
        panels.append(sensitivity.Panel(label, values, accuracy_curves(points, kind)))
    return sensitivity.sensitivity_png(title, points[0].val_accuracy, [panel for panel in panels if panel.accuracies])


def run(config: DictConfig) -> None:
    """One network, layer by layer."""
    command.carry_out(lambda job, _: _execute(job), config)


def _execute(job: Job) -> None:
    """Bring the network, measure, write, log, and say what came of it."""
    if (job.folder / "model.tflite").exists():
        raise ConfigError("sweep.name", "a name without a run of sweep.main, whose files would go", job.name)
    with Terminal() as terminal:

        def work() -> tuple[tuple[Point, ...], trial.Findings]:
            network, data = executor.network(job.plan, Cache(job.store), terminal)
            began = time.perf_counter()
            terminal.stage("sensitivity", "layer")
            loop.start(job.plan.threads)
            checkpoints.fresh(job.plan.seed)
            points = measure(network, data.validation, getattr(job.plan.quant, "weight_range", clipping.MinMax()), terminal)
            trial.write_data(job, data)
            files.write(job.folder / "sensitivity.csv", table(points))
            files.write(job.folder / "sensitivity.png", picture(points, f"{job.name}: one layer changed, all others untouched"))
            terminal.finish("sensitivity", time.perf_counter() - began, reused=False)
            curves = {kind: accuracy_curves(points, kind) for kind in ("sparsity", "bits")}
            return points, trial.Findings({"float_accuracy": points[0].val_accuracy}, curves, data)

        points, _ = trial.recorded(job, work, source="sweep.sensitivity")
        for line in (*summary(points), *(f"{job.folder}/sensitivity.{kind}" for kind in ("csv", "png"))):
            terminal.say(line)


def main() -> int:
    """The command. Returns the exit code."""
    return command.main(run, sweeps=False)


if __name__ == "__main__":
    sys.exit(supervisor.supervised(main))
