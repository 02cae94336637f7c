"""Bounded readers of untrusted files: regular files, gzip streams and tar archives.

Only regular files are opened, memory is bounded, and nothing is unpacked to disk. The sizes, names and counts in an archive's
headers are not trusted.
"""

from __future__ import annotations

import io
import os
import re
import stat
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, Any

from sweep.core.errors import ConfigError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer


CHUNK = 1 << 20
"""Bytes that are read, decompressed or skipped at once."""
_GZIP_MEMBERS = 1 << 14
_TAR_MEMBERS = 10_000
_TAR_EXTENSION = 1 << 16  # bytes of an extension header with the long name of the next member
_TAR_OVERHEAD = 1 << 28  # decompressed bytes that an archive may have beyond the wanted members
_BLOCK = 512
_EMPTY = (tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE)
_FILE_TYPES = {
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a character device",
    stat.S_IFBLK: "a block device",
    stat.S_IFDIR: "a folder",
}


class BrokenFileError(ValueError):
    """A malformed file. The message is a predicate that follows "which", for example `ends too early`."""


def resolve_path(place: Path, accepts: str) -> Path:
    """Expands `~` and checks that the path is a regular file or a folder. Nothing is read.

    Args:
        place: the path as the user wrote it.
        accepts: what is accepted there, for the error.

    Raises:
        ConfigError: at `path`, for a path that does not exist, cannot be accessed, or is a FIFO, a device or a socket.
    """
    try:
        place = place.expanduser()
        mode = place.stat().st_mode
    except FileNotFoundError as error:
        absent = "a link to what does not exist" if place.is_symlink() else "which does not exist"
        raise ConfigError("path", accepts, f"{place}, {absent}") from error
    except OSError as error:
        raise ConfigError("path", accepts, f"{place}, which cannot be opened ({error.strerror})") from error
    except (RuntimeError, ValueError) as error:  # an unknown user's home folder, a null byte
        raise ConfigError("path", accepts, f"{place}, which cannot be opened ({error})") from error
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise ConfigError("path", accepts, f"{place}, {_FILE_TYPES.get(stat.S_IFMT(mode), 'which is neither')}")
    return place


def open_regular(file: Path, form: str) -> IO[bytes]:
    """Opens a regular file for reading. It never blocks on a FIFO and never opens a device.

    Args:
        file: the path.
        form: the expected format, for the error.

    Raises:
        ConfigError: at `path`, for anything but a regular file.
        OSError: when the file cannot be opened.
    """
    _require_regular(file, form, file.stat().st_mode)
    descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    stream = _BoundedReader(io.FileIO(descriptor), CHUNK)
    try:
        _require_regular(file, form, os.fstat(descriptor).st_mode)  # it may have been replaced since
    except ConfigError:
        stream.close()
        raise
    return stream


def _require_regular(file: Path, form: str, mode: int) -> None:
    if not stat.S_ISREG(mode):
        raise ConfigError("path", form, f"{file}, {_FILE_TYPES.get(stat.S_IFMT(mode), 'which is no regular file')}")


class _BoundedReader(io.BufferedReader):
    """Reads at most CHUNK bytes at once, whatever size the file's headers claim."""

    def read(self, size: int | None = -1, /) -> bytes:
        content = super().read(CHUNK + 1 if size is None or not 0 <= size <= CHUNK else size)
        if len(content) > CHUNK:
            raise BrokenFileError(f"has a table of more than {CHUNK >> 20} MiB")
        return content


def read_exactly(stream: IO[bytes], size: int) -> bytes:
    """Reads the next `size` bytes, at most CHUNK.

    Raises:
        BrokenFileError: when the stream ends before.
    """
    content = stream.read(size)
    if len(content) != size:
        raise BrokenFileError("ends too early")
    return content


def read_into(stream: Any, view: memoryview) -> None:
    """Reads the rest of a stream into a view of exactly its length.

    Args:
        stream: a binary stream with `readinto`.
        view: uint8 (bytes,), filled in place.

    Raises:
        BrokenFileError: when the stream has fewer or more bytes.
    """
    done = 0
    while done < len(view):
        count = stream.readinto(view[done : done + CHUNK])
        if not count:
            raise BrokenFileError("ends too early")
        done += count
    if stream.read(1):
        raise BrokenFileError("goes on beyond its end")


def open_gzip(raw: IO[bytes]) -> IO[bytes]:
    """The decompressed stream of a .gz. Each member's checksum is verified when its end is read.

    Raises:
        zlib.error, BrokenFileError: while reading, for a malformed .gz.
    """
    return io.BufferedReader(_GzipReader(raw), CHUNK)


class _GzipReader(io.RawIOBase):
    """Decompresses no more than each read asks for; gzip.GzipFile reads trailing zeros without a bound."""

    def __init__(self, raw: IO[bytes]) -> None:
        self._raw, self._pending = raw, b""
        self._member: Any = None  # zlib exports no name for its type
        self._members = self._position = 0

    def readable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        view = memoryview(buffer)
        while self._member is not None or self._begin():
            self._pending = self._pending or self._raw.read(CHUNK)
            ended = not self._pending
            content = self._member.decompress(self._pending, len(view))
            self._pending = self._member.unused_data if self._member.eof else self._member.unconsumed_tail
            if self._member.eof:
                self._member = None
            elif ended and not content:
                raise BrokenFileError("ends too early")
            if content:
                view[: len(content)] = content
                self._position += len(content)
                return len(content)
        return 0

    def _begin(self) -> bool:
        """Begins the next member; returns False at the end of the file, where trailing zeros are allowed."""
        self._pending = self._pending or self._raw.read(CHUNK)
        if self._members and not self._pending.strip(b"\0"):
            if self._raw.read(1):
                raise BrokenFileError("goes on beyond its end")
            return False
        if self._pending[:1] != b"\x1f":
            raise BrokenFileError("goes on beyond its end" if self._members else "is no .gz")
        if self._members == _GZIP_MEMBERS:
            raise BrokenFileError(f"is made of more than {_GZIP_MEMBERS} members")
        self._members += 1
        self._member = zlib.decompressobj(16 + zlib.MAX_WBITS)  # 16: a gzip header and its checksum
        return True


@dataclass(frozen=True)
class Member:
    """A file in an archive.

    Attributes:
        name: the file name without folders.
        size: the size in bytes that the header states.
        is_file: False for a link, a device and other special members.
        stream: the decompressed archive, positioned at the content of the member.
    """

    name: str
    size: int
    is_file: bool
    stream: IO[bytes]


def iter_tar_members(raw: IO[bytes], wanted: int) -> Iterator[Member]:
    """Iterates over the members of a .tar.gz, without its folders. Read each member before asking for the next.

    The checksum is verified after the last member.

    Args:
        raw: the compressed file.
        wanted: the total size in bytes of the members that the caller reads, which bounds what is decompressed.

    Raises:
        BrokenFileError, tarfile.TarError, zlib.error: for a malformed .tar.gz.
    """
    stream, most = open_gzip(raw), wanted + _TAR_OVERHEAD
    long_name: str | None = None
    for _ in range(_TAR_MEMBERS):
        header = read_exactly(stream, _BLOCK)
        if not header.strip(b"\0"):
            break
        member = tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape")
        size = 0 if member.type in _EMPTY else member.size  # a link's header may state a size without content
        end = stream.tell() + -(-size // _BLOCK) * _BLOCK
        if size < 0 or end > most:
            raise BrokenFileError(f"inflates to more than {most >> 20} MiB")
        if member.type in (tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE):
            if size > _TAR_EXTENSION:
                raise BrokenFileError("has a member with too long a name")
            long_name = _long_name(member, read_exactly(stream, size)) or long_name
        elif member.type not in (tarfile.GNUTYPE_LONGLINK, tarfile.XGLTYPE):
            if not member.isdir():
                name = PurePosixPath(long_name or member.name).name
                yield Member(name, size, member.isreg() and member.type != tarfile.GNUTYPE_SPARSE, stream)
            long_name = None
        _skip_bytes(stream, end - stream.tell())
    else:
        raise BrokenFileError(f"has more than {_TAR_MEMBERS} members")
    while stream.read(CHUNK):
        if stream.tell() > most:
            raise BrokenFileError(f"inflates to more than {most >> 20} MiB")


def _long_name(member: tarfile.TarInfo, content: bytes) -> str | None:
    if member.type == tarfile.GNUTYPE_LONGNAME:
        return content.rstrip(b"\0").decode("utf-8", "surrogateescape")
    path = re.search(rb"(?:^|\n)[0-9]{1,9} path=([^\n]*)\n", content)
    return path[1].decode("utf-8", "surrogateescape") if path else None


def _skip_bytes(stream: IO[bytes], size: int) -> None:
    if size < 0:
        raise BrokenFileError("was read beyond a member's end")
    while size:
        size -= len(read_exactly(stream, min(size, CHUNK)))
