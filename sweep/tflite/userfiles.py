"""Reads `.tflite` files that a user names."""

from __future__ import annotations

import os
from pathlib import Path

from sweep.core.errors import ConfigError
from sweep.tflite import flatbuffer


def read(path: Path) -> bytes:
    """Reads a file that a user names.

    Args:
        path: the path of the file.

    Returns:
        Its bytes.

    Raises:
        ConfigError: for a file that is missing, empty, unreadable or too large for a flatbuffer.
    """
    expected = "a .tflite file"
    try:
        if not path.is_file():
            if path.is_dir():
                raise ConfigError(str(path), expected, "a folder")
            raise ConfigError(str(path), expected, "something else" if os.path.lexists(path) else "nothing")
        size = path.stat().st_size
        if not 0 < size <= flatbuffer.MAX_BYTES:
            raise ConfigError(str(path), f"{expected} of 1 to {flatbuffer.MAX_BYTES} bytes", f"{size} bytes")
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(str(path), f"{expected} that can be read", str(error.strerror)) from error
