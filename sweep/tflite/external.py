"""Runs programs of other packages in a separate process with a time limit, and checks that they are installed.

`sweep.core.isolated` does this for functions of this package. A program here imports nothing of the package and starts sooner.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Sequence
from importlib import metadata

from sweep.core import process_status
from sweep.core.errors import shortened

_STDERR_LINES = 5  # the last lines of stderr in an error message


class ProgramError(RuntimeError):
    """The process failed, was killed by a signal or took too long. The message has the cause and its stderr, in one line."""


def installed(module: str) -> bool:
    """Whether a module is installed. Nothing is imported."""
    try:
        return importlib.util.find_spec(module) is not None
    except ValueError:  # raised where sys.modules[module] is None
        return False


def version(distribution: str) -> str:
    """The version of a distribution; empty where it is not installed."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return ""


def run(name: str, arguments: Sequence[str], seconds: float) -> str:
    """Runs this Python interpreter with arguments.

    Args:
        name: the name of the program, for the error.
        arguments: the arguments of the interpreter.
        seconds: the time after which the process is killed.

    Returns:
        Its stdout followed by its stderr.

    Raises:
        ProgramError: with the name of the program, its exit status and its stderr.
    """
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1"}  # NumPy would start a thread for each core, and needs none here
    try:
        completed = subprocess.run(
            [sys.executable, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env=environment,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ProgramError(f"{name} took more than {seconds:g} s{_shortened_stderr(error.stderr or b'')}") from error
    if completed.returncode < 0:
        raise ProgramError(f"{name} died of {process_status.cause(completed.returncode)}{_shortened_stderr(completed.stderr)}")
    if completed.returncode:
        raise ProgramError(f"{name} failed{_shortened_stderr(completed.stderr) or f' with exit code {completed.returncode}'}")
    return (completed.stdout + completed.stderr).decode(errors="replace")


def _shortened_stderr(stderr: bytes) -> str:
    """The stderr of a process on one line, without warnings, and with only the last line of a traceback."""
    before, traceback, after = stderr.decode(errors="replace").partition("Traceback (most recent call last):")
    lines = [line for line in before.splitlines() if line.strip() and not line.startswith("Warning")][-_STDERR_LINES:]
    if traceback:
        lines += after.strip().splitlines()[-1:]
    return f": {shortened('; '.join(line.strip() for line in lines), 400)}" if lines else ""
