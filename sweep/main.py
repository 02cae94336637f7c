"""`python -m sweep.main`: one run, or with `-m` a sweep. See `--help`.

`main` composes, and `run` does the rest in order: build, check, run and record.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from sweep.cli import command, supervisor
from sweep.config import compose

if TYPE_CHECKING:
    from omegaconf import DictConfig


def main() -> int:
    """The command: compose, then `run` once, or at every point of a sweep. Returns the exit code."""
    with command.Command() as ended:
        compose.run(run, sys.argv[1:], sweeps=True)
    return ended.code


def run(config: DictConfig) -> dict[str, Any]:
    """One run, or one trial of a sweep: its metrics, and its `run_id` in MLflow.

    A trial of a sweep that was stopped early has the reason under `pruned`, with what is known of its file where that is why.
    """
    with command.invoked() as invocation:
        from sweep.cli.progress import Terminal
        from sweep.config import build
        from sweep.pipeline import trial
        from sweep.pipeline.pruned import TrialPruned

        job = build.job(config, invocation)
        job.plan.check()
        if not invocation.swept:  # the sweep has prepared it for all of its trials, and takes a refused form for one of them
            job.plan.target.require_form(job.plan.quant)
            build.prepare(job.tracker)
        with Terminal(job.folder, label=job.folder.name if invocation.swept else "") as terminal:
            try:
                metrics, run_id = trial.execute(job, terminal)
            except TrialPruned as stop:
                terminal.say(str(stop))
                return {"pruned": str(stop), **stop.known}
            terminal.say(metrics.summary(job.plan.sparse))
            if not invocation.swept:
                terminal.say(f"{job.folder}/model.tflite")
        return {**metrics, "run_id": run_id}


if __name__ == "__main__":
    sys.exit(supervisor.supervised(main))
