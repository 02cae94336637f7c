"""Photos as one memory-mapped array: read once, kept in the user's cache folder under a hash of the files and of their shape.

An array has its photos in an order that every choice of fractions cuts into contiguous splits: by the first eight bytes of the
SHA-256 of the file, within the splits that the folder gives. Photos with the same pixels lie together, at the first of theirs.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np

from sweep.core import files, jsonfiles, locks
from sweep.core.errors import ConfigError
from sweep.core.types import Array
from sweep.data import photos
from sweep.data.imagechecks import image_hashes
from sweep.data.photo_listing import Listing
from sweep.data.splits import hash_arrays

_VERSION = 1  # of the format, and of the code that makes the pixels
_CHUNK = 1024  # images that are copied at once
_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


@dataclass(frozen=True)
class Fact:
    """What is known of a file, as long as its size and time of change stay.

    Attributes:
        size: in bytes.
        changed: the time of its last change, in ns.
        sha256: of its bytes (hex).
        height: in pixels; 0 for a file that is no photo.
        width: in pixels.
        is_grey: whether it has no colours.
        fault: why it is no photo; empty for one.
    """

    size: int
    changed: int
    sha256: str
    height: int = 0
    width: int = 0
    is_grey: bool = False
    fault: str = ""


@dataclass(frozen=True, eq=False)
class Photos:
    """The photos that could be read, in the order of the module's docstring.

    Attributes:
        images: uint8 (n, height, width, channels), memory-mapped.
        labels: int64 (n,).
        words: uint64 (n,): of the order, for equal pixels the same.
        pixels: uint64 (n,): a hash of each photo's pixels.
        splits: str (n,): `train`, `val` or `test`, or empty.
        paths: below the folder.
        broken: path below the folder to why it could not be read.
        digest: SHA-256 (hex) of images and labels.
    """

    images: Array
    labels: Array
    words: Array
    pixels: Array
    splits: Array
    paths: tuple[str, ...]
    broken: dict[str, str]
    digest: str


def facts(folder: Path, listing: Listing, cache: Path) -> list[Fact]:
    """What is known of each photo of the listing, in its order. Files that did not change since the last time are not read."""
    index = cache / f"{_root(folder)}.index.json"
    known = _read_index(index)
    paths = [photo.path for photo in listing.photos]
    status = [(folder / path).stat() for path in paths]
    result: dict[Path, Fact] = {}
    for path, stat in zip(paths, status, strict=True):
        fact = known.get(str(path))
        if fact is not None and (fact.size, fact.changed) == (stat.st_size, stat.st_mtime_ns):
            result[path] = fact
    pending = [path for path in paths if path not in result]
    with photos.strict():
        found = _shown("hashing", _fact, [folder / path for path in pending])
        result |= dict(zip(pending, found, strict=True))
    if pending:
        files.write_json(index, {str(path): list(vars(result[path]).values()) for path in paths})
    return [result[path] for path in paths]


def read(folder: Path, listing: Listing, known: Sequence[Fact], shape: photos.Shape, cache: Path) -> Photos:
    """The photos of a listing at one shape, from the cache where they are there.

    Args:
        folder: what was listed.
        listing: its photos.
        known: as `facts`.
        shape: what every photo becomes.
        cache: the folder of arrays.

    Raises:
        ConfigError: at `path`, for a folder that changes while it is read.
        OSError: for a cache that cannot be written.
    """
    import PIL

    described = [
        [str(photo.path), photo.split, photo.label, fact.sha256, fact.fault]
        for photo, fact in zip(listing.photos, known, strict=True)
    ]
    text = json.dumps([_VERSION, PIL.__version__, vars(shape), described])
    series = hashlib.sha256(f"{_root(folder)} {vars(shape)}".encode()).hexdigest()[:16]
    place = cache / f"{series}-{hashlib.sha256(text.encode()).hexdigest()}"
    with locks.locked(cache):
        found = _cached(place, shape)
        if found is None:
            _write(folder, listing, known, shape, place)
            found = _cached(place, shape)
            for stale in cache.glob(f"{series}-*"):  # of the folder as it was before
                if not stale.name.startswith(place.name):
                    stale.unlink()
    if found is None:
        raise ConfigError("path", "photos that stay as they are while they are read", f"{folder}, which changes")
    return found


def _root(folder: Path) -> str:
    """A short name of a folder."""
    return hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:16]


def _read_index(path: Path) -> dict[str, Fact]:
    """The index of an earlier time; nothing where it is absent or damaged, since it can be made again."""
    try:
        return {name: Fact(*row) for name, row in jsonfiles.read(path).items()}
    except (ConfigError, OSError, TypeError):
        return {}


def _fact(file: Path) -> Fact:
    stat = file.stat()
    with file.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    fact = Fact(stat.st_size, stat.st_mtime_ns, digest)
    try:
        header = photos.header(file)
    except photos.BrokenPhotoError as error:
        return replace(fact, fault=str(error))
    return replace(fact, height=header.height, width=header.width, is_grey=header.is_grey)


def _cached(place: Path, shape: photos.Shape) -> Photos | None:
    """Reads the array at a path without suffix; None where it is absent or damaged."""
    try:
        record = jsonfiles.read(place.with_suffix(".json"))
        images: Array = np.load(place.with_suffix(".npy"), mmap_mode="r")
        labels = np.array(record["labels"], np.int64)
        whole = images.dtype == np.uint8 and images.shape == (len(labels), shape.height, shape.width, shape.channels)
        if not whole or hash_arrays({"images": images, "labels": labels}) != record["digest"]:
            return None
        words, pixels = (np.array(record[name], np.uint64) for name in ("words", "pixels"))
        splits, paths = np.array(record["splits"], str), tuple(record["paths"])
        return Photos(images, labels, words, pixels, splits, paths, record["broken"], record["digest"])
    except (ConfigError, OSError, EOFError, ValueError, KeyError, TypeError):
        return None


def _write(folder: Path, listing: Listing, known: Sequence[Fact], shape: photos.Shape, place: Path) -> None:
    """Reads every photo, and writes the array and its record."""
    pairs = [pair for pair in zip(listing.photos, known, strict=True) if not pair[1].fault]
    broken = {str(photo.path): fact.fault for photo, fact in zip(listing.photos, known, strict=True) if fact.fault}
    draft, final = (place.with_name(f".{place.name}.{os.getpid()}.{part}") for part in ("draft", "part"))
    try:
        images = np.lib.format.open_memmap(
            draft, mode="w+", dtype=np.uint8, shape=(len(pairs), shape.height, shape.width, shape.channels)
        )

        def decode(number: int) -> str:
            try:
                images[number] = photos.read(folder / pairs[number][0].path, shape)
            except photos.BrokenPhotoError as error:
                return str(error)
            return ""

        with photos.strict():
            faults = list(_shown("reading", decode, range(len(pairs))))
        broken |= {str(photo.path): fault for (photo, _), fault in zip(pairs, faults, strict=True) if fault}
        whole = np.array([number for number, fault in enumerate(faults) if not fault], np.int64)
        if not len(whole):
            raise ConfigError("path", "photos that can be read", f"{folder}, without one")
        splits = np.array([pairs[number][0].split for number in whole], str)
        words = np.array([int(pairs[number][1].sha256[:16], 16) for number in whole], np.uint64)
        pixels = image_hashes(images)[whole]
        words = _shared_words(words, splits, pixels)
        order = np.lexsort((whole, words, splits))
        labels = np.array([pairs[number][0].label for number in whole[order]], np.int64)
        ordered = np.lib.format.open_memmap(final, mode="w+", dtype=np.uint8, shape=(len(whole), *images.shape[1:]))
        for start in range(0, len(whole), _CHUNK):
            ordered[start : start + _CHUNK] = images[whole[order[start : start + _CHUNK]]]
        ordered.flush()
        record = {
            "digest": hash_arrays({"images": ordered, "labels": labels}),
            "labels": labels.tolist(),
            "words": words[order].tolist(),
            "pixels": pixels[order].tolist(),
            "splits": splits[order].tolist(),
            "paths": [str(pairs[number][0].path) for number in whole[order]],
            "broken": broken,
        }
        final.replace(place.with_suffix(".npy"))
        files.write_json(place.with_suffix(".json"), record)
    finally:
        draft.unlink(missing_ok=True)
        final.unlink(missing_ok=True)


def _shared_words(words: Array, splits: Array, pixels: Array) -> Array:
    """The words, where photos of one split with equal pixels share the smallest of theirs.

    Args:
        words: uint64 (n,).
        splits: str (n,).
        pixels: uint64 (n,), a hash of the pixels.
    """
    numbers = np.stack([np.unique(values, return_inverse=True)[1] for values in (splits, pixels)])
    groups = np.unique(numbers, axis=1, return_inverse=True)[1].reshape(-1)
    smallest = np.full(len(words), np.iinfo(np.uint64).max, np.uint64)
    np.minimum.at(smallest, groups, words)
    return smallest[groups]


def _shown(what: str, work: Callable[[_Item], _Result], items: Sequence[_Item]) -> Iterator[_Result]:
    """The results of work on every core, in order, with a bar on a terminal."""
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        results: Iterable[_Result] = pool.map(work, items)
        disable = not sys.stderr.isatty() or not items
        yield from track(results, f"{what} {len(items)} photos", len(items), console=console, transient=True, disable=disable)
