"""Files that other processes read, or that a kill may interrupt."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any


def write(path: Path, content: str | bytes) -> Path:
    """Write aside and rename, so that a reader, a kill and a second writer find all of one version or nothing.

    Returns:
        `path`.
    """
    aside = path.with_name(f".{path.name}.{os.getpid()}.aside")
    aside.write_bytes(content.encode() if isinstance(content, str) else content)
    return aside.replace(path)


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
