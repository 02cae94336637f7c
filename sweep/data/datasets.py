"""Data sets: read or downloaded, validated, split deterministically, and returned as numpy arrays.

Scope: images as uint8 NHWC with integer labels, in memory. The official test split stays as published, the validation split is
cut from the official training images, and neither depends on a run's seed. Pixels are not scaled here, pickles are never
loaded, and nothing is unpacked to disk. Downloads go to $SWEEP_DATA_DIR, or to the user's cache folder.
"""

from __future__ import annotations

import hashlib
import json
import logging
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import ClassVar

import numpy as np

from sweep.core.errors import ConfigError, require_integer, require_number
from sweep.core.types import Array, Arrays, Data
from sweep.data import archives, conversions, datafiles, download, imagechecks
from sweep.data.augment import Augment
from sweep.data.datafiles import IDX, KEYS
from sweep.data.splits import fair_order, hash_arrays, hash_fractions, read_only, taken

_log = logging.getLogger(__name__)


_TF_KERAS = "https://storage.googleapis.com/tensorflow/tf-keras-datasets/"
_MAX_GIB = 1024
_SPLIT_VERSION = 1
"""Part of every `split_hash`; incremented whenever `fair_order` or the way the splits are cut changes."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Official:
    """The arrays that splits are cut from.

    Attributes:
        arrays: `x_train`, `y_train`, `x_test` and `y_test`, C-contiguous. Images are uint8 (n, height, width, channels), labels
            int64 (n,) in [0, classes).
        classes: the number of classes.
        class_names: their names, in order; empty where they have none but their numbers.
        validation: bool (n,), the images of `x_train` in the validation split; None for the first of their `fair_order`.
        content_hash: sha256 (hex) of the arrays; empty where that is to be computed.
    """

    arrays: Arrays
    classes: int
    class_names: tuple[str, ...] = ()
    validation: Array | None = None
    content_hash: str = ""


@dataclass(frozen=True, kw_only=True)
class Dataset(ABC):
    """A data set by its parameters; a subclass supplies the official arrays. Every split keeps the order of the file.

    Args:
        validation: the fraction, in (0, 1), of the n official training images in the validation split: the first
            round(validation · n) of their `fair_order`.
        limit: the number of the remaining images to train on: the first of their own `fair_order`; None for all.
        augment: the augmentation of training images; `load` does not apply it.

    Raises:
        ConfigError: for a value outside these ranges.
    """

    name: ClassVar[str]

    validation: float
    limit: int | None
    augment: Augment

    def __post_init__(self) -> None:
        require_number("validation", self.validation, 0, 1, open_low=True, open_high=True)
        if self.limit is not None:
            require_integer("limit", self.limit, 1, 10**9)
        if not isinstance(self.augment, Augment):
            raise ConfigError("augment", "the keys shift and flip", self.augment)

    def load(self) -> Data:
        """Loads the three splits, once a process; every array is read-only.

        Raises:
            ConfigError: at `path` for a file that cannot be downloaded, read or used; at `validation` for an empty split; at
                `limit` for more images than there are; at `augment.shift` for a shift of the image's size or more.
        """
        data = _load(replace(self, augment=Augment(shift=0, flip=False)))
        require_integer("augment.shift", self.augment.shift, 0, min(data.input_shape[:2]) - 1)
        return data

    @abstractmethod
    def official(self) -> Official:
        """Reads the official arrays."""


@dataclass(frozen=True, kw_only=True)
class Digits(Dataset):
    """1,797 handwritten digits, 8×8, greyscale, in 10 classes; they come with scikit-learn.

    Pixel values v in 0 to 16 become round(v · 255 / 16). The first 1,437 images of the file are the official training images,
    the last 360 the test split, by other writers.
    """

    name: ClassVar[str] = "digits"

    def official(self) -> Official:
        """The arrays, and 10 classes."""
        from sklearn.datasets import load_digits

        digits = load_digits()
        images, labels = np.rint(digits.images[..., None] * (255 / 16)).astype(np.uint8), digits.target.astype(np.int64)
        arrays = zip(KEYS, (images[:-360], labels[:-360], images[-360:], labels[-360:]), strict=True)
        return Official(arrays=dict(arrays), classes=10, class_names=tuple("0123456789"))


@dataclass(frozen=True, kw_only=True)
class _FileDataset(Dataset):
    """A data set that is read from files.

    Args:
        path: the file or folder; None where the user names none.
        max_gib: the most memory of the arrays, in GiB, in (0, 1024]. Files whose headers declare more are not read.
    """

    accepts: ClassVar[str]
    lenient: ClassVar[bool] = False
    """Whether images may be floats, and labels one-hot."""

    path: str | None
    max_gib: float = field(default=4, compare=False)  # it does not change the data

    def __post_init__(self) -> None:
        super().__post_init__()
        if type(self.path) not in (str, type(None)) or self.path == "":
            raise ConfigError("path", self.accepts, self.path)
        require_number("max_gib", self.max_gib, 0, _MAX_GIB, open_low=True)

    def _read(
        self, place: Path, shape: tuple[int, int, int] | None, classes: int | None, channels: int | None = None
    ) -> Official:
        """Reads and validates the official arrays at a path. Suspicious arrays of the user's own cause warnings in the log.

        Args:
            place: the path as the user wrote it.
            shape: the required (height, width, channels); None for the shape of x_train.
            classes: the number of classes; None for the number of distinct labels in y_train.
            channels: the number of channels that the user states; None to infer it.
        """
        place = archives.resolve_path(place, self.accepts)
        with datafiles.parse_errors(place, self.accepts), self._open(place) as source:
            imagechecks.require_layout(source, place, shape, channels, lenient=self.lenient)
            imagechecks.require_memory(source, place, self.max_gib)
            arrays, done = _converted({key: array.read() for key, array in source.arrays.items()}, place)
            arrays, classes = imagechecks.normalize(arrays, place, classes)
        for conversion in done:
            _log.warning("%s: %s", place, conversion)
        if self.path is not None:
            for suspicion in imagechecks.suspicions(arrays, classes, source.unread, channels):
                _log.warning("%s: %s", place, suspicion)
        return Official(arrays=arrays, classes=classes)

    @abstractmethod
    def _open(self, place: Path) -> AbstractContextManager[datafiles.ArraySource]:
        """Opens the arrays of a regular file or a folder; may raise any exception for a malformed file."""


@dataclass(frozen=True, kw_only=True)
class _PublishedDataset(_FileDataset):
    """A data set of 10 classes that is downloaded from its publisher, or read from the user's own path.

    Args:
        path: an .npz with uint8 images x_train, x_test and integer labels y_train, y_test, or the publisher's own files;
            None downloads them.
    """

    base: ClassVar[str]
    files: ClassVar[Mapping[str, str]]
    """File name below `base` to hash, as `algorithm:hex`."""
    class_names: ClassVar[tuple[str, ...]] = tuple("0123456789")
    shape: ClassVar[tuple[int, int, int]]

    def official(self) -> Official:
        """The arrays, downloaded or read, and 10 classes."""
        place = download.fetch(self.name, self.base, self.files) if self.path is None else Path(self.path)
        return replace(self._read(place, self.shape, 10), class_names=self.class_names)

    def _open(self, place: Path) -> AbstractContextManager[datafiles.ArraySource]:
        if place.suffix.lower() == ".npz" and not place.is_dir():
            return datafiles.open_npz(place)
        return nullcontext(self._declared(place))

    @abstractmethod
    def _declared(self, place: Path) -> datafiles.ArraySource:
        """Opens the files in the publisher's own format."""


@dataclass(frozen=True, kw_only=True)
class _IdxDataset(_PublishedDataset):
    """28×28 greyscale images in idx files, the format of MNIST (LeCun, Cortes and Burges)."""

    shape: ClassVar[tuple[int, int, int]] = (28, 28, 1)
    accepts: ClassVar[str] = f"an .npz, or a folder with {', '.join(IDX.values())} (each as it is or .gz)"

    def _declared(self, place: Path) -> datafiles.ArraySource:
        if not place.is_dir():
            raise ConfigError("path", self.accepts, f"{place}, which is neither")
        return datafiles.open_idx(place)


@dataclass(frozen=True, kw_only=True)
class Mnist(_IdxDataset):
    """MNIST: 60,000 and 10,000 handwritten digits."""

    name: ClassVar[str] = "mnist"
    base: ClassVar[str] = _TF_KERAS
    files: ClassVar[Mapping[str, str]] = {
        "mnist.npz": "sha256:731c5ac602752760c8e48fbffcf8c3b850d9dc2a2aedcf2cc48468fc17b673d1"
    }


@dataclass(frozen=True, kw_only=True)
class FashionMnist(_IdxDataset):
    """Fashion-MNIST: 60,000 and 10,000 articles of clothing."""

    name: ClassVar[str] = "fashion_mnist"
    base: ClassVar[str] = _TF_KERAS
    files: ClassVar[Mapping[str, str]] = {
        "train-images-idx3-ubyte.gz": "md5:8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        "train-labels-idx1-ubyte.gz": "md5:25c81989df183df01b3e8a0aad5dffbe",
        "t10k-images-idx3-ubyte.gz": "md5:bef4ecab320f06d8554ea6380940ec79",
        "t10k-labels-idx1-ubyte.gz": "md5:bb300cfdad3c16e7a12a480ee83cd310",
    }
    class_names: ClassVar[tuple[str, ...]] = (
        "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Kmnist(_IdxDataset):
    """Kuzushiji-MNIST: 60,000 and 10,000 handwritten Japanese characters (Clanuwat et al. 2018, arXiv 1812.01718)."""

    name: ClassVar[str] = "kmnist"
    base: ClassVar[str] = "http://codh.rois.ac.jp/kmnist/dataset/kmnist/"
    files: ClassVar[Mapping[str, str]] = {
        "train-images-idx3-ubyte.gz": "md5:bdb82020997e1d708af4cf47b453dcf7",
        "train-labels-idx1-ubyte.gz": "md5:e144d726b3acfaa3e44228e80efcd344",
        "t10k-images-idx3-ubyte.gz": "md5:5c965bf0a639b31b8f53240b1b52f4d7",
        "t10k-labels-idx1-ubyte.gz": "md5:7320c461ea6c1c855c0b718fb2a4b134",
    }
    class_names: ClassVar[tuple[str, ...]] = ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo")


@dataclass(frozen=True, kw_only=True)
class Cifar10(_PublishedDataset):
    """CIFAR-10: 50,000 and 10,000 colour photographs, 32×32."""

    name: ClassVar[str] = "cifar10"
    base: ClassVar[str] = "https://www.cs.toronto.edu/~kriz/"
    files: ClassVar[Mapping[str, str]] = {"cifar-10-binary.tar.gz": "md5:c32a1d4ab5d03f1284b67883e8d87530"}
    shape: ClassVar[tuple[int, int, int]] = (32, 32, 3)
    class_names: ClassVar[tuple[str, ...]] = (
        "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
    )  # fmt: skip
    accepts: ClassVar[str] = "an .npz, cifar-10-binary.tar.gz, or the folder of .bin files unpacked from it"
    records: ClassVar[int] = 10_000
    """Images in each of the six files."""

    def _declared(self, place: Path) -> datafiles.ArraySource:
        if not place.is_dir() and not place.name.lower().endswith((".tar.gz", ".tgz")):
            raise ConfigError("path", self.accepts, f"{place}, which is neither")
        return datafiles.open_cifar(place, self.accepts, self.records)


@dataclass(frozen=True, kw_only=True)
class OwnArrays(_FileDataset):
    """The user's own images, of any size and number of channels, in any number of classes.

    Without x_test and y_test the test split is cut off by the hash of each image's pixels, so new images never move others.

    Args:
        path: an .npz with images x_train, x_test (n, height, width) or (n, height, width, channels), which are uint8 or floats
            (see `conversions.pixels`), and labels y_train, y_test that number the classes from 0 or are one-hot.
        test: the fraction, in (0, 1), of the images in the test split, where none is given.
        channels: the number of channels, the length of the last axis; None to infer it. It has to be stated for a shape
            that looks like another layout, as (n, 3, 32, 32) does.
    """

    name: ClassVar[str] = "arrays"
    accepts: ClassVar[str] = f"an .npz with the arrays {', '.join(KEYS)}"
    lenient: ClassVar[bool] = True

    channels: int | None = None
    test: float = 0.15

    def __post_init__(self) -> None:
        super().__post_init__()
        require_number("test", self.test, 0, 1, open_low=True, open_high=True)
        if self.channels is not None:
            require_integer("channels", self.channels, 1)

    def official(self) -> Official:
        """The arrays of the file, and the number of distinct labels in y_train."""
        if self.path is None:
            raise ConfigError("path", self.accepts, "null")
        official = self._read(Path(self.path), shape=None, classes=None, channels=self.channels)
        if "x_test" in official.arrays:
            return official
        images, labels = official.arrays["x_train"], official.arrays["y_train"]
        chosen = hash_fractions(images) < self.test
        for key, part in (("train", ~chosen), ("test", chosen)):
            if missing := np.setdiff1d(np.arange(official.classes), labels[part]).tolist():
                expected = f"a fraction that leaves images of every class for the {key} split, or more images"
                received = f"{self.test}, which leaves none of class {datafiles.summarize(list(map(str, missing)))}"
                raise ConfigError("test", expected, received)
        _log.warning("%s: it has no x_test: %d of %d images are the test split", self.path, chosen.sum(), len(chosen))
        arrays = {"x_train": images[~chosen], "y_train": labels[~chosen], "x_test": images[chosen], "y_test": labels[chosen]}
        return replace(official, arrays=arrays)

    def _open(self, place: Path) -> AbstractContextManager[datafiles.ArraySource]:
        return datafiles.open_npz(place, keys=KEYS[:2])


def _converted(arrays: Arrays, place: Path) -> tuple[Arrays, list[str]]:
    """The arrays with uint8 images and integer labels, and what was converted."""
    pairs = {
        key: (conversions.pixels if key.startswith("x_") else conversions.labels)(key, array, place)
        for key, array in arrays.items()
    }
    return {key: array for key, (array, _) in pairs.items()}, [done for _, done in pairs.values() if done]


PUBLISHED: tuple[type[_PublishedDataset], ...] = (Mnist, FashionMnist, Kmnist, Cifar10)
"""The data sets that are downloaded."""


@lru_cache(maxsize=2)
def _load(dataset: Dataset) -> Data:
    official = dataset.official()
    images, labels = official.arrays["x_train"], official.arrays["y_train"]
    held_out = _held_out(labels, dataset.validation) if official.validation is None else official.validation
    validation, train = np.flatnonzero(held_out), np.flatnonzero(~held_out)
    if dataset.limit is not None:
        if dataset.limit > len(train):
            raise ConfigError("limit", f"null or at most {len(train)}, the training images there are", dataset.limit)
        train = train[np.sort(fair_order(labels[train])[: dataset.limit])]
    if absent := np.setdiff1d(labels, labels[train]).tolist():
        missing = datafiles.summarize(list(map(str, absent)))
        _log.warning("dataset.validation and dataset.limit leave no image of class %s to train on", missing)
    content_hash = official.content_hash or hash_arrays(official.arrays)
    split = json.dumps([_SPLIT_VERSION, content_hash, dataset.validation, dataset.limit])
    return Data(
        name=dataset.name,
        classes=official.classes,
        train=read_only(taken(images, train), labels[train]),
        validation=read_only(taken(images, validation), labels[validation]),
        test=read_only(official.arrays["x_test"], official.arrays["y_test"]),
        content_hash=content_hash,
        split_hash=hashlib.sha256(split.encode()).hexdigest(),
        class_names=official.class_names,
    )


def _held_out(labels: Array, fraction: float) -> Array:
    """Bool (n,): the first of the fair order, a fraction of all.

    Raises:
        ConfigError: at `validation`, for an empty split.
    """
    count = round(fraction * len(labels))
    if not 0 < count < len(labels):
        expected = f"a fraction that leaves {len(labels)} training images some on either side"
        raise ConfigError("validation", expected, fraction)
    chosen = np.zeros(len(labels), bool)
    chosen[fair_order(labels)[:count]] = True
    return chosen
