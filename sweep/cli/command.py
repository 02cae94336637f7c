"""What the commands that compose a configuration share: the configuration, how mistakes and interrupts are told, exit codes.

What a command does with the job is its own business.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode

from sweep.cli import supervisor
from sweep.config import compose
from sweep.core import watched

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from sweep.pipeline.plan import Job

T = TypeVar("T")


# A user who sets this wants the traceback. Otherwise `main` sets it, since it makes Hydra raise its errors, which it would tell
# over several lines.
_TRACEBACK = "HYDRA_FULL_ERROR" in os.environ


def carry_out(work: Callable[[Job, bool], T], config: DictConfig) -> T:
    """Build the job, check it, make sure that it can be logged, and work on it. A sweep gets the error, a person a line.

    Args:
        work: what to do with the job, and whether that is a trial of a sweep.
        config: the composed configuration.

    Raises:
        SystemExit: with the exit code, after the line was written.
        Exception: what went wrong, to a sweep.
    """
    state = HydraConfig.get()
    folder, swept = Path(state.runtime.output_dir), state.mode == RunMode.MULTIRUN
    try:
        from sweep.config import build
        from sweep.config.membership import Membership

        _warn_on_stderr()
        overrides = list(state.overrides.task)
        sweep = Membership.read(folder) if swept else None
        job = build.job(config, folder=folder, choices=state.runtime.choices, overrides=overrides, sweep=sweep)
        job.plan.check()
        if not swept:
            build.prepare(job.tracker)
        watched.begin(folder)
        return work(job, swept)
    except Exception as error:
        if swept or _TRACEBACK:
            raise
        with suppress(OSError):
            folder.rmdir()  # only where nothing was written yet
            if folder.parent.name == "runs":
                folder.parent.rmdir()
        raise SystemExit(_tell(error)) from None


def main(run: Callable[[DictConfig], object], *, sweeps: bool = True) -> int:
    """A command, from its words to its exit code: 0, 1 for work that failed, 2 for input that cannot be used, 130 for Ctrl-C.

    Args:
        run: what is done under a composed configuration.
        sweeps: whether it takes -m.
    """
    signal.signal(signal.SIGTERM, supervisor.interrupt)
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")
    try:
        _warn_on_stderr()
        compose.run(run, sys.argv[1:], sweeps=sweeps)
    except KeyboardInterrupt:
        print("interrupted; finished stages are kept, and the same command goes on from them", file=sys.stderr)
        return 130
    except Exception as error:
        if _TRACEBACK:
            raise
        return _tell(error)
    return 0


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
    from sweep.config import explain

    code, line = explain.explain(error)
    print(f"error: {line}", file=sys.stderr)
    return code
