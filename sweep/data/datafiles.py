"""Readers of image data files: .npz archives, idx files, and CIFAR-10's binary version in a folder or an archive.

Reading has two steps: first the headers (names, dtypes, shapes), which the caller validates, then the arrays. So nothing is
decompressed that could not be used. Pickles are never loaded.
"""

from __future__ import annotations

import io
import math
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import IO

import numpy as np

from sweep.core.errors import ConfigError
from sweep.core.types import Array
from sweep.data import archives
from sweep.data.archives import CHUNK, BrokenFileError, open_regular, read_exactly, read_into

IDX = {
    "x_train": "train-images-idx3-ubyte",
    "y_train": "train-labels-idx1-ubyte",
    "x_test": "t10k-images-idx3-ubyte",
    "y_test": "t10k-labels-idx1-ubyte",
}
KEYS = tuple(IDX)
BATCHES = (*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin")
_NPZ = f"an .npz with the arrays {', '.join(KEYS)}"
_RECORD = 1 + 3 * 32 * 32
_NPY_HEAD = 1 << 14  # bytes; the header of an .npy of plain numbers is shorter
_DEFLATE = 1032  # the largest compression ratio of deflate
_MAX_PRINTED = 100  # characters of a file's text in a message


@dataclass(frozen=True)
class DeclaredArray:
    """An array that is not read yet, by its header.

    Attributes:
        dtype: the dtype.
        shape: the shape; no axis is negative.
        read: reads the array; the file has to be open.
    """

    dtype: np.dtype[np.generic]
    shape: tuple[int, ...]
    read: Callable[[], Array]

    @property
    def nbytes(self) -> int:
        """The size in memory, in bytes."""
        return math.prod(self.shape) * self.dtype.itemsize

    def __str__(self) -> str:
        return printable(f"{self.dtype} {self.shape}")


@dataclass(frozen=True)
class ArraySource:
    """The arrays of a file or folder.

    Attributes:
        arrays: name to array, for the names KEYS in this order; without those of the test split where the file may lack it.
        unread: the names of further arrays, which are not read.
    """

    arrays: Mapping[str, DeclaredArray]
    unread: tuple[str, ...] = ()


def printable(text: str) -> str:
    """A text from a file with control characters escaped, shortened to 100 characters."""
    plain = repr(text)[1:-1]
    return plain if len(plain) <= _MAX_PRINTED else f"{plain[:_MAX_PRINTED]}…"


def summarize(names: list[str]) -> str:
    """The first six names, and the number of the others; `none` for an empty list."""
    more = f" and {len(names) - 6} more" if len(names) > 6 else ""
    return ", ".join(map(printable, names[:6])) + more or "none"


@contextmanager
def parse_errors(file: Path, form: str) -> Iterator[None]:
    """Turns any error of a parser into a ConfigError at `path` that names the file.

    Args:
        file: the file that is read.
        form: the expected format.
    """
    try:
        yield
    except ConfigError:
        raise
    except BrokenFileError as error:
        raise ConfigError("path", f"{form}, whole and readable", f"{file}, which {error}") from error
    except MemoryError as error:
        raise ConfigError("path", f"{form}, small enough for this machine's memory", f"{file}") from error
    except OSError as error:
        # gzip and zipfile raise it for broken bytes too, without a number.
        reason = f"cannot be read ({error.strerror})" if error.errno else "is broken or cut short"
        raise ConfigError("path", f"{form}, whole and readable", f"{file}, which {reason}") from error
    except Exception as error:  # zipfile, zlib, tarfile and numpy raise nearly anything on broken bytes
        raise ConfigError("path", f"{form}, whole and readable", f"{file}, which is broken or cut short") from error


@dataclass(frozen=True)
class _NpyHeader:
    """The header of an .npy.

    Attributes:
        dtype: the dtype.
        shape: the shape.
        is_fortran: whether the array is in Fortran order.
        start: the offset of the first element, in bytes.
    """

    dtype: np.dtype[np.generic]
    shape: tuple[int, ...]
    is_fortran: bool
    start: int


@contextmanager
def open_npz(file: Path, keys: Sequence[str] = KEYS) -> Iterator[ArraySource]:
    """Opens an .npz and reads the headers of the arrays KEYS.

    Args:
        file: the file.
        keys: those that it must have; the others may be missing together.

    Raises:
        ConfigError: at `path`, for a file that is no .npz, or an array that is missing, duplicate, encrypted or pickled.
    """
    with parse_errors(file, _NPZ), open_regular(file, _NPZ) as stream:
        _require_zip(file, stream)
        with zipfile.ZipFile(stream) as archive:
            members = {name: count for name, count in Counter(archive.namelist()).items() if not name.endswith("/")}
            others = [key for key in KEYS if key not in keys]
            present = [*keys, *(others if any(f"{key}.npy" in members for key in others) else [])]
            wanted = [f"{key}.npy" for key in KEYS if key in present]
            if absent := [name for name in wanted if name not in members]:
                received = f"{file} with {summarize([name.removesuffix('.npy') for name in members])}"
                raise ConfigError("path", _NPZ, f"{received}, without {', '.join(absent)}")
            if twice := [name for name in wanted if members[name] > 1]:
                raise ConfigError("path", f"{_NPZ}, each once", f"{file} with {twice[0]} {members[twice[0]]} times")
            unread = tuple(name.removesuffix(".npy") for name in members if name not in wanted)
            yield ArraySource({key: _open_npy(archive, key, file) for key in KEYS if key in present}, unread)


def _require_zip(file: Path, stream: IO[bytes]) -> None:
    """Refuses what is commonly mistaken for an .npz, with a message of its own."""
    start = stream.read(6)
    if start == b"\x93NUMPY":
        raise ConfigError("path", f"{_NPZ} (np.savez writes it)", f"{file}, an .npy with one array")
    if not zipfile.is_zipfile(stream):
        broken = "whose end is missing" if start[:2] == b"PK" else "which is no .npz"
        raise ConfigError("path", f"{_NPZ}, whole and readable", f"{file}, {broken}")


def _open_npy(archive: zipfile.ZipFile, key: str, file: Path) -> DeclaredArray:
    """Reads the header of an array of an .npz; at most _NPY_HEAD bytes are decompressed."""
    member, written = archive.getinfo(f"{key}.npy"), f"{_NPZ}, as np.savez and np.savez_compressed write them"
    with parse_errors(file, f"an .npz with a readable {key}"):
        if member.flag_bits & 1:
            raise ConfigError("path", written, f"{file}, where {key} is encrypted")
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ConfigError("path", written, f"{file}, where {key} is compressed by method {member.compress_type}")
        most = member.compress_size * (_DEFLATE if member.compress_type == zipfile.ZIP_DEFLATED else 1)
        if member.file_size > most:
            raise BrokenFileError(f"has {member.compress_size} bytes for the {member.file_size} that it claims for {key}")
        with archive.open(member) as stream:
            head = io.BytesIO(stream.read(_NPY_HEAD))
        try:
            form = _read_npy_header(head)
        except Exception as error:  # numpy parses the header as Python, which may raise RecursionError or MemoryError
            raise BrokenFileError(f"has no header of a .npy for {key}") from error
        if form.dtype.hasobject:
            # numpy's wording
            raise ConfigError("path", f"{key} to be numbers", f"{file}, where it is pickled (Object arrays cannot be loaded)")
        declared = DeclaredArray(form.dtype, form.shape, partial(_read_npy, archive, file, key, form))
        if any(size < 0 for size in form.shape) or form.start + declared.nbytes != member.file_size:
            raise BrokenFileError(f"has {member.file_size - form.start} bytes for {key}, {declared}")
        return declared


def _read_npy_header(stream: IO[bytes]) -> _NpyHeader:
    """Reads the header at the start of a stream, versions 1.0 and 2.0 (numpy.lib.format)."""
    version = np.lib.format.read_magic(stream)
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in readers:  # version 3.0 is for structured dtypes alone
        raise ValueError(f"unknown version {version}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about Python 2's integers and deprecated names of dtypes
        shape, is_fortran, dtype = readers[version](stream)
    if any(abs(size) >= 1 << 63 for size in shape):
        raise ValueError("an axis longer than any address")
    return _NpyHeader(dtype, tuple(map(int, shape)), bool(is_fortran), stream.tell())


def _read_npy(archive: zipfile.ZipFile, file: Path, key: str, form: _NpyHeader) -> Array:
    with parse_errors(file, f"an .npz with a readable {key}"), archive.open(f"{key}.npy") as stream:
        read_exactly(stream, form.start)
        array = np.empty(form.shape[::-1] if form.is_fortran else form.shape, form.dtype)
        read_into(stream, _bytes_of(array))  # to the end, where zipfile verifies the checksum
        return array.T if form.is_fortran else array


def _bytes_of(array: Array) -> memoryview:
    return array.reshape(-1).view(np.uint8).data


def open_idx(folder: Path) -> ArraySource:
    """Reads the headers of the four idx files in a folder, each plain or .gz.

    Raises:
        ConfigError: at `path`, for a file that is missing or malformed.
    """
    return ArraySource({key: _open_idx_file(folder, name) for key, name in IDX.items()})


def _open_idx_file(folder: Path, name: str) -> DeclaredArray:
    file = next((file for file in (folder / name, folder / f"{name}.gz") if file.exists()), None)
    if file is None:
        raise ConfigError("path", f"a folder with {name} or {name}.gz", f"{folder}, which has neither")
    axes = 3 if "idx3" in name else 1
    form = f"an idx file of unsigned bytes along {axes} {'axes' if axes > 1 else 'axis'}"
    with parse_errors(file, form), open_regular(file, form) as raw:
        stream = _decompressed(file, raw)
        start = stream.read(4)
        if start != bytes((0, 0, 8, axes)):
            raise BrokenFileError(f"begins with {start.hex(' ') or 'nothing'}")
        shape = tuple(np.frombuffer(read_exactly(stream, 4 * axes), ">u4").tolist())
        return DeclaredArray(np.dtype(np.uint8), shape, partial(_read_idx, file, shape))


def _read_idx(file: Path, shape: tuple[int, ...]) -> Array:
    form = f"an idx file of {math.prod(shape)} bytes, as its header counts"
    with parse_errors(file, form), open_regular(file, form) as raw:
        size = file.stat().st_size
        if math.prod(shape) > size * (_DEFLATE if file.suffix == ".gz" else 1):
            raise BrokenFileError(f"has {size} bytes")
        stream = _decompressed(file, raw)
        read_exactly(stream, 4 + 4 * len(shape))
        array = np.empty(shape, np.uint8)
        read_into(stream, _bytes_of(array))
        return array


def _decompressed(file: Path, raw: IO[bytes]) -> IO[bytes]:
    return archives.open_gzip(raw) if file.suffix == ".gz" else raw


def open_cifar(place: Path, accepts: str, records: int) -> ArraySource:
    """The six files of CIFAR-10's binary version, in a folder or a .tar.gz. The format has no headers, so nothing is read yet.

    Args:
        place: the folder or the archive.
        accepts: what is accepted there, for the error.
        records: images in each file.
    """

    @cache
    def rows() -> Array:
        """uint8 (6, records, 3073): a record is the label and the red, green and blue plane."""
        return _cifar_rows(place, accepts, records)

    def images(part: slice) -> Array:
        return rows()[part, :, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)

    def labels(part: slice) -> Array:
        return rows()[part, :, 0].reshape(-1)

    arrays: dict[str, DeclaredArray] = {}
    for split, part, files in (("train", slice(5), 5), ("test", slice(5, 6), 1)):
        count, dtype = files * records, np.dtype(np.uint8)
        arrays[f"x_{split}"] = DeclaredArray(dtype, (count, 32, 32, 3), partial(images, part))
        arrays[f"y_{split}"] = DeclaredArray(dtype, (count,), partial(labels, part))
    return ArraySource(arrays)


def _cifar_rows(place: Path, accepts: str, records: int) -> Array:
    rows = np.empty((len(BATCHES), records, _RECORD), np.uint8)
    names = (_read_from_folder if place.is_dir() else _read_from_tar)(rows, place)
    missing = [name for name in BATCHES if name not in names]
    if missing and names & {name.removesuffix(".bin") for name in BATCHES}:
        raise ConfigError("path", f"{accepts} (pickles are never loaded)", f"{place}, the version for Python")
    if missing:
        raise ConfigError("path", accepts, f"{place}, without {', '.join(missing)}")
    return rows


def _read_from_folder(rows: Array, folder: Path) -> set[str]:
    """Reads the batches that the folder has into their rows. Returns the names of batches and of pickled batches in it."""
    names = {name for batch in BATCHES for name in (batch, batch.removesuffix(".bin")) if (folder / name).exists()}
    for content, name in zip(rows, BATCHES, strict=True):
        if name in names:
            with (
                parse_errors(folder / name, _expected_records(rows)),
                open_regular(folder / name, _expected_records(rows)) as stream,
            ):
                read_into(stream, _bytes_of(content))
    return names


def _read_from_tar(rows: Array, file: Path) -> set[str]:
    """Reads the batches that the archive has into their rows. Returns the names of all members."""
    names, read = set[str](), set[str]()
    form = f"a .tar.gz with {', '.join(BATCHES)}"
    with parse_errors(file, form), open_regular(file, form) as raw:
        for member in archives.iter_tar_members(raw, rows.nbytes):
            names.add(member.name)
            if member.name in BATCHES:
                with parse_errors(file / member.name, _expected_records(rows)):
                    if not member.is_file:
                        raise BrokenFileError("is a link, or no file at all")
                    if member.name in read:
                        raise BrokenFileError("is in the archive twice")
                    if member.size != rows[0].nbytes:
                        raise BrokenFileError(f"has {member.size} bytes")
                    read.add(member.name)
                    content = _bytes_of(rows[BATCHES.index(member.name)])
                    for start in range(0, len(content), CHUNK):
                        piece = content[start : start + CHUNK]
                        piece[:] = read_exactly(member.stream, len(piece))
    return names


def _expected_records(rows: Array) -> str:
    return f"{rows.shape[1]} records of {_RECORD} bytes"
