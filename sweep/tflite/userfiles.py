"""Files that a user named."""

from __future__ import annotations

import os
from pathlib import Path

from sweep.core.errors import ConfigError
from sweep.tflite import flatbuffer


def read(path: Path) -> bytes:
    """The bytes of a file that a user named.

    Raises:
        ConfigError: where there is no file, an empty one, or one that is too large for a flatbuffer.
    """
    expected = "a .tflite file"
    try:
        if not path.is_file():
            found = "something else" if os.path.lexists(path) else "nothing"
            raise ConfigError(str(path), expected, "a folder" if path.is_dir() else found)
        size = path.stat().st_size
        if not 0 < size <= flatbuffer.LARGEST:
            raise ConfigError(str(path), f"{expected} of 1 to {flatbuffer.LARGEST} bytes", f"{size} bytes")
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(str(path), f"{expected} that can be read", str(error.strerror)) from error
