"""The file format of an entry of the stage cache: the sha256 of the rest, a newline, then an `.npz`.

The archive holds the arrays, the key, the time that computing them took, and the dtype and shape of each array. Any other
content raises `Damaged`, also content whose checksum is right.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import warnings
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sweep.core.types import Array, Arrays


class Damaged(Exception):
    """The file is no valid entry, or the entry of another key. The message says why."""


@dataclass(frozen=True, eq=False)
class Entry:
    """Named arrays and their key.

    Attributes:
        key: the canonical key as JSON.
        seconds: how long computing the arrays took.
        arrays: the arrays by name; the names `key`, `seconds` and `form` are reserved.
    """

    key: str
    seconds: float
    arrays: Arrays

    def to_bytes(self) -> bytes:
        """The bytes of the file."""
        buffer = io.BytesIO()
        facts = {"key": self.key, "seconds": self.seconds, "form": json.dumps(_form(self.arrays))}
        np.savez(buffer, allow_pickle=False, **{**self.arrays, **{name: np.array(fact) for name, fact in facts.items()}})
        body = buffer.getvalue()
        return hashlib.sha256(body).hexdigest().encode() + b"\n" + body

    @staticmethod
    def from_bytes(content: bytes) -> Entry:
        """Parses the bytes of an entry's file.

        Raises:
            Damaged: for any other content.
        """
        checksum, _, body = content.partition(b"\n")
        if checksum != hashlib.sha256(body).hexdigest().encode():
            raise Damaged("its checksum is that of other bytes")
        try:
            with warnings.catch_warnings(action="error"):
                return _entry(_members(body))
        except Damaged:
            raise
        except Exception as error:  # zipfile and numpy raise nearly anything for arbitrary bytes
            raise Damaged(f"{type(error).__name__}: {error}") from error

    @staticmethod
    def read(path: Path) -> Entry | None:
        """Reads the entry in a file; None where there is no file.

        Raises:
            Damaged: for other content, a folder, a pipe, a broken link, or a file without read permission.
        """
        try:
            if not os.path.lexists(path):
                return None
            if not path.is_file():
                raise Damaged("it is no file")
            content = path.read_bytes()
        except FileNotFoundError:  # removed after the check
            return None
        except (OSError, MemoryError) as error:
            raise Damaged(f"{type(error).__name__}: {error}") from error
        return Entry.from_bytes(content)


def _entry(members: dict[str, Array]) -> Entry:
    key, seconds, form = str(members.pop("key")), float(members.pop("seconds")), json.loads(str(members.pop("form")))
    if form != _form(members):
        raise Damaged("its arrays are not those that were written")
    if not math.isfinite(seconds) or seconds < 0:
        raise Damaged(f"computing it took {seconds} seconds")
    return Entry(key, seconds, members)


def _form(arrays: Arrays) -> dict[str, list[object]]:
    """Array name to its dtype and shape."""
    return {name: [array.dtype.str, list(array.shape)] for name, array in arrays.items()}


def _members(body: bytes) -> dict[str, Array]:
    """The arrays of an `.npz`. An archive whose members claim more bytes than it has is refused."""
    with zipfile.ZipFile(io.BytesIO(body)) as archive:
        members = archive.infolist()
        if sum(member.file_size for member in members) > len(body):
            raise Damaged("it states more bytes than it has")
        if len({member.filename for member in members}) < len(members):
            raise Damaged("an array is there twice")
        return {member.filename.removesuffix(".npy"): _array(archive.read(member)) for member in members}


def _array(content: bytes) -> Array:
    """The array of an `.npy`. Its header must match the number of bytes that follow."""
    stream = io.BytesIO(content)
    version = np.lib.format.read_magic(stream)
    read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read_header(stream)
    if dtype.hasobject or dtype.itemsize * math.prod(shape) != len(content) - stream.tell():
        raise Damaged("an array is not of the size that it states")
    stream.seek(0)
    array: Array = np.lib.format.read_array(stream, allow_pickle=False)
    return array
