"""A folder of photos as a data set: `dataset=folder dataset.path=photos`."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from sweep.core.errors import ConfigError, require_integer, require_number
from sweep.data import download, photo_store
from sweep.data.datafiles import summarize
from sweep.data.datasets import Dataset, Official
from sweep.data.photo_listing import ACCEPTS, Listing, listed
from sweep.data.photos import Shape
from sweep.data.splits import taken

_log = logging.getLogger(__name__)
_GIB = 1 << 30
_NAMED = 6  # files that a message names


@dataclass(frozen=True, kw_only=True)
class Folder(Dataset):
    """The user's own photos: a folder for each class, and above them train/, val/ and test/ where the splits are given.

    A split that is not given is cut off by the hash of each file, so a new photo never moves another. Photos with the same
    pixels stay together. The arrays are memory-mapped from the user's cache folder.

    Args:
        path: the folder.
        size: (height, width) in pixels of what every photo becomes, or one number for both; None for the size of the photos,
            if all have the same.
        fit: `crop`, `pad` or `stretch` (see `photos.Shape`).
        channels: 1 or 3; None for 1 where every photo is grey, and 3 otherwise.
        test: the fraction, in (0, 1), of the photos in the test split, where none is given.
        validation: the fraction, in (0, 1), of the others in the validation split, where none is given.
        max_broken: how many files may be no photos that can be read; they are named and left out.
        max_gib: the most memory of the arrays, in GiB, in (0, 1024].
    """

    name: ClassVar[str] = "folder"

    path: str | None
    size: int | tuple[int, int] | None
    fit: str
    channels: int | None
    test: float
    max_broken: int
    max_gib: float

    def __post_init__(self) -> None:
        super().__post_init__()
        if type(self.path) not in (str, type(None)) or self.path == "":
            raise ConfigError("path", ACCEPTS, self.path)
        require_number("test", self.test, 0, 1, open_low=True, open_high=True)
        require_integer("max_broken", self.max_broken, 0, 10**9)
        require_number("max_gib", self.max_gib, 0, 1024, open_low=True)
        if isinstance(self.size, tuple) and len(self.size) != 2:
            raise ConfigError("size", "[height, width] in pixels, one number for both, or null", list(self.size))
        self._shape(self._sides or (1, 1), self.channels or 1)  # refuses what no photo can become

    def official(self) -> Official:
        """The photos, in the order of `photo_store`."""
        if self.path is None:
            raise ConfigError("path", ACCEPTS, "null")
        folder = Path(self.path).expanduser()
        listing = listed(folder)
        cache = download.folder() / "photos"
        try:
            cache.mkdir(parents=True, exist_ok=True)
            facts = photo_store.facts(folder, listing, cache)
            self._require_few_broken(
                folder, {str(photo.path): fact.fault for photo, fact in zip(listing.photos, facts, strict=True) if fact.fault}
            )
            shape = self._chosen_shape(folder, [fact for fact in facts if not fact.fault])
            self._require_memory(len(facts), shape)
            photos = photo_store.read(folder, listing, facts, shape, cache)
        except OSError as error:
            place = f"{cache} to have room for the photos (SWEEP_DATA_DIR=FOLDER is another place)"
            raise ConfigError("path", f"{ACCEPTS}, all readable, and {place}", f"{error.filename}: {error.strerror}") from error
        self._require_few_broken(folder, photos.broken)
        for path, fault in sorted(photos.broken.items()):
            _log.warning("%s is left out: it %s", folder / path, fault)
        _warn_of_duplicates(folder, photos)
        return self._cut(folder, listing, photos)

    @property
    def _sides(self) -> tuple[int, int] | None:
        return (self.size, self.size) if isinstance(self.size, int) else self.size

    def _shape(self, sides: tuple[int, int], channels: int) -> Shape:
        return Shape(height=sides[0], width=sides[1], channels=channels, fit=self.fit)

    def _require_few_broken(self, folder: Path, broken: dict[str, str]) -> None:
        """Refuses more files than allowed that are no photos.

        Raises:
            ConfigError: naming them.
        """
        if len(broken) <= self.max_broken:
            return
        first = [f"{folder / path}, which {fault}" for path, fault in sorted(broken.items())[:_NAMED]]
        more = f"; and {len(broken) - _NAMED} more" if len(broken) > _NAMED else ""
        expected = f"JPEG, PNG, BMP, GIF and WebP images alone (dataset.max_broken={len(broken)} leaves out the others)"
        raise ConfigError("path", expected, "; ".join(first) + more)

    def _chosen_shape(self, folder: Path, facts: Sequence[photo_store.Fact]) -> Shape:
        """What every photo becomes.

        Raises:
            ConfigError: at `size`, where the user has to say it.
        """
        if not facts:
            raise ConfigError("path", ACCEPTS, f"{folder}, without a photo")
        sides = self._sides
        if sides is None:
            sizes = Counter((fact.height, fact.width) for fact in facts)
            if len(sizes) > 1:
                (height, width), count = sizes.most_common(1)[0]
                received = f"null, for photos of {len(sizes)} sizes: {count} of {len(facts)} have {height}×{width}"
                raise ConfigError("size", "[height, width] in pixels", received)
            sides = next(iter(sizes))
        return self._shape(sides, self.channels or (1 if all(fact.is_grey for fact in facts) else 3))

    def _require_memory(self, count: int, shape: Shape) -> None:
        needed = count * shape.height * shape.width * shape.channels / _GIB
        if needed > self.max_gib:
            described = f"at least {needed:.2g}, the GiB of {count} photos of {shape.height}×{shape.width}×{shape.channels}"
            raise ConfigError("max_gib", described, self.max_gib)

    def _cut(self, folder: Path, listing: Listing, photos: photo_store.Photos) -> Official:
        """The splits: those that are given, and parts of the training photos for the others.

        Raises:
            ConfigError: at `test` or `validation`, for a split without a photo.
        """
        fraction = photos.words / 2.0**64
        split = np.where(photos.splits == "", "train", photos.splits)
        if "test" not in listing.splits:
            split[(split == "train") & (fraction < self.test)] = "test"
            fraction = (fraction - self.test) / (1 - self.test)  # of the others
        if "val" not in listing.splits:
            split[(split == "train") & (fraction < self.validation)] = "val"
        for name, key in (("train", "test"), ("val", "validation"), ("test", "test")):
            missing = np.setdiff1d(np.arange(len(listing.classes)), photos.labels[split == name])
            classes = summarize([listing.classes[number] for number in missing])
            if name in listing.splits and name != "train" and len(missing) == len(listing.classes):
                raise ConfigError("path", f"photos in its {name}/", f"{folder}, without one")
            if len(missing) and name not in listing.splits:
                expected = f"a fraction that leaves photos of every class for {_PURPOSES[name]}, or more photos"
                raise ConfigError(key, expected, f"{getattr(self, key)}, which leaves none of class {classes}")
            if len(missing):
                _log.warning("%s: its %s/ has no photo of class %s", folder, name, classes)
        learned = split != "test"
        return Official(
            arrays={
                "x_train": taken(photos.images, np.flatnonzero(learned)),
                "y_train": photos.labels[learned],
                "x_test": taken(photos.images, np.flatnonzero(~learned)),
                "y_test": photos.labels[~learned],
            },
            classes=len(listing.classes),
            class_names=listing.classes,
            validation=(split == "val")[learned],
            content_hash=photos.digest,
        )


_PURPOSES = {"train": "training", "val": "the validation split", "test": "the test split"}


def _warn_of_duplicates(folder: Path, photos: photo_store.Photos) -> None:
    """Names photos of different classes, or of different splits of the user's, that have the same pixels."""
    _, groups, counts = np.unique(photos.pixels, return_inverse=True, return_counts=True)
    if len(counts) == 1 or counts.max(initial=0) < 2:
        return
    first = {group: number for number, group in reversed(list(enumerate(groups.tolist())))}
    others = [(number, first[group]) for number, group in enumerate(groups.tolist()) if first[group] != number]
    same = f"{len(others)} photos have the pixels of another"
    _log.warning("%s: %s; those of one split stay together when it is cut", folder, same)
    for what, values in (("class", photos.labels), ("split", photos.splits)):
        pairs = [(photos.paths[a], photos.paths[b]) for a, b in others if values[a] != values[b]]
        if pairs:
            shown = summarize([" and ".join(pair) for pair in sorted(map(sorted, pairs))])
            _log.warning("%s: the same pixels are in more than one %s: %s", folder, what, shown)
