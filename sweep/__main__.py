"""`sweep …`, or `python -m sweep …`: the first word names a command; without one it is a run or a sweep, as of `sweep.main`."""

from __future__ import annotations

import sys
from importlib import import_module

COMMANDS = ("report", "best", "sensitivity", "cache")


def main() -> int:
    """The command that the first word names. Returns the exit code."""
    name = sys.argv.pop(1) if sys.argv[1:2] and sys.argv[1] in COMMANDS else "main"
    code: int = import_module(f"sweep.{name}").main()
    return code


if __name__ == "__main__":
    sys.exit(main())
