"""The journal file of Optuna's study: an append-only log of JSON lines, which may end in a partial line after a crash.

A torn last line is taken off: its content is rebuilt from the trials' own records. Anything else that is no line
of such a log is refused.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from optuna.storages.journal import JournalFileBackend

from sweep.core import files
from sweep.core.errors import ConfigError

_EXPECTED = "a journal of Optuna's; remove the file, and the trials' records tell the study again"


class Journal(JournalFileBackend):
    """Optuna's journal with atomic appends: a failed write leaves the file as it was.

    Args:
        path: the file; created if missing.

    Raises:
        ConfigError: naming file and line, for a line that is no entry of a journal.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        _remove_partial_line(path)
        super().__init__(str(path))

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Appends all entries or none.

        Raises:
            OSError: naming the file, for example when the disk is full.
        """
        length = self._path.stat().st_size
        try:
            super().append_logs(logs)
        except OSError as error:
            with suppress(OSError):
                os.truncate(self._path, length)
            raise OSError(error.errno, error.strerror, str(self._path)) from error


def unreadable_journal(path: Path, error: Exception) -> ConfigError:
    """The error for a journal of valid JSON that Optuna cannot load."""
    return ConfigError(str(path), _EXPECTED, f"{type(error).__name__}: {error}")


def _remove_partial_line(path: Path) -> None:
    if not os.path.lexists(path):
        return
    if not path.is_file():
        raise ConfigError(str(path), _EXPECTED, "no regular file")
    lines = path.read_bytes().splitlines(keepends=True)
    for number, line in enumerate(lines, start=1):
        valid = line.endswith(b"\n") and _is_entry(line)
        if not valid and number == len(lines):
            files.write(path, b"".join(lines[:-1]))
        elif not valid:
            raise ConfigError(f"{path}:{number}", _EXPECTED, repr(line[:40]))


def _is_entry(line: bytes) -> bool:
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return False
    return isinstance(entry, dict) and isinstance(entry.get("op_code"), int)
