"""A plain run in a process of its own, so that its death is reported: where, and by what signal.

The child is forked before anything heavy is imported, so nothing is imported twice. It does the whole work; the parent waits,
hands signals on, and dies with nothing to lose. A sweep needs none of this: its workers have a parent already.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from sweep.core import watched
from sweep.core.trial_files import TrialFile

_SWEEPS = frozenset({"-m", "--multirun"})
_SAME = 1.0  # seconds within which a second interrupt is the first one, received twice
_interrupted = -_SAME


def supervised(command: Callable[[], int]) -> int:
    """The command's exit code; 1, with a line and an `error.txt`, where its process died of a signal.

    Args:
        command: what to do. It runs in this process where that is asked to sweep, and where processes cannot fork.
    """
    if not hasattr(os, "fork") or not _SWEEPS.isdisjoint(sys.argv[1:]):
        return command()
    folder = watched.make()
    read, write = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        os.close(write)
        _work(command, folder, read)
    try:
        os.close(read)
        for number in _handled_signals():
            signal.signal(number, lambda number, _: _forward(child, number))
        _, status = os.waitpid(child, 0)
        code = os.waitstatus_to_exitcode(status)
        return code if code >= 0 else _report_death(code, watched.last(folder))
    finally:
        watched.remove(folder)


def interrupt(*_: object) -> None:
    """A signal handler that ends the command as Ctrl-C does, with everything closed.

    The terminal sends Ctrl-C to parent and child, and the parent forwards it: the child acts on it once.

    Raises:
        KeyboardInterrupt: always, but for a signal right after another.
    """
    global _interrupted
    before, _interrupted = _interrupted, time.monotonic()
    if _interrupted - before > _SAME:
        raise KeyboardInterrupt


def _work(command: Callable[[], int], folder: Path, alive: int) -> NoReturn:
    """Run the command in the child, which exits here and never returns to what the parent goes on with.

    What is registered for the exit runs. The interpreter is not taken down piece by piece after it: with TensorFlow loaded that
    takes seconds, and nothing is left to save.
    """
    watched.enter(folder)
    for number in _handled_signals():
        signal.signal(number, interrupt)
    threading.Thread(target=_die_with_parent, args=(alive, folder), daemon=True).start()
    try:
        code = command()
    except SystemExit as stop:
        if stop.code is not None and not isinstance(stop.code, int):
            raise
        code = stop.code or 0
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # closed at the other end
            stream.flush()
    os._exit(code)


def _handled_signals() -> list[signal.Signals]:
    """The signals that end a command, but for those that it was started to ignore, as background jobs ignore Ctrl-C."""
    return [number for number in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(number) is not signal.SIG_IGN]


def _die_with_parent(alive: int, folder: Path) -> None:
    """Wait for the pipe's other end, which only the parent has, to be closed."""
    os.read(alive, 1)
    watched.remove(folder)
    os._exit(1)


def _forward(child: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(child, number)


def _report_death(code: int, doing: watched.Doing) -> int:
    """Write that the child died, here and in its run's folder; returns the exit code."""
    line = watched.death(code, doing)
    if sys.stderr.isatty():
        print("\x1b[?25h", file=sys.stderr)  # its progress bar hid the cursor
    print(f"error: {line}; finished stages are kept, and the same command goes on from them", file=sys.stderr)
    if doing.folder is not None and doing.folder.is_dir():
        with suppress(OSError):
            (doing.folder / TrialFile.ERROR).write_text(f"WorkerDied: {line}\n")  # as a sweep has it
    return 1
