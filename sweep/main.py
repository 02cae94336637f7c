"""`python -m sweep.main`: one run, or with `-m` a sweep. See `--help`."""

from __future__ import annotations

import logging
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode

if TYPE_CHECKING:
    from omegaconf import DictConfig


# A user who sets this wants the traceback. Otherwise it makes Hydra raise its errors, which it would tell over several lines.
_TRACEBACK = "HYDRA_FULL_ERROR" in os.environ
os.environ.setdefault("HYDRA_FULL_ERROR", "1")


@hydra.main(version_base="1.3", config_path=str(Path(__file__).resolve().parents[1] / "conf"), config_name="config")
def run(config: DictConfig) -> dict[str, Any]:
    """One run, or one trial of a sweep: its metrics, and its `run_id` in MLflow. A sweep gets the error, a person a line.

    A trial of a sweep that was stopped early has the reason under `pruned`, and nothing else.
    """
    state = HydraConfig.get()
    folder, swept = Path(state.runtime.output_dir), state.mode == RunMode.MULTIRUN
    try:
        return _execute(config, folder, swept)
    except Exception as error:
        if swept or _TRACEBACK:
            raise
        with suppress(OSError):
            folder.rmdir()  # only where nothing was written yet
        raise SystemExit(_tell(error)) from None


def _execute(config: DictConfig, folder: Path, swept: bool) -> dict[str, Any]:
    """Build, check, prepare, execute."""
    from sweep import build, trial
    from sweep.progress import Terminal

    _warn_on_stderr()
    state = HydraConfig.get()
    job = build.job(config, folder=folder, choices=state.runtime.choices, overrides=list(state.overrides.task), swept=swept)
    job.plan.check()
    if not swept:
        build.prepare(job.tracker)
    with Terminal(folder.name if swept else "") as terminal:
        try:
            metrics, run_id = trial.execute(job, terminal)
        except trial.Hopeless as stop:
            terminal.say(str(stop))
            return {"pruned": str(stop)}
        terminal.say(metrics.summary())
        if not swept:
            terminal.say(f"{folder}/model.tflite")
    return {**metrics.as_dict(), "run_id": run_id}


def _warn_on_stderr() -> None:
    """Send our warnings to the terminal, one line each; what is finer, and every traceback, is in the trial's log."""
    handler = logging.StreamHandler()
    handler.setLevel(logging.WARNING)
    handler.addFilter(lambda record: record.exc_info is None)
    handler.setFormatter(logging.Formatter("warning: %(message)s"))
    ours = logging.getLogger("sweep")
    ours.handlers, ours.propagate = [handler], False


def _tell(error: Exception) -> int:
    """Say in one line what is wrong; returns the exit code."""
    from sweep import build

    code, line = build.explain(error)
    print(f"error: {line}", file=sys.stderr)
    return code


def _interrupt(*_: object) -> None:
    """End as Ctrl-C does, with everything closed."""
    raise KeyboardInterrupt


def main() -> int:
    """The command. Returns the exit code: 0, 1 for work that failed, 2 for input that cannot be used, 130 for Ctrl-C."""
    signal.signal(signal.SIGTERM, _interrupt)
    words = sys.argv[1:]
    # argparse wants options first, people write them anywhere.
    sys.argv[1:] = sorted(words, key=lambda word: word not in ("-m", "--multirun"))
    try:
        if not {"--help", "-h", "--hydra-help", "--version", "--info", "-i", "--cfg", "-c"} & set(words):
            from sweep import build

            build.check_places(words)
        run()
    except KeyboardInterrupt:
        print("interrupted; finished stages are kept, and the same command goes on from them", file=sys.stderr)
        return 130
    except Exception as error:
        if _TRACEBACK:
            raise
        return _tell(error)
    return 0


if __name__ == "__main__":
    sys.exit(main())
