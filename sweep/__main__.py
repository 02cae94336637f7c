"""`sweep …`, or `python -m sweep …`: the first word names a command; without one it is a run or a sweep, as of `sweep.main`."""

from __future__ import annotations

import sys
from importlib import import_module

from sweep.cli import supervisor

COMMANDS = ("report", "best", "sensitivity", "pack", "measure", "cache", "doctor")
SUPERVISED = ("main", "sensitivity", "measure")
"""Those that run native code which can take the process down."""


def main() -> int:
    """The command that the first word names. Returns the exit code."""
    name = sys.argv.pop(1) if sys.argv[1:2] and sys.argv[1] in COMMANDS else "main"
    if name in SUPERVISED:
        return supervisor.supervised(lambda: _run(name))
    return _run(name)


def _run(name: str) -> int:
    code: int = import_module(f"sweep.{name}").main()
    return code


if __name__ == "__main__":
    sys.exit(main())
