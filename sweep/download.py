"""Published files: downloaded once, checked by their hashes, and kept."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from sweep.records import ConfigError

_TIMEOUT = (10, 30)
"""Seconds to wait for a connection, and for each next piece of the answer."""


def fetched(name: str, base: str, files: Mapping[str, str]) -> Path:
    """The file, or the folder of several, downloaded unless it is there already with the right hashes."""
    import pooch  # type: ignore[import-untyped]

    folder = Path(os.environ.get("SWEEP_DATA_DIR") or pooch.os_cache("sweep")).expanduser() / name
    fetch = pooch.HTTPDownloader(progressbar=sys.stderr.isatty(), timeout=_TIMEOUT, chunk_size=1 << 16)
    for file, known_hash in files.items():
        try:
            pooch.retrieve(f"{base}{file}", known_hash, fname=file, path=folder, downloader=fetch)
        except (OSError, ValueError) as error:
            expected = f"a reachable {base}{file}, or dataset.path=FILE.npz"
            raise ConfigError("path", expected, f"{type(error).__name__}: {error}") from error
    return folder / next(iter(files)) if len(files) == 1 else folder
