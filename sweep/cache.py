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
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, fields, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from sweep.arguments import CommandLine
from sweep.entry import Damaged, Entry
from sweep.records import Arrays, ConfigError, require_number

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
        return iter(sorted(self._folder.glob("??/*.entry"), key=_last_used))

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
            self._warn(f"could not lock the cache ({_reason(error)}): a result may be computed more than once")
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
                _remove(path)
            Path(aside).replace(path)
        except OSError as error:
            self._warn(f"could not keep a result in the cache: {_reason(error)}")
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


def _reason(error: Exception) -> str:
    """Why the system refused, without the file's name: that of one entry says no more than that of the next."""
    return getattr(error, "strerror", None) or str(error)


def _last_used(path: Path) -> float:
    """Seconds since the epoch; 0 for what is gone meanwhile."""
    try:
        return path.lstat().st_mtime
    except OSError:
        return 0.0


def _size(path: Path) -> int:
    """Bytes of what is in an entry's place; 0 for what is gone meanwhile."""
    try:
        return path.lstat().st_size
    except OSError:
        return 0


def _remove(path: Path) -> None:
    """Remove what is in the place of one of the cache's files, whatever it is."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _shown(name: Path | str) -> str:
    """A name as it can be written on any terminal, in one line."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in str(name))


def _describe(path: Path) -> str:
    """One line on an entry: size, what computing it took, age, what it is; or that it is damaged."""
    name = _shown(path.stem[:12])
    try:
        if (entry := Entry.read(path)) is None:
            return f"{name}  gone meanwhile"
        what = _named(json.loads(entry.key))
    except (Damaged, ValueError, RecursionError):
        return f"{name}  damaged"
    hours = (time.time() - _last_used(path)) / 3600
    return f"{name}  {_size(path) / 2**20:9.2f} MiB  {entry.seconds:9.1f} s  {hours:7.1f} h ago  {what}"


def _named(key: Any) -> str:
    """What a key is of: a stage's class, or the words before ` of`; `?` for what says neither."""
    key = key if isinstance(key, dict) else {}
    stage = key.get("stage")
    if isinstance(stage, dict) and isinstance(stage.get("class"), str):
        what = stage["class"].rpartition(".")[2]
    else:
        what = next((name.removesuffix(" of") for name in key if name.endswith(" of")), "?")
    return what if what.isascii() and what.isprintable() else "?"


def _leftovers(store: Path, *endings: str) -> list[Path]:
    return [path for ending in endings for path in store.glob(f"??/*.{ending}")]


def _excess(entries: Sequence[Path], most: float) -> Iterator[Path]:
    """What can be no entry (a folder, say, or an empty file), then the least recently used ones above so many bytes in all."""
    files = [path for path in entries if path.is_file() and _size(path)]
    yield from (path for path in entries if path not in files)
    total = sum(map(_size, files))
    for path in files:
        if total <= most:
            break
        total -= _size(path)
        yield path


def _remove_all(paths: Iterable[Path]) -> bool:
    """Remove what can be removed, and tell of the rest; whether there was none."""
    refused = False
    for path in paths:
        try:
            _remove(path)
        except OSError as error:
            print(f"error: could not remove {_shown(path)}: {_reason(error)}", file=sys.stderr)
            refused = True
    return not refused


def main(arguments: list[str] | None = None) -> int:
    """List the entries, remove the least recently used ones down to a size, or remove all.

    Returns:
        The exit code: 0; 1 where something could not be removed; 2 for input that cannot be used.
    """
    parser = CommandLine(prog="python -m sweep.cache", description="The stage cache.")
    parser.add_argument("action", choices=("ls", "gc", "clear"), help="list, shrink to --max-gib, or empty it")
    parser.add_argument("--store", type=Path, default=Path("mlruns/cache"), help="its folder (mlruns/cache)")
    parser.add_argument("--max-gib", type=float, default=10.0, help="what gc leaves, in GiB (10)")
    options = parser.parse_args(arguments)
    store, cache = options.store, Cache(options.store)
    try:
        require_number("--max-gib", options.max_gib, 0)
        if os.path.lexists(store) and not store.is_dir():
            raise ConfigError("--store", "a folder", _shown(store))
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    done = True
    match options.action:
        case "ls":
            for path in cache.entries():
                print(_describe(path))
        case "gc":
            done = _remove_all([*_leftovers(store, "aside"), *_excess(list(cache.entries()), options.max_gib * 2**30)])
        case "clear":
            done = _remove_all([*_leftovers(store, "aside", "lock"), *cache.entries()])
    left = list(cache.entries())
    print(f"{len(left)} entries, {sum(map(_size, left)) / 2**20:.1f} MiB in {_shown(store)}")
    return 0 if done else 1


if __name__ == "__main__":
    sys.exit(main())
