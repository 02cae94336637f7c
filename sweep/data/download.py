"""Downloads of published files, verified by their hashes and kept.

A download goes to a temporary file, which is renamed only when it is complete.
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
from sweep.data.archives import CHUNK, open_regular

_TIMEOUT = (10, 30)
"""Seconds to wait for a connection, and for each chunk of the response."""
_GRACE_SECONDS = 60
"""Seconds after which the mean rate of a download must be at least `_MIN_BYTES_PER_SECOND`."""
_MIN_BYTES_PER_SECOND = 1024
_MAX_BYTES = 1 << 30
"""The largest accepted file; the largest published one has a sixth of it."""


class _BadResponse(Exception):
    """A response that is not the published file, with the reason as message."""


def fetch(name: str, base: str, files: Mapping[str, str]) -> Path:
    """Downloads the files of a data set that are not present with the right hash.

    Args:
        name: the data set's name, which names its folder.
        base: the URL prefix of the files.
        files: file name to hash, as `algorithm:hex`.

    Returns:
        The path of a single file, or the folder of several.

    Raises:
        ConfigError: at `path`, for a file that cannot be downloaded or written.
    """
    place = folder() / name
    for file, known_hash in files.items():
        try:
            if not _has_hash(place / file, known_hash):
                _download(f"{base}{file}", place / file, known_hash)
        except OSError as error:
            room = f"{place} to have room for {base}{file} (SWEEP_DATA_DIR=FOLDER is another place), or dataset.path=FILE.npz"
            raise ConfigError("path", room, f"{error.strerror or error}") from error
    return place / next(iter(files)) if len(files) == 1 else place


def missing(name: str, files: Mapping[str, str]) -> int:
    """How many files of a data set are not there with the right hash. Nothing is downloaded.

    Args:
        name: the data set's name.
        files: file name to hash, as `algorithm:hex`.
    """
    return sum(not _has_hash(folder() / name / file, known_hash) for file, known_hash in files.items())


def folder() -> Path:
    """The folder of downloads and of photos as arrays: $SWEEP_DATA_DIR, or the user's cache folder."""
    import pooch  # type: ignore[import-untyped]

    configured = os.environ.get("SWEEP_DATA_DIR")
    try:
        return Path(configured or pooch.os_cache("sweep")).expanduser()
    except RuntimeError as error:
        raise ConfigError("path", "SWEEP_DATA_DIR to be a folder, or dataset.path=FILE.npz", str(configured)) from error


def _has_hash(file: Path, known_hash: str) -> bool:
    """Whether the file exists with this hash."""
    algorithm, _, digest = known_hash.partition(":")
    if not file.exists():
        return False
    with open_regular(file, f"a downloaded {file.name}, or nothing, at its place") as stream:
        return hashlib.file_digest(stream, algorithm).hexdigest() == digest  # type: ignore[arg-type]


def _download(url: str, file: Path, known_hash: str) -> None:
    """Downloads a file, unless another process has done so in the meantime.

    Raises:
        ConfigError: at `path`, for a server that is unreachable or too slow, and for another file than the published one.
        OSError: for a folder that cannot be written to.
    """
    import requests
    import urllib3

    file.parent.mkdir(parents=True, exist_ok=True)
    with locks.locked(file.parent) as locked:
        if _has_hash(file, known_hash):
            return
        if locked:
            for stale in file.parent.glob(f".{file.name}.*.part"):  # of killed processes
                stale.unlink(missing_ok=True)
        part = file.with_name(f".{file.name}.{os.getpid()}.part")
        try:
            with part.open("wb") as out:
                _receive(url, out, known_hash)
            part.replace(file)
        except (requests.RequestException, urllib3.exceptions.HTTPError, _BadResponse) as error:
            expected = f"a reachable {url}, or dataset.path=FILE.npz"
            raise ConfigError("path", expected, _error_reason(error)) from error
        finally:
            part.unlink(missing_ok=True)


def _receive(url: str, out: IO[bytes], known_hash: str) -> None:
    """Writes the response of a URL and verifies its hash."""
    import requests
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    algorithm, _, digest = known_hash.partition(":")
    digest_state, size, began = hashlib.new(algorithm), 0, time.monotonic()
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    progress = Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty())
    with progress, requests.get(url, timeout=_TIMEOUT, stream=True) as response:
        response.raise_for_status()
        task = progress.add_task(url, total=int(response.headers.get("content-length", 0)) or None)
        # read1 returns what has arrived; read would block until the whole chunk is there, however slow the server is.
        while chunk := response.raw.read1(CHUNK, decode_content=True):
            size += len(chunk)
            seconds = time.monotonic() - began
            if size > _MAX_BYTES:
                raise _BadResponse(f"an answer of more than {_MAX_BYTES >> 20} MiB")
            if seconds > _GRACE_SECONDS and size / seconds < _MIN_BYTES_PER_SECOND:
                raise _BadResponse(f"{size} bytes in {seconds:.0f} seconds")
            digest_state.update(chunk)
            out.write(chunk)
            progress.update(task, completed=size)
    if digest_state.hexdigest() != digest:
        raise _BadResponse(f"another file (of {size} bytes, its hash is not that of the published one)")


def _error_reason(error: Exception) -> str:
    """The cause of a network error, without the wrapping messages of requests and urllib3."""
    text = str(error)
    if number := re.search(r"\[Errno -?\d+\] ([\w ]+)", text):
        return number[1]
    if "IncompleteRead" in text:
        return "an answer that breaks off"
    return text.rpartition("): ")[2] or type(error).__name__
