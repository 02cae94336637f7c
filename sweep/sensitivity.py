"""`python -m sweep.sensitivity`: accuracy against sparsity and bits, layer by layer. See `--help`.

`main` composes, and `run` does the rest in order: build, check, measure, write and record.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from sweep.cli import command, supervisor
from sweep.cli.progress import Terminal
from sweep.config import build, compose
from sweep.core import files
from sweep.core.errors import ConfigError
from sweep.core.trial_files import TrialFile
from sweep.pipeline import trial
from sweep.pipeline.sensitivity import accuracy_curves, measure_job, measured_values, summary, table
from sweep.reporting import sensitivity

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from sweep.pipeline.sensitivity import Point

_LABELS = {"sparsity": "Sparsity of the layer's kernel (%)", "bits": "Bits of the layer's kernel"}


def main() -> int:
    """The command: compose, then `run`. Returns the exit code."""
    with command.Command() as ended:
        compose.run(run, sys.argv[1:], sweeps=False)
    return ended.code


def run(config: DictConfig) -> None:
    """One network, layer by layer."""
    with command.invoked() as invocation:
        job = build.job(config, invocation)
        job.plan.check()
        build.prepare(job.tracker)
        if (job.folder / TrialFile.MODEL).exists():
            raise ConfigError("sweep.name", "a name without a run of sweep.main, whose files would go", job.name)
        with Terminal(job.folder) as terminal:
            with trial.recorded(job, source="sweep.sensitivity") as recording:
                points, data = measure_job(job, terminal)
                trial.write_data(job, data)
                files.write(job.folder / TrialFile.SENSITIVITY_TABLE, table(points))
                title = f"{job.name}: one layer changed, all others untouched"
                files.write(job.folder / TrialFile.SENSITIVITY_PLOT, picture(points, title))
                curves = {kind: accuracy_curves(points, kind) for kind in _LABELS}
                recording.findings = trial.Findings({"float_accuracy": points[0].val_accuracy}, curves, data)
            for line in (*summary(points), *(f"{job.folder}/sensitivity.{kind}" for kind in ("csv", "png"))):
                terminal.say(line)


def picture(points: Sequence[Point], title: str) -> bytes:
    """The points as PNG."""
    panels = []
    for kind, label in _LABELS.items():
        values = tuple(round(100 * value) if kind == "sparsity" else int(value) for value in measured_values(points, kind))
        panels.append(sensitivity.Panel(label, values, accuracy_curves(points, kind)))
    return sensitivity.sensitivity_png(title, points[0].val_accuracy, [panel for panel in panels if panel.accuracies])


if __name__ == "__main__":
    sys.exit(supervisor.supervised(main))
