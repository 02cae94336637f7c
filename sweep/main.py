"""`python -m sweep.main`: one run, or with `-m` a sweep. See `--help`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from sweep.cli import command, supervisor

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from sweep.pipeline.plan import Job


def run(config: DictConfig) -> dict[str, Any]:
    """One run, or one trial of a sweep: its metrics, and its `run_id` in MLflow.

    A trial of a sweep that was stopped early has the reason under `pruned`, and nothing else.
    """
    return command.carry_out(_execute, config)


def _execute(job: Job, swept: bool) -> dict[str, Any]:
    """Execute the job, and say what came of it."""
    from sweep.cli.progress import Terminal
    from sweep.pipeline import trial
    from sweep.pipeline.pruner import Hopeless

    with Terminal(job.folder.name if swept else "") as terminal:
        try:
            metrics, run_id = trial.execute(job, terminal)
        except Hopeless as stop:
            terminal.say(str(stop))
            return {"pruned": str(stop)}
        terminal.say(metrics.summary(job.plan.sparse))
        if not swept:
            terminal.say(f"{job.folder}/model.tflite")
    return {**metrics.as_dict(), "run_id": run_id}


def main() -> int:
    """The command. Returns the exit code."""
    return command.main(run)


if __name__ == "__main__":
    sys.exit(supervisor.supervised(main))
