"""Published files: downloaded once, checked by their hashes, and kept.

A download is written aside, under a name of its process, and takes its place only when it is whole.
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
"""Seconds after which a download has to have come at `_SLOWEST`."""
_SLOWEST = 1024
"""Bytes a second."""
_MOST = 1 << 30
"""Bytes of a file; the largest that is published has a sixth of them."""


class _BadAnswer(Exception):
    """What is wrong with what a server sent."""


def fetched(name: str, base: str, files: Mapping[str, str]) -> Path:
    """The file, or the folder of several, downloaded unless it is there already with the right hashes.

    Args:
        name: the data set's name, which names its folder.
        base: the address that the files are below.
        files: file name to its hash, as `algorithm:hex`.

    Raises:
        ConfigError: at `path`, for a file that cannot be had, or cannot be kept.
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
    """Where downloads are kept."""
    import pooch  # type: ignore[import-untyped]

    given = os.environ.get("SWEEP_DATA_DIR")
    try:
        return Path(given or pooch.os_cache("sweep")).expanduser()
    except RuntimeError as error:
        raise ConfigError("path", "SWEEP_DATA_DIR to be a folder, or dataset.path=FILE.npz", str(given)) from error


def _holds(file: Path, known_hash: str) -> bool:
    """Whether the file is there with this hash."""
    algorithm, _, digest = known_hash.partition(":")
    if not file.exists():
        return False
    with open_regular(file, f"a downloaded {file.name}, or nothing, at its place") as stream:
        return hashlib.file_digest(stream, algorithm).hexdigest() == digest  # type: ignore[arg-type]


def _download(url: str, file: Path, known_hash: str) -> None:
    """Download a file, unless another process just has.

    Raises:
        ConfigError: at `path`, for what the server does not send, or not within reason.
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
    """Write what an address answers, and compare its hash."""
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
    """What went wrong, without the layers of libraries that it came through."""
    text = str(error)
    if number := re.search(r"\[Errno -?\d+\] ([\w ]+)", text):
        return number[1]
    if "IncompleteRead" in text:
        return "an answer that breaks off"
    return text.rpartition("): ")[2] or type(error).__name__
