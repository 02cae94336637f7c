"""JSON objects read back from files that a person, a full disk or a power cut may have changed.

Every record of a sweep is read here. What is no JSON object, or holds another kind of value than its reader wants, is refused
by file and name.
"""

from __future__ import annotations

import json
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sweep.core.errors import ConfigError

_MOST_BYTES = 64 * 2**20
_MOST_INTEGER = 2**63 - 1
_LATEST = 1e11
_KINDS = {str: "a text", int: "an integer", float: "a number", dict: "an object"}
_REQUIRED: Any = object()


def read(path: Path) -> dict[str, Any]:
    """The JSON object in a regular file of at most 64 MiB.

    Raises:
        ConfigError: naming the file, for anything else.
    """
    try:
        found = path.stat()  # before opening: a pipe would not answer
        if not stat.S_ISREG(found.st_mode):
            raise ConfigError(str(path), "a file with a JSON object", "a folder" if path.is_dir() else "no regular file")
        if found.st_size > _MOST_BYTES:
            raise ConfigError(str(path), f"a JSON object of at most {_MOST_BYTES:,} bytes", f"{found.st_size:,}")
        value = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise ConfigError(str(path), "a JSON object", "nothing") from error
    except RecursionError as error:
        raise ConfigError(str(path), "a JSON object", "values nested too deeply") from error
    except (OSError, ValueError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(str(path), "a JSON object", f"{type(error).__name__}: {error}") from error
    if not isinstance(value, dict):
        raise ConfigError(str(path), "a JSON object", type(value).__name__)
    return value


def get(path: Path, record: Mapping[str, Any], name: str, kind: type, default: Any = _REQUIRED) -> Any:
    """A value of a record; the default where it is missing or null.

    Args:
        path: the record's file.
        record: what is in it.
        name: the value's name.
        kind: str, int (of 64 bits), float (an integer will do; NaN and infinities count) or dict.
        default: what stands for a missing value; without one it is refused.

    Raises:
        ConfigError: naming file and value, for another kind.
    """
    value = record.get(name)
    if value is None and default is not _REQUIRED:
        return default
    if isinstance(value, bool) or not isinstance(value, (int, float) if kind is float else kind):
        raise ConfigError(f"{path}: {name}", _KINDS[kind], "nothing" if name not in record else value)
    if isinstance(value, int) and abs(value) > _MOST_INTEGER:
        raise ConfigError(f"{path}: {name}", f"{_KINDS[kind]} of at most 64 bits", "a larger one")
    return value


def seconds(path: Path, record: Mapping[str, Any], name: str) -> float | None:
    """A duration, or a moment since the epoch, in seconds; None where it is missing or null.

    Raises:
        ConfigError: naming file and value, for anything but a number in [0, 1e11], which ends in the year 5138.
    """
    value: float | None = get(path, record, name, float, None)
    if value is not None and not 0 <= value <= _LATEST:
        raise ConfigError(f"{path}: {name}", f"seconds in [0, {_LATEST:g}]", value)
    return value


def texts(path: Path, record: Mapping[str, Any], name: str) -> dict[str, str]:
    """An object whose values are texts; one that is missing is empty.

    Raises:
        ConfigError: naming file and value, for anything else.
    """
    value = get(path, record, name, dict, {})
    return {str(key): get(path, value, key, str) for key in value}
