"""Reads untrusted files: regular files only, with bounded memory.

Nothing is unpacked to disk. The sizes, names and counts that an archive declares are not trusted.
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


PIECE = 1 << 20
"""Bytes that are read, inflated or skipped at once."""
_GZIP_MEMBERS = 1 << 14
_TAR_MEMBERS = 10_000
_TAR_EXTENSION = 1 << 16  # bytes of a record that holds the long name of the next member
_TAR_OTHER = 1 << 28  # bytes of an archive beyond those that are wanted
_BLOCK = 512
_EMPTY = (tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE)
_KINDS = {
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a character device",
    stat.S_IFBLK: "a block device",
    stat.S_IFDIR: "a folder",
}


class BrokenFileError(ValueError):
    """A file whose bytes are broken. The text follows "which": `ends too early`."""


def located(place: Path, accepts: str) -> Path:
    """Returns the path with its `~` expanded: that of a regular file or a folder. Nothing is read.

    Args:
        place: the path as the user wrote it.
        accepts: what is accepted there, for the error.

    Raises:
        ConfigError: at `path`, for a path that does not exist, cannot be opened, or is a FIFO, a device or a socket.
    """
    try:
        place = place.expanduser()
        mode = place.stat().st_mode
    except FileNotFoundError as error:
        absent = "a link to what does not exist" if place.is_symlink() else "which does not exist"
        raise ConfigError("path", accepts, f"{place}, {absent}") from error
    except OSError as error:
        raise ConfigError("path", accepts, f"{place}, which cannot be opened ({error.strerror})") from error
    except (RuntimeError, ValueError) as error:  # the home folder of nobody, a zero byte
        raise ConfigError("path", accepts, f"{place}, which cannot be opened ({error})") from error
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise ConfigError("path", accepts, f"{place}, {_KINDS.get(stat.S_IFMT(mode), 'which is neither')}")
    return place


def open_regular(file: Path, form: str) -> IO[bytes]:
    """Opens a regular file for reading. It never waits for a FIFO and opens no device.

    Args:
        file: its path.
        form: what it should be, for the error.

    Raises:
        ConfigError: at `path`, for anything but a regular file.
        OSError: for a file that cannot be opened.
    """
    _require_regular(file, form, file.stat().st_mode)
    descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    stream = _Bounded(io.FileIO(descriptor), PIECE)
    try:
        _require_regular(file, form, os.fstat(descriptor).st_mode)  # it may have been replaced in between
    except ConfigError:
        stream.close()
        raise
    return stream


def _require_regular(file: Path, form: str, mode: int) -> None:
    if not stat.S_ISREG(mode):
        raise ConfigError("path", form, f"{file}, {_KINDS.get(stat.S_IFMT(mode), 'which is no regular file')}")


class _Bounded(io.BufferedReader):
    """A file of which at most PIECE bytes are read at once, whatever sizes its own tables declare."""

    def read(self, size: int | None = -1, /) -> bytes:
        content = super().read(PIECE + 1 if size is None or not 0 <= size <= PIECE else size)
        if len(content) > PIECE:
            raise BrokenFileError(f"has a table of more than {PIECE >> 20} MiB")
        return content


def read_exactly(stream: IO[bytes], size: int) -> bytes:
    """Returns the next `size` bytes, at most PIECE.

    Raises:
        BrokenFileError: where the stream ends before.
    """
    content = stream.read(size)
    if len(content) != size:
        raise BrokenFileError("ends too early")
    return content


def fill(stream: Any, view: memoryview) -> None:
    """Read the rest of a stream into a view of bytes, which it fills.

    Raises:
        BrokenFileError: where the stream holds less, or more.
    """
    done = 0
    while done < len(view):
        count = stream.readinto(view[done : done + PIECE])
        if not count:
            raise BrokenFileError("ends too early")
        done += count
    if stream.read(1):
        raise BrokenFileError("goes on beyond its end")


def inflated(raw: IO[bytes]) -> IO[bytes]:
    """What a .gz holds, as a stream. Its checksums are compared when its end is read.

    Raises:
        zlib.error, BrokenFileError: while reading, for bytes that are no .gz.
    """
    return io.BufferedReader(_Inflated(raw), PIECE)


class _Inflated(io.RawIOBase):
    """Inflates no more than each read asks for. gzip.GzipFile goes through zeros behind the end for ever."""

    def __init__(self, raw: IO[bytes]) -> None:
        self._raw, self._waiting = raw, b""
        self._member: Any = None  # zlib's type has no name
        self._members = self._position = 0

    def readable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        view = memoryview(buffer)
        while self._member is not None or self._begin():
            self._waiting = self._waiting or self._raw.read(PIECE)
            ended = not self._waiting
            content = self._member.decompress(self._waiting, len(view))
            self._waiting = self._member.unused_data if self._member.eof else self._member.unconsumed_tail
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
        """Begin the next member. False at the end, which zeros may follow."""
        self._waiting = self._waiting or self._raw.read(PIECE)
        if self._members and not self._waiting.strip(b"\0"):
            if self._raw.read(1):
                raise BrokenFileError("goes on beyond its end")
            return False
        if self._waiting[:1] != b"\x1f":
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
        name: its name, without folders.
        size: its bytes, as the archive states them.
        is_file: False for a link, a device and the like.
        stream: its content comes next here.
    """

    name: str
    size: int
    is_file: bool
    stream: IO[bytes]


def tar_members(raw: IO[bytes], wanted: int) -> Iterator[Member]:
    """The members of a .tar.gz but its folders, each to be read before the next one is asked for. The checksum comes last.

    Args:
        raw: the file.
        wanted: bytes of the members that will be read. Much more than these is not inflated.

    Raises:
        BrokenFileError, tarfile.TarError, zlib.error: for bytes that are no .tar.gz.
    """
    stream, most = inflated(raw), wanted + _TAR_OTHER
    long_name: str | None = None
    for _ in range(_TAR_MEMBERS):
        header = read_exactly(stream, _BLOCK)
        if not header.strip(b"\0"):
            break
        member = tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape")
        size = 0 if member.type in _EMPTY else member.size  # the header of a link may count bytes that do not follow
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
        _skip(stream, end - stream.tell())
    else:
        raise BrokenFileError(f"has more than {_TAR_MEMBERS} members")
    while stream.read(PIECE):
        if stream.tell() > most:
            raise BrokenFileError(f"inflates to more than {most >> 20} MiB")


def _long_name(member: tarfile.TarInfo, content: bytes) -> str | None:
    if member.type == tarfile.GNUTYPE_LONGNAME:
        return content.rstrip(b"\0").decode("utf-8", "surrogateescape")
    path = re.search(rb"(?:^|\n)[0-9]{1,9} path=([^\n]*)\n", content)
    return path[1].decode("utf-8", "surrogateescape") if path else None


def _skip(stream: IO[bytes], size: int) -> None:
    if size < 0:
        raise BrokenFileError("was read beyond a member's end")
    while size:
        size -= len(read_exactly(stream, min(size, PIECE)))
