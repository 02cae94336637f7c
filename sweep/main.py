"""`python -m sweep.main`: one run, or with `-m` a sweep. See `--help`."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode

if TYPE_CHECKING:
    from omegaconf import DictConfig


@hydra.main(version_base="1.3", config_path=str(Path(__file__).resolve().parents[1] / "conf"), config_name="config")
def run(config: DictConfig) -> dict[str, float | int]:
    """One run, or one trial of a sweep: build, check, execute; the metrics are returned."""
    from sweep import build, trial
    from sweep.progress import Terminal

    state = HydraConfig.get()
    swept = state.mode == RunMode.MULTIRUN
    job = build.job(
        config,
        folder=Path(state.runtime.output_dir),
        choices=state.runtime.choices,
        overrides=list(state.overrides.task),
        swept=swept,
    )
    job.plan.check()
    if not swept:
        build.prepare(job.tracker)
    with Terminal() as terminal:
        metrics = trial.execute(job, terminal)
        terminal.say(f"  {metrics.summary()}\n  {job.folder}/model.tflite")
    return metrics.as_dict()


def main() -> int:
    """The command. Returns the exit code: 0, 1 for a run that failed, 2 for input that cannot be used, 130 for Ctrl-C."""
    told_to_raise = "HYDRA_FULL_ERROR" in os.environ
    # Hydra would print its own errors over several lines and exit; raised, they can be told in one.
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(levelname)s: %(message)s")
    try:
        run()
    except KeyboardInterrupt:
        print("interrupted; what is finished is kept, and the same command goes on from there", file=sys.stderr)
        return 130
    except Exception as error:
        if told_to_raise:
            raise
        from sweep import build

        code, line = build.explain(error)
        print(f"error: {line}", file=sys.stderr)
        return code
    return 0


if __name__ == "__main__":
    sys.exit(main())
