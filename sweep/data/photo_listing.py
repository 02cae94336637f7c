"""Lists a folder of photos: a folder for each class, and above them `train`, `val` and `test` where the splits are given."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from sweep.core.errors import ConfigError
from sweep.data.datafiles import summarize

ACCEPTS = "a folder with a folder of photos for each class"
SPLITS: Mapping[str, str] = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
"""Name of a folder, in lower case, to the split that is in it."""
_CLUTTER = ("thumbs.db", "desktop.ini")  # what Windows leaves; hidden files are what others leave


@dataclass(frozen=True)
class Photo:
    """A file of the listing.

    Attributes:
        path: below the folder.
        label: the number of its class.
        split: `train`, `val` or `test`; empty where the folder has no splits.
    """

    path: Path
    label: int
    split: str


@dataclass(frozen=True)
class Listing:
    """The photos of a folder.

    Attributes:
        classes: the names of the classes, sorted.
        photos: sorted by path.
        splits: those that the folder has; empty where it has none.
    """

    classes: tuple[str, ...]
    photos: tuple[Photo, ...]
    splits: frozenset[str]


def listed(folder: Path) -> Listing:
    """Lists the photos of a folder. No file is opened.

    The folder of a class may have folders of its own. Hidden files are left out.

    Raises:
        ConfigError: at `path`, for a folder with fewer than two classes, a class without photos, files beside the folders of
            the classes, or splits that name different classes.
    """
    try:
        parts = _splits(folder)
        classes = {split: _folders(part) for split, part in parts.items()}
        names = sorted(classes.get("train", classes.get("", {})))
        if len(names) < 2:
            raise ConfigError("path", f"{ACCEPTS}, of at least two classes", f"{folder}, with {summarize(names)}")
        photos = []
        for split, found in classes.items():
            if unknown := sorted(set(found) - set(names)):
                expected = f"folders of the classes of {parts['train'].name}/ alone in {parts[split].name}/"
                raise ConfigError("path", expected, f"{folder}, with {parts[split].name}/{summarize(unknown)}")
            for name, place in found.items():
                files = list(_files(place))
                if not files and split in ("", "train"):
                    raise ConfigError("path", f"{ACCEPTS}, none empty", f"{place}, without a file")
                photos += [Photo(file.relative_to(folder), names.index(name), split) for file in files]
    except OSError as error:
        raise ConfigError("path", f"{ACCEPTS}, all readable", f"{error.filename}: {error.strerror}") from error
    photos.sort(key=lambda photo: photo.path.parts)
    return Listing(tuple(names), tuple(photos), frozenset(parts) - {""})


def _splits(folder: Path) -> dict[str, Path]:
    """Split to its folder; the folder itself under an empty name where it has no splits."""
    if not folder.is_dir():
        raise ConfigError("path", ACCEPTS, f"{folder}, which is {'a file' if folder.exists() else 'not there'}")
    found = _folders(folder)
    if "train" not in map(str.lower, found) or not all(name.lower() in SPLITS for name in found):
        return {"": folder}
    splits: dict[str, Path] = {}
    for name, place in found.items():
        split = SPLITS[name.lower()]
        if split in splits:
            raise ConfigError("path", f"one folder of the split {split}", f"{folder}, with {splits[split].name}/ and {name}/")
        splits[split] = place
    return splits


def _folders(place: Path) -> dict[str, Path]:
    """Name to folder, of the folders in a folder that holds no files."""
    entries = [entry for entry in sorted(place.iterdir()) if not _is_clutter(entry.name)]
    if files := [entry.name for entry in entries if not entry.is_dir()]:
        raise ConfigError("path", f"{ACCEPTS}, and no files beside these folders", f"{place}, with {summarize(files)}")
    return {entry.name: entry for entry in entries}


def _files(place: Path) -> Iterator[Path]:
    """The files in a folder and below."""
    for folder, folders, files in os.walk(place, onerror=_raised):
        folders[:] = sorted(name for name in folders if not _is_clutter(name))
        yield from (Path(folder, name) for name in sorted(files) if not _is_clutter(name))


def _raised(error: OSError) -> None:
    raise error


def _is_clutter(name: str) -> bool:
    return name.startswith(".") or name.lower() in _CLUTTER
