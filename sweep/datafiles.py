"""Files of images and labels: .npz archives, idx files and the folder or archive of CIFAR's binaries, read as numpy arrays."""

from __future__ import annotations

import gzip
import io
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO

import numpy as np

from sweep.records import Array, Arrays, ConfigError

IDX = {
    "x_train": "train-images-idx3-ubyte",
    "y_train": "train-labels-idx1-ubyte",
    "x_test": "t10k-images-idx3-ubyte",
    "y_test": "t10k-labels-idx1-ubyte",
}
KEYS = tuple(IDX)


@contextmanager
def parsing(file: Path, form: str) -> Iterator[None]:
    """Turn whatever a parser says of bytes that it cannot read into a ConfigError at `path`."""
    try:
        yield
    except ConfigError:
        raise
    except Exception as error:  # zipfile, gzip, tarfile and numpy raise nearly anything on broken bytes
        raise ConfigError("path", f"{form}, whole and readable", f"{file} ({type(error).__name__}: {error})") from error


def read(place: Path, accepts: str, otherwise: Callable[[Path], Arrays]) -> Arrays:
    """The arrays of an .npz, or what `otherwise` reads out of another place.

    Raises:
        ConfigError: at `path`, for a place that does not exist or cannot be read.
    """
    with parsing(place, accepts):
        place = place.expanduser()
        if not place.exists():
            raise ConfigError("path", accepts, f"{place}, which does not exist")
        return read_npz(place) if place.is_file() and place.suffix == ".npz" else otherwise(place)


def read_npz(file: Path) -> Arrays:
    """The arrays KEYS of an .npz."""
    with zipfile.ZipFile(file) as archive:
        held = [name.removesuffix(".npy") for name in archive.namelist()]
        if not set(KEYS) <= set(held):
            raise ConfigError("path", f"an .npz with the arrays {', '.join(KEYS)}", f"{file} with {', '.join(held) or 'none'}")
        # Each array is read whole before it is parsed: only so does zipfile compare its checksum first.
        return {key: np.lib.format.read_array(io.BytesIO(archive.read(f"{key}.npy")), allow_pickle=False) for key in KEYS}


def read_idx(folder: Path, name: str) -> Array:
    """uint8, of the shape that the file states."""
    file = next((file for file in (folder / name, folder / f"{name}.gz") if file.is_file()), None)
    if file is None:
        raise ConfigError("path", f"a folder with {name} or {name}.gz", f"{folder}, which has neither")
    axes = 3 if "idx3" in name else 1
    with parsing(file, f"an idx file of unsigned bytes along {axes} {'axes' if axes > 1 else 'axis'}"):
        raw = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
        if raw[:4] != bytes((0, 0, 8, axes)):
            raise ValueError(f"it begins with {raw[:4].hex(' ') or 'nothing'}")
        shape = np.frombuffer(raw, ">u4", axes, offset=4)
        return np.frombuffer(raw, np.uint8, offset=4 + shape.nbytes).reshape(shape)


def members(place: Path) -> Iterator[tuple[str, IO[bytes]]]:
    """The plain files of a folder or a .tar.gz, each by its name without folders and open until the next one is asked for."""
    if place.is_dir():
        for file in sorted(place.iterdir()):
            if file.is_file():
                with file.open("rb") as stream:
                    yield file.name, stream
        return
    with gzip.open(place) as unzipped:
        with tarfile.open(fileobj=unzipped, mode="r|") as archive:
            for member in archive:
                if content := archive.extractfile(member):  # refuses links, and is None for a folder
                    yield PurePosixPath(member.name).name, content
        while unzipped.read(1 << 20):  # gzip compares its checksum at the very end, which tarfile does not read up to
            pass
