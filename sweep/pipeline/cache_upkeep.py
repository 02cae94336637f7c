"""The entries of the stage cache as lines for people, and their removal."""

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
    """One line on an entry: size, what computing it took, age, what it is; or that it is damaged."""
    name = shown(path.stem[:12])
    try:
        if (entry := Entry.read(path)) is None:
            return f"{name}  gone meanwhile"
        what = _named(json.loads(entry.key))
    except (Damaged, ValueError, RecursionError):
        return f"{name}  damaged"
    hours = (time.time() - last_used(path)) / 3600
    return f"{name}  {size(path) / 2**20:9.2f} MiB  {entry.seconds:9.1f} s  {hours:7.1f} h ago  {what}"


def _named(key: Any) -> str:
    """What a key is of: a stage's class, or the words before ` of`; `?` for what says neither."""
    key = key if isinstance(key, dict) else {}
    stage = key.get("stage")
    if isinstance(stage, dict) and isinstance(stage.get("class"), str):
        what = stage["class"].rpartition(".")[2]
    else:
        what = next((name.removesuffix(" of") for name in key if name.endswith(" of")), "?")
    return what if what.isascii() and what.isprintable() else "?"


def leftovers(store: Path, *endings: str) -> list[Path]:
    """The files beside the entries, by their endings: `aside`, `lock`."""
    return [path for ending in endings for path in store.glob(f"??/*.{ending}")]


def excess(entries: Sequence[Path], most: float) -> Iterator[Path]:
    """What can be no entry (a folder, say, or an empty file), then the least recently used ones above so many bytes in all."""
    files = [path for path in entries if path.is_file() and size(path)]
    yield from (path for path in entries if path not in files)
    total = sum(map(size, files))
    for path in files:
        if total <= most:
            break
        total -= size(path)
        yield path


def remove_all(paths: Iterable[Path]) -> bool:
    """Remove what can be removed, and tell of the rest; whether there was none."""
    refused = False
    for path in paths:
        try:
            remove(path)
        except OSError as error:
            print(f"error: could not remove {shown(path)}: {reason(error)}", file=sys.stderr)
            refused = True
    return not refused
