"""The content-addressed store of stage results: named arrays under the hash of all that determines them.

An entry is one file: the sha256 of what follows, a newline, then an `.npz`. It is written aside and renamed, verified when read
(a damaged one is computed again), and computed once even when several processes want it at the same moment.

    python -m sweep.cache ls|gc|clear [--store FOLDER] [--max-gib N]
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import logging
import os
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np

from sweep.records import Arrays

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
    return hashlib.sha256(json.dumps(canonical(key), sort_keys=True).encode()).hexdigest()


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

    Args:
        folder: made when something is first kept.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def fetch(self, key: Mapping[str, Any], compute: Callable[[], Arrays]) -> Hit:
        """What is kept under `key`, or what `compute` returns, kept from now on.

        A second process that wants the same key waits for the first. When the disk is full the result is returned all the same.
        """
        hit = self._fetch(key, compute, timeout=-1)
        if hit is None:
            raise RuntimeError("a lock without a time limit was not given")
        return hit

    def fetch_unless_busy(self, key: Mapping[str, Any], compute: Callable[[], Arrays]) -> Hit | None:
        """As `fetch`, but None where another process is computing it right now."""
        return self._fetch(key, compute, timeout=0)

    def _fetch(self, key: Mapping[str, Any], compute: Callable[[], Arrays], timeout: float) -> Hit | None:
        path = self._path(digest(key))
        if (hit := self._read(path)) is not None:
            return hit
        from filelock import FileLock, Timeout

        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock = FileLock(path.with_suffix(".lock")).acquire(timeout=timeout)
        except Timeout:
            return None
        with lock:
            if (hit := self._read(path)) is not None:
                return hit
            began = time.perf_counter()
            arrays = compute()
            seconds = time.perf_counter() - began
            self._write(path, key, arrays, seconds)
        return Hit(arrays, seconds, reused=False)

    def holds(self, key: Mapping[str, Any]) -> bool:
        """Whether there is an entry under `key`, to go by its name."""
        return self._path(digest(key)).exists()

    def entries(self) -> Iterator[Path]:
        """The entries' files, least recently used first."""
        return iter(sorted(self._folder.glob("??/*.entry"), key=lambda path: path.stat().st_mtime))

    def _path(self, name: str) -> Path:
        return self._folder / name[:2] / f"{name}.entry"

    def _read(self, path: Path) -> Hit | None:
        try:
            content = path.read_bytes()
            os.utime(path)
        except FileNotFoundError:
            return None
        checksum, _, body = content.partition(b"\n")
        if checksum.decode(errors="replace") != hashlib.sha256(body).hexdigest():
            _log.warning("cache entry %s is damaged and will be computed again", path)
            return None
        with np.load(io.BytesIO(body), allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        del arrays["key"]
        return Hit(arrays, float(arrays.pop("seconds")), reused=True)

    def _write(self, path: Path, key: Mapping[str, Any], arrays: Arrays, seconds: float) -> None:
        buffer = io.BytesIO()
        described = np.array(json.dumps(canonical(key), sort_keys=True))
        np.savez(buffer, allow_pickle=False, **{**arrays, "key": described, "seconds": np.array(seconds)})
        body = buffer.getvalue()
        aside: str | None = None
        try:
            handle, aside = tempfile.mkstemp(dir=path.parent, prefix=path.stem, suffix=".aside")
            with os.fdopen(handle, "wb") as file:
                file.write(hashlib.sha256(body).hexdigest().encode() + b"\n" + body)
                file.flush()
                os.fsync(file.fileno())
            Path(aside).replace(path)
        except OSError as error:
            _log.warning("could not keep a result in the cache: %s", error)
            if aside:
                Path(aside).unlink(missing_ok=True)


def _describe(path: Path) -> str:
    """One line on an entry: age, size, what computing it took, what it is."""
    with path.open("rb") as file:
        file.readline()
        with np.load(io.BytesIO(file.read()), allow_pickle=False) as archive:
            key, seconds = json.loads(str(archive["key"])), float(archive["seconds"])
    stage = key.get("stage")
    named = (name.removesuffix(" of") for name in key if name.endswith(" of"))
    what = stage["class"].rpartition(".")[2] if isinstance(stage, dict) else next(named, "?")
    hours = (time.time() - path.stat().st_mtime) / 3600
    return f"{path.stem[:12]}  {path.stat().st_size / 2**20:9.2f} MiB  {seconds:9.1f} s  {hours:7.1f} h ago  {what}"


def main(arguments: list[str] | None = None) -> int:
    """List the entries, remove the least recently used ones down to a size, or remove all."""
    parser = argparse.ArgumentParser(prog="python -m sweep.cache", description="The stage cache.")
    parser.add_argument("action", choices=("ls", "gc", "clear"), help="list, shrink to --max-gib, or empty it")
    parser.add_argument("--store", type=Path, default=Path("mlruns/cache"), help="its folder (mlruns/cache)")
    parser.add_argument("--max-gib", type=float, default=10.0, help="what gc leaves, in GiB (10)")
    options = parser.parse_args(arguments)
    entries = list(Cache(options.store).entries())
    total = sum(path.stat().st_size for path in entries)
    if options.action == "ls":
        for path in entries:
            try:
                line = _describe(path)
            except (OSError, ValueError, KeyError, zipfile.BadZipFile):
                line = f"{path.stem[:12]}  damaged"
            print(line)
    else:
        for ending in ("aside", "lock") if options.action == "clear" else ("aside",):
            for leftover in options.store.glob(f"??/*.{ending}"):
                leftover.unlink(missing_ok=True)
        for path in entries:
            if options.action == "gc" and total <= options.max_gib * 2**30:
                break
            total -= path.stat().st_size
            path.unlink(missing_ok=True)
    left = list(Cache(options.store).entries())
    print(f"{len(left)} entries, {sum(path.stat().st_size for path in left) / 2**20:.1f} MiB in {options.store}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
