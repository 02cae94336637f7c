"""Messages of a sweep on the terminal."""

from __future__ import annotations

import sys


def say(line: str) -> None:
    """Prints a line to stderr and flushes it."""
    print(line, file=sys.stderr, flush=True)
