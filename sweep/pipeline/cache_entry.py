"""One entry of the stage cache, as a file: the sha256 of what follows, a newline, then an `.npz`.

The archive holds the arrays and what they are: the key that they were asked for by, what computing them took, and the form of
each. Whatever else is found in an entry's place is `Damaged`, never another error: bytes that fit their checksum too.
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
    """What is in an entry's place is none, or not the one that was asked for; the text says in what."""


@dataclass(frozen=True, eq=False)
class Entry:
    """Arrays under a key.

    Attributes:
        key: the canonical key as JSON.
        seconds: what computing the arrays took.
        arrays: the arrays by name; none is called `key`, `seconds` or `form`.
    """

    key: str
    seconds: float
    arrays: Arrays

    def to_bytes(self) -> bytes:
        """The file's content."""
        buffer = io.BytesIO()
        facts = {"key": self.key, "seconds": self.seconds, "form": json.dumps(_form(self.arrays))}
        np.savez(buffer, allow_pickle=False, **{**self.arrays, **{name: np.array(fact) for name, fact in facts.items()}})
        body = buffer.getvalue()
        return hashlib.sha256(body).hexdigest().encode() + b"\n" + body

    @staticmethod
    def from_bytes(content: bytes) -> Entry:
        """The entry that `to_bytes` made.

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
        except Exception as error:  # zipfile and numpy do not say what they raise for arbitrary bytes
            raise Damaged(f"{type(error).__name__}: {error}") from error

    @staticmethod
    def read(path: Path) -> Entry | None:
        """The entry in a file; None where there is nothing.

        Raises:
            Damaged: for anything else in its place: other content, a folder, a pipe, a broken link, what may not be read.
        """
        try:
            if not os.path.lexists(path):
                return None
            if not path.is_file():
                raise Damaged("it is no file")
            content = path.read_bytes()
        except FileNotFoundError:  # removed since
            return None
        except (OSError, MemoryError) as error:
            raise Damaged(f"{type(error).__name__}: {error}") from error
        return Entry.from_bytes(content)


def _entry(members: dict[str, Array]) -> Entry:
    key, seconds, form = str(members.pop("key")), float(members.pop("seconds")), json.loads(str(members.pop("form")))
    if form != _form(members):
        raise Damaged("its arrays are not those that were kept")
    if not math.isfinite(seconds) or seconds < 0:
        raise Damaged(f"computing it took {seconds} seconds")
    return Entry(key, seconds, members)


def _form(arrays: Arrays) -> dict[str, list[object]]:
    """Array name to its dtype and shape."""
    return {name: [array.dtype.str, list(array.shape)] for name, array in arrays.items()}


def _members(body: bytes) -> dict[str, Array]:
    """The arrays in an `.npz`; no more memory is taken than the archive has bytes."""
    with zipfile.ZipFile(io.BytesIO(body)) as archive:
        members = archive.infolist()
        if sum(member.file_size for member in members) > len(body):
            raise Damaged("it states more bytes than it has")
        if len({member.filename for member in members}) < len(members):
            raise Damaged("an array is there twice")
        return {member.filename.removesuffix(".npy"): _array(archive.read(member)) for member in members}


def _array(content: bytes) -> Array:
    """The array in an `.npy`, whose header is believed only where the bytes are there that it states."""
    stream = io.BytesIO(content)
    version = np.lib.format.read_magic(stream)
    read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read_header(stream)
    if dtype.hasobject or dtype.itemsize * math.prod(shape) != len(content) - stream.tell():
        raise Damaged("an array is not of the size that it states")
    stream.seek(0)
    array: Array = np.lib.format.read_array(stream, allow_pickle=False)
    return array
