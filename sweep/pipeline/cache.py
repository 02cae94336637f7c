"""The content-addressed store of stage results: named arrays under the hash of all that determines them.

An entry (see `entry`) is written aside and renamed, verified when read (a damaged one is computed again), and computed once
even when several processes want it at the same moment.

    python -m sweep.cache ls|gc|clear [--store FOLDER] [--max-gib N]
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, fields, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from sweep.core.types import Arrays
from sweep.pipeline.cache_entry import Damaged, Entry

_log = logging.getLogger(__name__)


def canonical(value: Any) -> Any:
    """Plain JSON values that are equal for equal `value`s: dataclasses by class and fields, mappings without their order.

    Raises:
        TypeError: for what has no such form.
    """
    if is_dataclass(value) and not isinstance(value, type):
        kind = f"{type(value).__module__}.{type(value).__qualname__}"
        return {"class": kind, **{field.name: canonical(getattr(value, field.name)) for field in fields(value)}}
    if isinstance(value, Mapping):
        return {str(name): canonical(item) for name, item in sorted(value.items())}
    if isinstance(value, (list, tuple)):
        return [canonical(item) for item in value]
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, float) and value.is_integer():
        return int(value)  # width=1 and width=1.0 are one network
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    raise TypeError(f"{type(value).__name__} has no canonical form")


def digest(key: Any) -> str:
    """sha256 (hex) of the canonical form of `key`."""
    return hashlib.sha256(_text(key).encode()).hexdigest()


@dataclass(frozen=True, eq=False)
class Hit:
    """An entry.

    Attributes:
        arrays: the named arrays.
        seconds: what computing them took, when they were computed.
        reused: whether they were there already.
    """

    arrays: Arrays
    seconds: float
    reused: bool


class Cache:
    """The store in one folder.

    A store that cannot be used (a full disk, a read-only folder, a file in its place) costs what is kept, never a result.

    Args:
        folder: made when something is first kept.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._told: set[str] = set()

    def fetch(self, key: Mapping[str, Any], compute: Callable[[], Arrays]) -> Hit:
        """What is kept under `key`, or what `compute` returns, kept from now on.

        A second process that wants the same key waits for the first.
        """
        hit = self._fetch(key, compute, timeout=-1)
        if hit is None:
            raise RuntimeError("a lock without a time limit was not given")
        return hit

    def fetch_unless_busy(self, key: Mapping[str, Any], compute: Callable[[], Arrays]) -> Hit | None:
        """As `fetch`, but None where another process is computing it right now."""
        return self._fetch(key, compute, timeout=0)

    def holds(self, key: Mapping[str, Any]) -> bool:
        """Whether `fetch` would compute nothing."""
        try:
            return _asked_for(self._path(digest(key)), _text(key)) is not None
        except Damaged:
            return False

    def entries(self) -> Iterator[Path]:
        """What is in the place of an entry, least recently used first."""
        return iter(sorted(self._folder.glob("??/*.entry"), key=last_used))

    def _fetch(self, key: Mapping[str, Any], compute: Callable[[], Arrays], timeout: float) -> Hit | None:
        from filelock import Timeout

        text, path = _text(key), self._path(digest(key))
        with suppress(Damaged):  # told below, by the one process that computes it again
            if (hit := self._hit(path, text)) is not None:
                return hit
        try:
            lock = self._lock(path, timeout)
        except Timeout:
            return None
        with lock:
            try:
                if (hit := self._hit(path, text)) is not None:
                    return hit
            except Damaged as damage:
                self._warn(f"cache entry {path} is damaged and will be computed again ({damage})")
            began = time.perf_counter()
            arrays = compute()
            seconds = time.perf_counter() - began
            self._keep(path, Entry(text, seconds, arrays))
        return Hit(arrays, seconds, reused=False)

    def _path(self, name: str) -> Path:
        return self._folder / name[:2] / f"{name}.entry"

    def _hit(self, path: Path, text: str) -> Hit | None:
        entry = _asked_for(path, text)
        if entry is None:
            return None
        with suppress(OSError):  # a store that is only read has no order of use
            os.utime(path)
        return Hit(entry.arrays, entry.seconds, reused=True)

    def _lock(self, path: Path, timeout: float) -> AbstractContextManager[Any]:
        """Held while the entry is computed; nothing where there can be no lock, since two equal results do no harm.

        Raises:
            Timeout: while another process holds it.
        """
        from filelock import FileLock, Timeout

        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            return FileLock(path.with_suffix(".lock")).acquire(timeout=timeout)
        except Timeout:
            raise
        except (OSError, NotImplementedError) as error:  # the latter from a file system without locks
            self._warn(f"could not lock the cache ({reason(error)}): a result may be computed more than once")
            return nullcontext()

    def _keep(self, path: Path, entry: Entry) -> None:
        aside: str | None = None
        try:
            handle, aside = tempfile.mkstemp(dir=path.parent, prefix=path.stem, suffix=".aside")
            with os.fdopen(handle, "wb") as file:
                file.write(entry.to_bytes())
                file.flush()
                os.fsync(file.fileno())
            if path.is_dir():
                remove(path)
            Path(aside).replace(path)
        except OSError as error:
            self._warn(f"could not keep a result in the cache: {reason(error)}")
            if aside:
                with suppress(OSError):
                    Path(aside).unlink()

    def _warn(self, line: str) -> None:
        """Warn, once for each line: a store that stays as it is would be told of at every look."""
        if line not in self._told:
            self._told.add(line)
            _log.warning("%s", line)


def _text(key: Any) -> str:
    """The canonical form of a key as JSON: what an entry says of itself."""
    return json.dumps(canonical(key), sort_keys=True)


def _asked_for(path: Path, text: str) -> Entry | None:
    """The entry in its place; None where there is nothing.

    Raises:
        Damaged: for anything else, an entry under another key included.
    """
    entry = Entry.read(path)
    if entry is not None and entry.key != text:
        raise Damaged("it is another result's")
    return entry


def reason(error: Exception) -> str:
    """Why the system refused, without the file's name: that of one entry says no more than that of the next."""
    return getattr(error, "strerror", None) or str(error)


def last_used(path: Path) -> float:
    """Seconds since the epoch; 0 for what is gone meanwhile."""
    try:
        return path.lstat().st_mtime
    except OSError:
        return 0.0


def size(path: Path) -> int:
    """Bytes of what is in an entry's place; 0 for what is gone meanwhile."""
    try:
        return path.lstat().st_size
    except OSError:
        return 0


def remove(path: Path) -> None:
    """Remove what is in the place of one of the cache's files, whatever it is."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def shown(name: Path | str) -> str:
    """A name as it can be written on any terminal, in one line."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in str(name))
