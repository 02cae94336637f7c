"""Downloads of published files: each once, verified by its hash, and kept.

A download is written to a temporary file and renamed when it is complete.
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO

from sweep.core import locks
from sweep.core.errors import ConfigError
from sweep.data.archives import PIECE, open_regular

_TIMEOUT = (10, 30)
"""Seconds to wait for a connection, and for each next piece of the answer."""
_PATIENCE = 60
"""Seconds after which a download must have a mean rate of `_SLOWEST`."""
_SLOWEST = 1024
"""Bytes a second."""
_MOST = 1 << 30
"""The largest size of a file in bytes; the largest published one is a sixth of it."""


class _BadAnswer(Exception):
    """A server's answer that cannot be used, and why."""


def fetched(name: str, base: str, files: Mapping[str, str]) -> Path:
    """Returns the file, or the folder of several files; downloads those that are missing or have another hash.

    Args:
        name: of the data set, and of its folder.
        base: the URL of the files' folder.
        files: file name to its hash, as `algorithm:hex`.

    Raises:
        ConfigError: at `path`, for a file that cannot be downloaded or written.
    """
    folder = _home() / name
    for file, known_hash in files.items():
        try:
            if not _holds(folder / file, known_hash):
                _download(f"{base}{file}", folder / file, known_hash)
        except OSError as error:
            room = f"{folder} to have room for {base}{file} (SWEEP_DATA_DIR=FOLDER is another place), or dataset.path=FILE.npz"
            raise ConfigError("path", room, f"{error.strerror or error}") from error
    return folder / next(iter(files)) if len(files) == 1 else folder


def _home() -> Path:
    """Returns the folder of all downloads."""
    import pooch  # type: ignore[import-untyped]

    given = os.environ.get("SWEEP_DATA_DIR")
    try:
        return Path(given or pooch.os_cache("sweep")).expanduser()
    except RuntimeError as error:
        raise ConfigError("path", "SWEEP_DATA_DIR to be a folder, or dataset.path=FILE.npz", str(given)) from error


def _holds(file: Path, known_hash: str) -> bool:
    """Returns whether the file exists and has this hash."""
    algorithm, _, digest = known_hash.partition(":")
    if not file.exists():
        return False
    with open_regular(file, f"a downloaded {file.name}, or nothing, at its place") as stream:
        return hashlib.file_digest(stream, algorithm).hexdigest() == digest  # type: ignore[arg-type]


def _download(url: str, file: Path, known_hash: str) -> None:
    """Downloads a file, unless another process has just done so.

    Raises:
        ConfigError: at `path`, for an answer that fails, is too large, too slow or has another hash.
        OSError: for a folder that cannot be written to.
    """
    import requests
    import urllib3

    file.parent.mkdir(parents=True, exist_ok=True)
    with locks.locked(file.parent) as alone:
        if _holds(file, known_hash):
            return
        if alone:
            for left in file.parent.glob(f".{file.name}.*.part"):  # by processes that were killed
                left.unlink(missing_ok=True)
        part = file.with_name(f".{file.name}.{os.getpid()}.part")
        try:
            with part.open("wb") as out:
                _receive(url, out, known_hash)
            part.replace(file)
        except (requests.RequestException, urllib3.exceptions.HTTPError, _BadAnswer) as error:
            expected = f"a reachable {url}, or dataset.path=FILE.npz"
            raise ConfigError("path", expected, _reason(error)) from error
        finally:
            part.unlink(missing_ok=True)


def _receive(url: str, out: IO[bytes], known_hash: str) -> None:
    """Writes the answer of a URL to `out`, and compares its hash."""
    import requests
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    algorithm, _, digest = known_hash.partition(":")
    sums, size, began = hashlib.new(algorithm), 0, time.monotonic()
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    progress = Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty())
    with progress, requests.get(url, timeout=_TIMEOUT, stream=True) as answer:
        answer.raise_for_status()
        task = progress.add_task(url, total=int(answer.headers.get("content-length", 0)) or None)
        # read1, since read waits for all that it was asked for, however slowly that comes.
        while piece := answer.raw.read1(PIECE, decode_content=True):
            size += len(piece)
            seconds = time.monotonic() - began
            if size > _MOST:
                raise _BadAnswer(f"an answer of more than {_MOST >> 20} MiB")
            if seconds > _PATIENCE and size / seconds < _SLOWEST:
                raise _BadAnswer(f"{size} bytes in {seconds:.0f} seconds")
            sums.update(piece)
            out.write(piece)
            progress.update(task, completed=size)
    if sums.hexdigest() != digest:
        raise _BadAnswer(f"another file (of {size} bytes, its hash is not that of the published one)")


def _reason(error: Exception) -> str:
    """Returns the cause of an error in a few words, without the messages of the libraries that it passed through."""
    text = str(error)
    if number := re.search(r"\[Errno -?\d+\] ([\w ]+)", text):
        return number[1]
    if "IncompleteRead" in text:
        return "an answer that breaks off"
    return text.rpartition("): ")[2] or type(error).__name__
