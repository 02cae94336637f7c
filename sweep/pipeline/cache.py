"""The content-addressed cache of stage results: named arrays under the hash of everything that determines them.

An entry (see `cache_entry`) is written to a temporary file and renamed, verified when it is read (a damaged one is computed
again), and computed once even when several processes need it at the same time.

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
    """Converts a value to plain JSON values: a dataclass to its class and fields, a mapping to one with sorted keys.

    Equal values have equal canonical forms.

    Raises:
        TypeError: for a type without a canonical form.
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
        return int(value)  # width=1 and width=1.0 give the same network
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    raise TypeError(f"{type(value).__name__} has no canonical form")


def digest(key: Any) -> str:
    """Returns the sha256 (hex) of the canonical form of a key."""
    return hashlib.sha256(_text(key).encode()).hexdigest()


@dataclass(frozen=True, eq=False)
class Hit:
    """The arrays of an entry, read or just computed.

    Attributes:
        arrays: the named arrays.
        seconds: how long computing them took, when they were computed.
        reused: whether the cache had them.
    """

    arrays: Arrays
    seconds: float
    reused: bool


class Cache:
    """The cache in one folder.

    A cache that cannot be used (a full disk, a read-only folder, a file in its place) loses entries, never a result.

    Args:
        folder: created with the first entry.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._warned: set[str] = set()

    def fetch(self, key: Mapping[str, Any], compute: Callable[[], Arrays]) -> Hit:
        """Returns the entry of a key. On a miss, computes and writes it.

        A second process that needs the same key waits for the first.
        """
        hit = self._fetch(key, compute, timeout=-1)
        if hit is None:
            raise RuntimeError("a lock without a timeout was not acquired")
        return hit

    def fetch_unless_busy(self, key: Mapping[str, Any], compute: Callable[[], Arrays]) -> Hit | None:
        """As `fetch`; None while another process computes the entry."""
        return self._fetch(key, compute, timeout=0)

    def holds(self, key: Mapping[str, Any]) -> bool:
        """Whether the cache has a valid entry of a key."""
        try:
            return _entry(self._path(digest(key)), _text(key)) is not None
        except Damaged:
            return False

    def entries(self) -> Iterator[Path]:
        """The paths of all entries, least recently used first. A path may hold something else than an entry."""
        return iter(sorted(self._folder.glob("??/*.entry"), key=last_used))

    def _fetch(self, key: Mapping[str, Any], compute: Callable[[], Arrays], timeout: float) -> Hit | None:
        from filelock import Timeout

        text, path = _text(key), self._path(digest(key))
        with suppress(Damaged):  # the process that computes it again warns below
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
            self._write(path, Entry(text, seconds, arrays))
        return Hit(arrays, seconds, reused=False)

    def _path(self, name: str) -> Path:
        return self._folder / name[:2] / f"{name}.entry"

    def _hit(self, path: Path, text: str) -> Hit | None:
        entry = _entry(path, text)
        if entry is None:
            return None
        with suppress(OSError):  # a read-only cache has no order of use
            os.utime(path)
        return Hit(entry.arrays, entry.seconds, reused=True)

    def _lock(self, path: Path, timeout: float) -> AbstractContextManager[Any]:
        """The lock of an entry; a null context where the file system has no locks, since computing a result twice does no harm.

        Raises:
            Timeout: while another process holds it.
        """
        from filelock import FileLock, Timeout

        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            return FileLock(path.with_suffix(".lock")).acquire(timeout=timeout)
        except Timeout:
            raise
        except (OSError, NotImplementedError) as error:  # NotImplementedError: a file system without locks
            self._warn(f"could not lock the cache ({reason(error)}): a result may be computed more than once")
            return nullcontext()

    def _write(self, path: Path, entry: Entry) -> None:
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
        """Logs a warning, each text once."""
        if line not in self._warned:
            self._warned.add(line)
            _log.warning("%s", line)


def _text(key: Any) -> str:
    """The canonical form of a key as JSON, which its entry holds too."""
    return json.dumps(canonical(key), sort_keys=True)


def _entry(path: Path, text: str) -> Entry | None:
    """The entry of a key at its path; None where there is no file.

    Raises:
        Damaged: for anything else, such as the entry of another key.
    """
    entry = Entry.read(path)
    if entry is not None and entry.key != text:
        raise Damaged("it is another result's")
    return entry


def reason(error: Exception) -> str:
    """The reason of a system error, without the name of the file."""
    return getattr(error, "strerror", None) or str(error)


def last_used(path: Path) -> float:
    """The time of the last use, in seconds since the epoch; 0 for a file that no longer exists."""
    try:
        return path.lstat().st_mtime
    except OSError:
        return 0.0


def size(path: Path) -> int:
    """The size of a file in bytes; 0 for one that no longer exists."""
    try:
        return path.lstat().st_size
    except OSError:
        return 0


def remove(path: Path) -> None:
    """Removes a file, a link or a whole folder."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def shown(name: Path | str) -> str:
    """A name with unprintable characters escaped."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in str(name))
