"""What the commands that compose a configuration share: how they start, how they report mistakes and interrupts, exit codes."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import TracebackType

from sweep.cli import supervisor
from sweep.config.invocation import Invocation

# A user who sets this wants the traceback. Otherwise a command sets it, since it makes Hydra raise its errors, which it would
# report over several lines.
_TRACEBACK = "HYDRA_FULL_ERROR" in os.environ


class Command:
    """A command from its start to its end, as a context manager.

    Attributes:
        code: the exit code: 0, 1 for work that failed, 2 for input that cannot be used, 130 for Ctrl-C.
    """

    code = 0

    def __enter__(self) -> Command:
        signal.signal(signal.SIGTERM, supervisor.interrupt)
        os.environ.setdefault("HYDRA_FULL_ERROR", "1")
        _warn_on_stderr()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> bool:
        if isinstance(error, KeyboardInterrupt):
            print("interrupted; finished stages are kept, and the same command goes on from them", file=sys.stderr)
            self.code = 130
            return True
        if isinstance(error, Exception) and not _TRACEBACK:
            self.code = _report(error)
            return True
        return False


@contextmanager
def invoked() -> Iterator[Invocation]:
    """What Hydra has called a command for. A sweep gets an error as it is, a person gets it in one line.

    Raises:
        SystemExit: with the exit code, after the line was written.
        Exception: what went wrong, to a sweep.
    """
    invocation = Invocation.current()
    _warn_on_stderr()
    try:
        yield invocation
    except Exception as error:
        if invocation.swept or _TRACEBACK:
            raise
        folder = invocation.folder
        with suppress(OSError):
            folder.rmdir()  # only where nothing was written yet
            if folder.parent.name in ("runs", "measured"):
                folder.parent.rmdir()
        raise SystemExit(_report(error)) from None


def _warn_on_stderr() -> None:
    """Send our warnings to the terminal, one line each; what is finer, and every traceback, is in the trial's log."""
    handler = logging.StreamHandler()
    handler.setLevel(logging.WARNING)
    handler.addFilter(lambda record: record.exc_info is None)
    handler.setFormatter(logging.Formatter("warning: %(message)s"))
    ours = logging.getLogger("sweep")
    ours.handlers, ours.propagate = [handler], False


def _report(error: Exception) -> int:
    """Write in one line what is wrong; returns the exit code."""
    from sweep.config import explain

    code, line = explain.explain(error)
    print(f"error: {line}", file=sys.stderr)
    return code
