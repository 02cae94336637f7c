"""Checks that a folder is writable, before anything trains."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from sweep.core.errors import ConfigError

_PATH_LIMIT, _NAME_LIMIT = 3500, 255  # bytes: limits of Linux file systems, with room for the files in the folder


def require_writable(where: str, folder: Path) -> None:
    """Refuses a folder that cannot be created or written to.

    A folder without any write permission is refused to the superuser too.

    Args:
        where: the key of the error.
        folder: an absolute path.

    Raises:
        ConfigError: naming the nearest existing folder, or the file in its place.
    """
    if len(os.fsencode(folder)) > _PATH_LIMIT or any(len(os.fsencode(part)) > _NAME_LIMIT for part in folder.parts):
        raise ConfigError(where, "a folder with a name that the system takes", str(folder))
    existing = next(path for path in (folder, *folder.parents) if os.path.lexists(path))
    if not existing.is_dir() or not writable(existing):
        received = f"{folder}, where {existing} is {_kind(existing)}"
        raise ConfigError(where, "a folder that can be written to", received)


def _kind(path: Path) -> str:
    """Why the path is not a writable folder, for the error."""
    if path.is_dir():
        return "read-only"
    return "a file" if path.exists() else "a link that leads nowhere"


def writable(path: Path) -> bool:
    """Whether a file or folder has a write permission bit and this process can write to it."""
    return bool(path.stat().st_mode & (stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH)) and os.access(path, os.W_OK)
