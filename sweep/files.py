"""Files that other processes read, or that a kill may interrupt."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
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
