"""Programs of other packages: whether they are installed, and a run in a process of its own, within a time limit.

A function of ours has `sweep.core.isolated`. A program imports nothing of this project, so its process starts sooner.
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

_WORDS = 5  # lines of what a process said that are told


class ProgramError(RuntimeError):
    """The process failed, died of a signal or took too long. The text says which in one line, and what it wrote to stderr."""


def installed(module: str) -> bool:
    """Whether a module can be found. Nothing is imported."""
    try:
        return importlib.util.find_spec(module) is not None
    except ValueError:  # sys.modules has None in its place
        return False


def version(distribution: str) -> str:
    """The version of an installed distribution; empty where there is none."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return ""


def run(name: str, arguments: Sequence[str], seconds: float) -> str:
    """Run this Python with some arguments.

    Args:
        name: of the program, for the error.
        arguments: of the interpreter.
        seconds: after which the process is killed.

    Returns:
        What it wrote, stdout before stderr.

    Raises:
        ProgramError: naming the program, how it ended and what it wrote to stderr.
    """
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1"}  # NumPy starts a thread a core otherwise, and needs none here
    try:
        ended = subprocess.run(
            [sys.executable, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env=environment,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ProgramError(f"{name} took more than {seconds:g} s{_told(error.stderr or b'')}") from error
    if ended.returncode < 0:
        raise ProgramError(f"{name} died of {process_status.cause(ended.returncode)}{_told(ended.stderr)}")
    if ended.returncode:
        raise ProgramError(f"{name} failed{_told(ended.stderr) or f' with exit code {ended.returncode}'}")
    return (ended.stdout + ended.stderr).decode(errors="replace")


def _told(stderr: bytes) -> str:
    """What a process wrote to stderr, on one line, without warnings and without all but the last line of a traceback."""
    before, traceback, after = stderr.decode(errors="replace").partition("Traceback (most recent call last):")
    lines = [line for line in before.splitlines() if line.strip() and not line.startswith("Warning")][-_WORDS:]
    if traceback:
        lines += after.strip().splitlines()[-1:]
    return f": {shortened('; '.join(line.strip() for line in lines), 400)}" if lines else ""
