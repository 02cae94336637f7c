"""What a sweep says on the terminal."""

from __future__ import annotations

import sys


def say(line: str) -> None:
    """Write a line to stderr at once."""
    print(line, file=sys.stderr, flush=True)
