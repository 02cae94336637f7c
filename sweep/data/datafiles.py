"""Readers of image and label files: .npz archives, idx files, and CIFAR-10's binary files in a folder or an archive.

A file is read in two steps: what it declares (names, types, shapes) and, once that is validated, its arrays. So nothing is
inflated that cannot be used. Pickles are never loaded.
"""

from __future__ import annotations

import io
import math
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import IO

import numpy as np

from sweep.core.errors import ConfigError
from sweep.core.types import Array
from sweep.data import archives
from sweep.data.archives import PIECE, BrokenFileError, fill, open_regular, read_exactly

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
_NPY_HEAD = 1 << 14  # bytes that hold the header of any .npy with plain numbers
_DEFLATE = 1032  # no deflated byte becomes more bytes than these
_SHOWN = 100  # characters of a text out of a file


@dataclass(frozen=True)
class Declared:
    """An array as its file declares it.

    Attributes:
        dtype: the element type.
        shape: without negative axes.
        read: reads the array, while the file is open.
    """

    dtype: np.dtype[np.generic]
    shape: tuple[int, ...]
    read: Callable[[], Array]

    @property
    def nbytes(self) -> int:
        """Bytes in memory."""
        return math.prod(self.shape) * self.dtype.itemsize

    def __str__(self) -> str:
        return shown(f"{self.dtype} {self.shape}")


@dataclass(frozen=True)
class Source:
    """The arrays that a file or a folder declares.

    Attributes:
        arrays: those named by KEYS, in this order.
        unread: the names of further arrays.
    """

    arrays: Mapping[str, Declared]
    unread: tuple[str, ...] = ()


def shown(text: str) -> str:
    """Returns a text from a file, escaped and shortened so that it can be printed."""
    plain = repr(text)[1:-1]
    return plain if len(plain) <= _SHOWN else f"{plain[:_SHOWN]}…"


def listed(names: list[str]) -> str:
    """Returns the first few names, and how many more there are."""
    more = f" and {len(names) - 6} more" if len(names) > 6 else ""
    return ", ".join(map(shown, names[:6])) + more or "none"


@contextmanager
def parsing(file: Path, form: str) -> Iterator[None]:
    """Turns any error of reading a file into a ConfigError at `path` that names the file.

    Args:
        file: the path that is being read.
        form: what it should be, for the error.
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
class _Form:
    """The header of an .npy.

    Attributes:
        dtype: the array's type.
        shape: its shape.
        is_fortran: whether it is in column-major order.
        start: the offset of its first element in bytes.
    """

    dtype: np.dtype[np.generic]
    shape: tuple[int, ...]
    is_fortran: bool
    start: int


@contextmanager
def open_npz(file: Path) -> Iterator[Source]:
    """Opens an .npz and yields the arrays named by KEYS.

    Raises:
        ConfigError: at `path`, for a file that is not an .npz, or in which an array is missing, doubled, encrypted or pickled.
    """
    with parsing(file, _NPZ), open_regular(file, _NPZ) as stream:
        _require_zip(file, stream)
        with zipfile.ZipFile(stream) as archive:
            members = {name: count for name, count in Counter(archive.namelist()).items() if not name.endswith("/")}
            wanted = [f"{key}.npy" for key in KEYS]
            if absent := [name for name in wanted if name not in members]:
                received = f"{file} with {listed([name.removesuffix('.npy') for name in members])}"
                raise ConfigError("path", _NPZ, f"{received}, without {', '.join(absent)}")
            if twice := [name for name in wanted if members[name] > 1]:
                raise ConfigError("path", f"{_NPZ}, each once", f"{file} with {twice[0]} {members[twice[0]]} times")
            unread = tuple(name.removesuffix(".npy") for name in members if name not in wanted)
            yield Source({key: _declared_npy(archive, key, file) for key in KEYS}, unread)


def _require_zip(file: Path, stream: IO[bytes]) -> None:
    """Refuses files that are often taken for an .npz, each with its own reason."""
    start = stream.read(6)
    if start == b"\x93NUMPY":
        raise ConfigError("path", f"{_NPZ} (np.savez writes it)", f"{file}, an .npy with one array")
    if not zipfile.is_zipfile(stream):
        broken = "whose end is missing" if start[:2] == b"PK" else "which is no .npz"
        raise ConfigError("path", f"{_NPZ}, whole and readable", f"{file}, {broken}")


def _declared_npy(archive: zipfile.ZipFile, key: str, file: Path) -> Declared:
    """Returns one array of an .npz as its header declares it; at most _NPY_HEAD bytes are inflated."""
    member, written = archive.getinfo(f"{key}.npy"), f"{_NPZ}, as np.savez and np.savez_compressed write them"
    with parsing(file, f"an .npz with a readable {key}"):
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
            form = _npy_form(head)
        except Exception as error:  # numpy parses the header as Python, which runs out of stack and of memory too
            raise BrokenFileError(f"has no header of a .npy for {key}") from error
        if form.dtype.hasobject:
            # numpy's own words
            raise ConfigError("path", f"{key} to be numbers", f"{file}, where it is pickled (Object arrays cannot be loaded)")
        declared = Declared(form.dtype, form.shape, partial(_read_npy, archive, file, key, form))
        if any(size < 0 for size in form.shape) or form.start + declared.nbytes != member.file_size:
            raise BrokenFileError(f"has {member.file_size - form.start} bytes for {key}, {declared}")
        return declared


def _npy_form(stream: IO[bytes]) -> _Form:
    """Reads the header at the beginning of a stream."""
    version = np.lib.format.read_magic(stream)
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in readers:  # the third one is for names of fields
        raise ValueError(f"unknown version {version}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Python 2's integers, and of old names of types
        shape, is_fortran, dtype = readers[version](stream)
    if any(abs(size) >= 1 << 63 for size in shape):
        raise ValueError("an axis longer than any address")
    return _Form(dtype, tuple(map(int, shape)), bool(is_fortran), stream.tell())


def _read_npy(archive: zipfile.ZipFile, file: Path, key: str, form: _Form) -> Array:
    with parsing(file, f"an .npz with a readable {key}"), archive.open(f"{key}.npy") as stream:
        read_exactly(stream, form.start)
        array = np.empty(form.shape[::-1] if form.is_fortran else form.shape, form.dtype)
        fill(stream, _bytes_of(array))  # to the end, where zipfile compares the checksum
        return array.T if form.is_fortran else array


def _bytes_of(array: Array) -> memoryview:
    return array.reshape(-1).view(np.uint8).data


def declared_idx(folder: Path) -> Source:
    """Returns the arrays that the four idx files in a folder declare, each plain or .gz.

    Raises:
        ConfigError: at `path`, for a file that is missing or not an idx file.
    """
    return Source({key: _declared_idx(folder, name) for key, name in IDX.items()})


def _declared_idx(folder: Path, name: str) -> Declared:
    file = next((file for file in (folder / name, folder / f"{name}.gz") if file.exists()), None)
    if file is None:
        raise ConfigError("path", f"a folder with {name} or {name}.gz", f"{folder}, which has neither")
    axes = 3 if "idx3" in name else 1
    form = f"an idx file of unsigned bytes along {axes} {'axes' if axes > 1 else 'axis'}"
    with parsing(file, form), open_regular(file, form) as raw:
        stream = _plain(file, raw)
        start = stream.read(4)
        if start != bytes((0, 0, 8, axes)):
            raise BrokenFileError(f"begins with {start.hex(' ') or 'nothing'}")
        shape = tuple(np.frombuffer(read_exactly(stream, 4 * axes), ">u4").tolist())
        return Declared(np.dtype(np.uint8), shape, partial(_read_idx, file, shape))


def _read_idx(file: Path, shape: tuple[int, ...]) -> Array:
    form = f"an idx file of {math.prod(shape)} bytes, as its header counts"
    with parsing(file, form), open_regular(file, form) as raw:
        size = file.stat().st_size
        if math.prod(shape) > size * (_DEFLATE if file.suffix == ".gz" else 1):
            raise BrokenFileError(f"has {size} bytes")
        stream = _plain(file, raw)
        read_exactly(stream, 4 + 4 * len(shape))
        array = np.empty(shape, np.uint8)
        fill(stream, _bytes_of(array))
        return array


def _plain(file: Path, raw: IO[bytes]) -> IO[bytes]:
    return archives.inflated(raw) if file.suffix == ".gz" else raw


def declared_cifar(place: Path, accepts: str, records: int) -> Source:
    """Returns the arrays of CIFAR-10's six binary files, in a folder or a .tar.gz.

    Args:
        place: the folder or the archive.
        accepts: what is accepted there, for the error.
        records: the number of images in each file.
    """

    @cache
    def rows() -> Array:
        """Returns uint8 (6, records, 3073): in each record a label, then the red, the green and the blue plane."""
        return _cifar_rows(place, accepts, records)

    def images(part: slice) -> Array:
        return rows()[part, :, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)

    def labels(part: slice) -> Array:
        return rows()[part, :, 0].reshape(-1)

    arrays: dict[str, Declared] = {}
    for split, part, files in (("train", slice(5), 5), ("test", slice(5, 6), 1)):
        count, dtype = files * records, np.dtype(np.uint8)
        arrays[f"x_{split}"] = Declared(dtype, (count, 32, 32, 3), partial(images, part))
        arrays[f"y_{split}"] = Declared(dtype, (count,), partial(labels, part))
    return Source(arrays)


def _cifar_rows(place: Path, accepts: str, records: int) -> Array:
    rows = np.empty((len(BATCHES), records, _RECORD), np.uint8)
    found = (_fill_from_folder if place.is_dir() else _fill_from_tar)(rows, place)
    missing = [name for name in BATCHES if name not in found]
    if missing and found & {name.removesuffix(".bin") for name in BATCHES}:
        raise ConfigError("path", f"{accepts} (pickles are never loaded)", f"{place}, the version for Python")
    if missing:
        raise ConfigError("path", accepts, f"{place}, without {', '.join(missing)}")
    return rows


def _fill_from_folder(rows: Array, folder: Path) -> set[str]:
    """Reads those of the six files that are in the folder into their rows. Returns the names found, the pickles' too."""
    names = {name for batch in BATCHES for name in (batch, batch.removesuffix(".bin")) if (folder / name).exists()}
    for content, name in zip(rows, BATCHES, strict=True):
        if name in names:
            with parsing(folder / name, _records(rows)), open_regular(folder / name, _records(rows)) as stream:
                fill(stream, _bytes_of(content))
    return names


def _fill_from_tar(rows: Array, file: Path) -> set[str]:
    """Reads those of the six files that are in an archive into their rows. Returns the names of all members."""
    names, read = set[str](), set[str]()
    form = f"a .tar.gz with {', '.join(BATCHES)}"
    with parsing(file, form), open_regular(file, form) as raw:
        for member in archives.tar_members(raw, rows.nbytes):
            names.add(member.name)
            if member.name in BATCHES:
                with parsing(file / member.name, _records(rows)):
                    if not member.is_file:
                        raise BrokenFileError("is a link, or no file at all")
                    if member.name in read:
                        raise BrokenFileError("is in the archive twice")
                    if member.size != rows[0].nbytes:
                        raise BrokenFileError(f"has {member.size} bytes")
                    read.add(member.name)
                    content = _bytes_of(rows[BATCHES.index(member.name)])
                    for start in range(0, len(content), PIECE):
                        piece = content[start : start + PIECE]
                        piece[:] = read_exactly(member.stream, len(piece))
    return names


def _records(rows: Array) -> str:
    return f"{rows.shape[1]} records of {_RECORD} bytes"
