"""The file that holds Optuna's study: an append-only log of JSON lines, which a full disk, a kill or a power cut may tear.

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
    """Optuna's log, of which a write that fails leaves nothing.

    Args:
        path: the file; made where there is none.

    Raises:
        ConfigError: naming file and line, for what is no log.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        _take_off_torn_line(path)
        super().__init__(str(path))

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Write all of the logs or none.

        Raises:
            OSError: naming the file, for a disk that is full, say.
        """
        length = self._path.stat().st_size
        try:
            super().append_logs(logs)
        except OSError as error:
            with suppress(OSError):
                os.truncate(self._path, length)
            raise OSError(error.errno, error.strerror, str(self._path)) from error


def unreadable(path: Path, error: Exception) -> ConfigError:
    """The refusal of a log whose lines are JSON and still no study."""
    return ConfigError(str(path), _EXPECTED, f"{type(error).__name__}: {error}")


def _take_off_torn_line(path: Path) -> None:
    if not os.path.lexists(path):
        return
    if not path.is_file():
        raise ConfigError(str(path), _EXPECTED, "no regular file")
    lines = path.read_bytes().splitlines(keepends=True)
    for number, line in enumerate(lines, start=1):
        whole = line.endswith(b"\n") and _is_entry(line)
        if not whole and number == len(lines):
            files.write(path, b"".join(lines[:-1]))
        elif not whole:
            raise ConfigError(f"{path}:{number}", _EXPECTED, repr(line[:40]))


def _is_entry(line: bytes) -> bool:
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return False
    return isinstance(entry, dict) and isinstance(entry.get("op_code"), int)
