"""Atomic writes of text, JSON and CSV files."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any


def write(path: Path, content: str | bytes) -> Path:
    """Writes a file atomically, by a temporary file and a rename: a reader sees a complete version or none, even after a kill.

    Returns:
        `path`.

    Raises:
        OSError: naming `path`, for example when the disk is full; an earlier version is kept.
    """
    aside = path.with_name(f".{path.name}.{os.getpid()}.aside")
    try:
        with aside.open("wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        return aside.replace(path)
    except OSError as error:
        with suppress(OSError):
            aside.unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror, str(path)) from error


def write_json(path: Path, content: Mapping[str, Any]) -> Path:
    """Writes an object as indented JSON, atomically."""
    return write(path, json.dumps(content, indent=2) + "\n")


def csv_text(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Formats rows as CSV, with floats in their shortest exact decimal form and empty cells for None."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return out.getvalue()
