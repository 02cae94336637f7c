"""Files that other processes read, or that a kill may interrupt."""

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
    """Write aside and rename, so that a reader, a kill, a power cut and a second writer find all of one version or nothing.

    Returns:
        `path`.

    Raises:
        OSError: naming `path`, for a disk that is full, say; what was there before still is.
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
    """`write` an object, indented."""
    return write(path, json.dumps(content, indent=2) + "\n")


def csv_text(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """CSV with floats as their shortest text that reads back the same, and empty cells for None."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return out.getvalue()
