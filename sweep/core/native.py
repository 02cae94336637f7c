"""What native code writes to the process's stderr, past Python, kept out of the terminal and at hand for an error message."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def caught() -> Iterator[Callable[[], str]]:
    """Catch stderr at the level of the file descriptor; yields a function that returns the last line caught so far."""
    with tempfile.TemporaryFile() as sink:
        sys.stderr.flush()
        terminal = os.dup(2)
        os.dup2(sink.fileno(), 2)

        def last_line() -> str:
            sink.seek(0)
            lines = sink.read().decode(errors="replace").strip().splitlines()
            return lines[-1] if lines else ""

        try:
            yield last_line
        finally:
            sys.stderr.flush()
            os.dup2(terminal, 2)
            os.close(terminal)
