"""Lists and removes entries of the stage cache, for `sweep.cache`."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from sweep.pipeline.cache import last_used, reason, remove, shown, size
from sweep.pipeline.cache_entry import Damaged, Entry


def describe(path: Path) -> str:
    """An entry in one line: its size, compute time, age and kind, or that it is damaged."""
    name = shown(path.stem[:12])
    try:
        if (entry := Entry.read(path)) is None:
            return f"{name}  removed meanwhile"
        kind = _kind(json.loads(entry.key))
    except (Damaged, ValueError, RecursionError):
        return f"{name}  damaged"
    hours = (time.time() - last_used(path)) / 3600
    return f"{name}  {size(path) / 2**20:9.2f} MiB  {entry.seconds:9.1f} s  {hours:7.1f} h ago  {kind}"


def _kind(key: Any) -> str:
    """What a key belongs to: the class of its stage, or the words before ` of` in a name; `?` for any other key."""
    key = key if isinstance(key, dict) else {}
    stage = key.get("stage")
    if isinstance(stage, dict) and isinstance(stage.get("class"), str):
        kind = stage["class"].rpartition(".")[2]
    else:
        kind = next((name.removesuffix(" of") for name in key if name.endswith(" of")), "?")
    return kind if kind.isascii() and kind.isprintable() else "?"


def leftovers(store: Path, *endings: str) -> list[Path]:
    """The files beside the entries with these suffixes: `aside`, `lock`."""
    return [path for ending in endings for path in store.glob(f"??/*.{ending}")]


def excess(entries: Sequence[Path], max_bytes: float) -> Iterator[Path]:
    """Yields paths that hold no entry (a folder, an empty file), then the least recently used entries beyond a total size."""
    files = [path for path in entries if path.is_file() and size(path)]
    yield from (path for path in entries if path not in files)
    total = sum(map(size, files))
    for path in files:
        if total <= max_bytes:
            break
        total -= size(path)
        yield path


def remove_all(paths: Iterable[Path]) -> bool:
    """Removes paths and prints a line for each that cannot be removed. Returns whether all were removed."""
    refused = False
    for path in paths:
        try:
            remove(path)
        except OSError as error:
            print(f"error: could not remove {shown(path)}: {reason(error)}", file=sys.stderr)
            refused = True
    return not refused
