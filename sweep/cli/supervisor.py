"""Runs a command in a child process, so that a crash is reported with its stage and signal.

The child is forked before any heavy import. The parent only waits and forwards signals. A sweep needs no supervisor: it is the
parent of its workers.
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

from sweep.core import process_status
from sweep.core.trial_files import TrialFile

_SWEEPS = frozenset({"-m", "--multirun"})
_DUPLICATE_SECONDS = 1.0  # a second interrupt within this time is the first one, received twice
_interrupted = -_DUPLICATE_SECONDS


def supervised(command: Callable[[], int]) -> int:
    """Runs a command under supervision.

    Args:
        command: returns an exit code. It runs in this process for a sweep, and on a system without fork.

    Returns:
        The exit code of the command; 1, after a line on stderr and an `error.txt`, if a signal killed it.
    """
    if not hasattr(os, "fork") or not _SWEEPS.isdisjoint(sys.argv[1:]):
        return command()
    folder = process_status.make_folder()
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
        return code if code >= 0 else _report_death(code, process_status.last_status(folder))
    finally:
        process_status.remove_folder(folder)


def interrupt(*_: object) -> None:
    """A signal handler that ends the command as Ctrl-C does.

    The terminal sends Ctrl-C to parent and child, and the parent forwards it, so the child ignores the duplicate.

    Raises:
        KeyboardInterrupt: unless another signal was handled within the last second.
    """
    global _interrupted
    before, _interrupted = _interrupted, time.monotonic()
    if _interrupted - before > _DUPLICATE_SECONDS:
        raise KeyboardInterrupt


def _work(command: Callable[[], int], folder: Path, alive: int) -> NoReturn:
    """Runs the command in the child process and exits.

    The exit handlers run, but the interpreter is not finalised: with TensorFlow loaded that takes seconds.
    """
    process_status.use_folder(folder)
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
        with suppress(OSError, ValueError):  # a closed pipe
            stream.flush()
    os._exit(code)


def _handled_signals() -> list[signal.Signals]:
    """The signals that end a command, without those that are ignored at start-up, as Ctrl-C in a background job."""
    return [number for number in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(number) is not signal.SIG_IGN]


def _die_with_parent(alive: int, folder: Path) -> None:
    """Endpoints this process when the parent dies, which closes the write end of the pipe."""
    os.read(alive, 1)
    process_status.remove_folder(folder)
    os._exit(1)


def _forward(child: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(child, number)


def _report_death(code: int, status: process_status.Status) -> int:
    """Reports the crash of the child on stderr and in the run's folder; returns the exit code."""
    line = process_status.death_message(code, status)
    if sys.stderr.isatty():
        print("\x1b[?25h", file=sys.stderr)  # show the cursor, which the progress bar hid
    print(f"error: {line}; finished stages are kept, and the same command goes on from them", file=sys.stderr)
    if status.folder is not None and status.folder.is_dir():
        with suppress(OSError):
            (status.folder / TrialFile.ERROR).write_text(f"WorkerDied: {line}\n")  # the same text as for a trial of a sweep
    return 1
