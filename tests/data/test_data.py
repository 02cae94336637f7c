"""Data sets: what is read equals what was written, splits are fair and disjoint, and every bad file is one clear error."""

from __future__ import annotations

import gzip
import hashlib
import http.server
import io
import os
import pickle
import socket
import subprocess
import sys
import tarfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sweep.core.errors import ConfigError
from sweep.core.types import Array, Data
from sweep.data import datasets, download
from sweep.data.augment import Augment
from sweep.data.datasets import Cifar10, Dataset, Digits, FashionMnist, Kmnist, Mnist, OwnArrays
from sweep.data.splits import fair_order

STILL = Augment(shift=0, flip=False)
CONF = Path(__file__).resolve().parents[2] / "conf" / "dataset"
IDX = {
    "x_train": "train-images-idx3-ubyte",
    "y_train": "train-labels-idx1-ubyte",
    "x_test": "t10k-images-idx3-ubyte",
    "y_test": "t10k-labels-idx1-ubyte",
}
BATCHES = [*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin"]


class SmallCifar10(Cifar10):
    """CIFAR-10 with four images a file."""

    records: ClassVar[int] = 4


@pytest.fixture(autouse=True)
def forget_loaded() -> None:
    datasets._load.cache_clear()


def make(shape: tuple[int, ...], train: int = 20, test: int = 4, seed: int = 0) -> dict[str, Array]:
    """Random images, and labels that go round all ten classes."""
    random = np.random.default_rng(seed)
    return {
        "x_train": random.integers(0, 256, (train, *shape), np.uint8),
        "y_train": np.arange(train, dtype=np.uint8) % 10,
        "x_test": random.integers(0, 256, (test, *shape), np.uint8),
        "y_test": np.arange(test, dtype=np.uint8) % 10,
    }


def save(path: Path, arrays: Mapping[str, Array]) -> Path:
    np.savez_compressed(path, **arrays)  # type: ignore[arg-type]
    return path


def idx_bytes(array: Array) -> bytes:
    """The idx format, byte by byte from its description."""
    header = bytes([0, 0, 8, array.ndim]) + b"".join(int(size).to_bytes(4, "big") for size in array.shape)
    return header + bytes(array.ravel().tolist())


def write_idx(folder: Path, arrays: Mapping[str, Array], *, zipped: bool) -> Path:
    folder.mkdir(exist_ok=True)
    for key, name in IDX.items():
        raw = idx_bytes(arrays[key])
        (folder / f"{name}{'.gz' * zipped}").write_bytes(gzip.compress(raw) if zipped else raw)
    return folder


def cifar_bytes(arrays: Mapping[str, Array]) -> dict[str, bytes]:
    """CIFAR's records, image by image: the label, then the red, the green and the blue plane."""

    def records(images: Array, labels: Array) -> bytes:
        return b"".join(
            bytes([int(label)]) + b"".join(image[:, :, colour].tobytes() for colour in range(3))
            for image, label in zip(images, labels, strict=True)
        )

    starts = range(0, 20, 4)
    train = [records(arrays["x_train"][start : start + 4], arrays["y_train"][start : start + 4]) for start in starts]
    return dict(zip(BATCHES, [*train, records(arrays["x_test"], arrays["y_test"])], strict=True))


def write_tar(path: Path, files: Mapping[str, bytes], folder: str = "cifar-10-batches-bin") -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, raw in files.items():
            member = tarfile.TarInfo(f"{folder}/{name}")
            member.size = len(raw)
            archive.addfile(member, io.BytesIO(raw))
    return path


def mnist(path: Path | str | None, **changes: Any) -> Mnist:
    return Mnist(**({"path": path and str(path), "validation": 0.25, "limit": None, "augment": STILL} | changes))


def cifar(path: Path | str | None, **changes: Any) -> SmallCifar10:
    return SmallCifar10(**({"path": path and str(path), "validation": 0.25, "limit": None, "augment": STILL} | changes))


def own(path: Path | str) -> OwnArrays:
    return OwnArrays(path=str(path), validation=0.25, limit=None, augment=STILL)


def refusal(action: Callable[[], object]) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        action()
    assert "\n" not in str(caught.value)
    return caught.value


# --- Augment ---------------------------------------------------------------------------------------------------------


def naive_augment(augment: Augment, images: Array, seed: int, epoch: int) -> Array:
    """Pixel by pixel: three words an image, drawn one at a time."""
    generator = np.random.Philox(key=np.array([seed, epoch], np.uint64))
    result = np.zeros_like(images)
    _, height, width, _ = images.shape
    for image, out in zip(images, result, strict=True):
        down, right, mirror = (int(generator.random_raw()) for _ in range(3))
        down, right = (word % (2 * augment.shift + 1) - augment.shift for word in (down, right))
        for y in range(height):
            for x in range(width):
                source = y + down, (width - 1 - x if augment.flip and mirror % 2 else x) + right
                if 0 <= source[0] < height and 0 <= source[1] < width:
                    out[y, x] = image[source]
    return result


@pytest.mark.parametrize("shift", [0, 1, 4])
@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("shape", [(6, 5, 1), (5, 7, 3)])
def test_augment_equals_a_pixel_by_pixel_reference(shift: int, flip: bool, shape: tuple[int, ...]) -> None:
    augment, images = Augment(shift, flip), make(shape)["x_train"]
    for seed, epoch in [(0, 0), (7, 3), (2**63, 2**64 - 1)]:
        before = images.copy()
        result = augment(images, seed, epoch)
        assert result.dtype == np.uint8
        np.testing.assert_array_equal(result, naive_augment(augment, images, seed, epoch))
        np.testing.assert_array_equal(images, before)


@given(count=st.integers(0, 30), seed=st.integers(0, 2**64 - 1), epoch=st.integers(0, 2**64 - 1), flip=st.booleans())
@settings(max_examples=50, deadline=None)
def test_augmenting_a_beginning_gives_the_beginning(count: int, seed: int, epoch: int, flip: bool) -> None:
    images, augment = make((4, 4, 1), train=30)["x_train"], Augment(2, flip)
    np.testing.assert_array_equal(augment(images[:count], seed, epoch), augment(images, seed, epoch)[:count])


def test_augment_draws_anew_with_each_seed_and_epoch_and_again_with_the_same() -> None:
    images, augment = make((8, 8, 1))["x_train"], Augment(2, True)
    results = [augment(images, *key).tobytes() for key in [(0, 0), (0, 1), (1, 0), (1, 1), (0, 2), (2, 0)]]
    assert len(set(results)) == len(results)
    assert augment(images, 0, 1).tobytes() == results[1]


def test_augment_moves_and_mirrors_evenly() -> None:
    image = np.arange(1, 26, dtype=np.uint8).reshape(1, 5, 5, 1)
    counts = Counter(result.tobytes() for result in Augment(1, True)(np.repeat(image, 3600, axis=0), 0, 0))
    assert len(counts) == 18  # 3 × 3 displacements, each mirrored or not: 200 of each are expected
    assert sum((count - 200) ** 2 / 200 for count in counts.values()) < 40.8  # chi-square, 17 degrees of freedom, p = 0.001


def test_augment_with_nothing_to_do_returns_the_images_themselves() -> None:
    images = make((4, 4, 1))["x_train"]
    assert STILL(images, 0, 0) is images


@pytest.mark.parametrize(("shift", "flip", "where"), [(-1, True, "shift"), (1.0, True, "shift"), (True, True, "shift")])
def test_augment_refuses_a_bad_shift(shift: Any, flip: bool, where: str) -> None:
    assert refusal(lambda: Augment(shift, flip)).where == where


@pytest.mark.parametrize("flip", [None, 1, "yes"])
def test_augment_refuses_a_bad_flip(flip: Any) -> None:
    assert refusal(lambda: Augment(0, flip)).where == "flip"


# --- Splits ----------------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 4), max_size=40), st.integers(0, 40))
@settings(max_examples=100, deadline=None)
def test_fair_order_seats_classes_as_sainte_lague_does(labels: list[int], count: int) -> None:
    order = fair_order(np.array(labels, np.int64))
    assert sorted(order.tolist()) == list(range(len(labels)))
    voters, seats = Counter(labels), Counter[int]()
    for _ in range(min(count, len(labels))):  # each seat goes to the largest quotient votes / (2 · seats + 1)
        seats[max(sorted(voters), key=lambda label: Fraction(voters[label], 2 * seats[label] + 1))] += 1
    assert Counter(labels[index] for index in order[:count]) == seats


def test_fair_order_shuffles_inside_a_class_the_same_way_each_time() -> None:
    order = fair_order(np.zeros(100, np.int64))
    words = np.random.Philox(key=np.zeros(2, np.uint64)).random_raw(100)
    assert order.tolist() == sorted(range(100), key=lambda index: words[index])
    assert order.tolist() != list(range(100))


def numbered(tmp_path: Path, counts: list[int]) -> Path:
    """An .npz whose training image i spells i in its first two pixels; class c has counts[c] of them, mixed."""
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)), counts))
    arrays = make((28, 28), train=len(labels)) | {"y_train": labels}
    arrays["x_train"][:, 0, 0], arrays["x_train"][:, 0, 1] = np.divmod(np.arange(len(labels)), 256)
    return save(tmp_path / "numbered.npz", arrays)


def numbers(images: Array) -> list[int]:
    return [int(high) * 256 + int(low) for high, low in images[:, 0, :2, 0]]


def test_train_and_validation_share_no_image_and_keep_the_order(tmp_path: Path) -> None:
    counts = [100, 100, 100, 100, 50, 50, 60, 40, 200, 200]
    path = numbered(tmp_path, counts)
    loaded = mnist(path, validation=0.1).load()
    train, validation = numbers(loaded.train.images), numbers(loaded.validation.images)
    assert sorted(train + validation) == list(range(1000))
    assert train == sorted(train)
    assert validation == sorted(validation)
    assert np.bincount(loaded.validation.labels).tolist() == [10, 10, 10, 10, 5, 5, 6, 4, 20, 20]
    with np.load(path) as official:
        np.testing.assert_array_equal(loaded.train.labels, official["y_train"][train])
        np.testing.assert_array_equal(loaded.validation.labels, official["y_train"][validation])
        np.testing.assert_array_equal(loaded.test.images[..., 0], official["x_test"])
        np.testing.assert_array_equal(loaded.test.labels, official["y_test"])


def test_limit_is_fair_nested_and_touches_the_training_images_only(tmp_path: Path) -> None:
    path = numbered(tmp_path, [40, 40, 40, 40, 40, 40, 40, 40, 40, 80])
    whole, large, small = (mnist(path, limit=limit).load() for limit in (None, 110, 11))
    assert np.bincount(small.train.labels).tolist() == [1] * 9 + [2]
    assert np.bincount(large.train.labels).tolist() == [10] * 9 + [20]
    taken = [numbers(loaded.train.images) for loaded in (small, large, whole)]
    assert set(taken[0]) < set(taken[1]) < set(taken[2])
    assert taken[1] == sorted(taken[1])
    assert numbers(small.validation.images) == numbers(whole.validation.images)
    np.testing.assert_array_equal(small.test.images, whole.test.images)
    assert mnist(path, limit=len(whole.train)).load().train.labels.tolist() == whole.train.labels.tolist()


@pytest.mark.parametrize(("validation", "held_out"), [(0.05, 1), (0.5, 10), (0.95, 19)])
def test_validation_holds_out_its_fraction(tmp_path: Path, validation: float, held_out: int) -> None:
    loaded = mnist(save(tmp_path / "a.npz", make((28, 28))), validation=validation).load()
    assert (len(loaded.validation), len(loaded.train)) == (held_out, 20 - held_out)


@pytest.mark.parametrize("validation", [0.02, 0.99])
def test_a_split_that_would_be_empty_is_refused(tmp_path: Path, validation: float) -> None:
    error = refusal(mnist(save(tmp_path / "a.npz", make((28, 28))), validation=validation).load)
    assert (error.where, error.received) == ("validation", validation)
    assert "20 training images" in error.expected


def test_a_limit_beyond_what_there_is_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "a.npz", make((28, 28)))
    assert len(mnist(path, limit=15).load().train) == 15
    error = refusal(mnist(path, limit=16).load)
    assert (error.where, error.received) == ("limit", 16)
    assert "at most 15" in error.expected


@pytest.mark.parametrize(
    ("change", "where"),
    [
        *(({"validation": value}, "validation") for value in (0, 1, 0.0, 1.0, -0.1, float("nan"), "0.1", None, True)),
        *(({"limit": value}, "limit") for value in (0, -5, 1.5, "10", True)),
        *(({"augment": value}, "augment") for value in (None, {"shift": 1, "flip": True})),
        *(({"path": value}, "path") for value in ("", 3, True)),
    ],
)
def test_bad_parameters_are_refused_before_anything_is_read(change: dict[str, Any], where: str) -> None:
    assert (
        refusal(lambda: Mnist(**({"path": None, "validation": 0.1, "limit": None, "augment": STILL} | change))).where == where
    )


def test_a_shift_across_the_whole_image_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "a.npz", make((28, 28)))
    assert mnist(path, augment=Augment(27, False)).load().input_shape == (28, 28, 1)
    assert refusal(mnist(path, augment=Augment(28, False)).load).where == "augment.shift"


# --- What is handed on -----------------------------------------------------------------------------------------------


def test_hashes_equal_their_description(tmp_path: Path) -> None:
    arrays = make((28, 28))
    loaded = mnist(save(tmp_path / "a.npz", arrays), limit=10).load()
    content = hashlib.sha256()
    for key in ("x_train", "y_train", "x_test", "y_test"):
        array = arrays[key][..., None] if key.startswith("x") else arrays[key].astype("<i8")
        content.update(f"{key} {array.dtype.str} {array.shape}\n".encode() + array.tobytes())
    assert loaded.content_hash == content.hexdigest()
    assert loaded.split_hash == hashlib.sha256(f'[1, "{loaded.content_hash}", 0.25, 10]'.encode()).hexdigest()


@pytest.mark.parametrize("key", IDX)
def test_the_content_hash_changes_with_any_pixel_or_label(tmp_path: Path, key: str) -> None:
    arrays, seen = make((28, 28)), set[str]()
    seen.add(mnist(save(tmp_path / "whole.npz", arrays)).load().content_hash)
    cells = {0, arrays[key].size // 2, arrays[key].size - 1}
    for cell in cells:
        arrays[key].flat[cell] ^= 1  # a label stays below ten
        seen.add(mnist(save(tmp_path / f"{cell}.npz", arrays)).load().content_hash)
        arrays[key].flat[cell] ^= 1
    assert len(seen) == 1 + len(cells)


def test_the_split_hash_follows_validation_and_limit_and_not_augment(tmp_path: Path) -> None:
    path = save(tmp_path / "a.npz", make((28, 28)))
    several = [mnist(path, **change).load() for change in ({}, {"validation": 0.5}, {"limit": 5}, {"limit": 6})]
    assert len({loaded.split_hash for loaded in several}) == 4
    assert len({loaded.content_hash for loaded in several}) == 1
    assert mnist(path, augment=Augment(2, True)).load().split_hash == several[0].split_hash


def test_a_data_set_is_read_once_whatever_the_augmentation(tmp_path: Path) -> None:
    path = save(tmp_path / "a.npz", make((28, 28)))
    first = mnist(path).load()
    path.unlink()
    assert mnist(path).load() is first
    assert mnist(path, augment=Augment(2, True)).load() is first


def test_a_failure_is_not_remembered(tmp_path: Path) -> None:
    refusal(mnist(tmp_path / "a.npz").load)
    save(tmp_path / "a.npz", make((28, 28)))
    assert len(mnist(tmp_path / "a.npz").load().test) == 4


def test_arrays_cannot_be_written_to(tmp_path: Path) -> None:
    for loaded in (mnist(save(tmp_path / "a.npz", make((28, 28)))).load(), digits().load()):
        for split in (loaded.train, loaded.validation, loaded.test):
            for array in (split.images, split.labels):
                with pytest.raises(ValueError, match="read-only"):
                    array[0] = 0


# --- Reading ---------------------------------------------------------------------------------------------------------


def assert_holds(loaded: Data, arrays: Mapping[str, Array]) -> None:
    """The three splits are these arrays, byte for byte, each image beside its own label."""
    whole = np.concatenate([loaded.train.images, loaded.validation.images])
    assert Counter(image.tobytes() for image in whole) == Counter(image.tobytes() for image in arrays["x_train"])
    assert loaded.test.images.tobytes() == arrays["x_test"].tobytes()
    assert loaded.test.labels.tolist() == arrays["y_test"].ravel().tolist()
    label = {image.tobytes(): int(number) for image, number in zip(arrays["x_train"], arrays["y_train"].flat, strict=True)}
    for split in (loaded.train, loaded.validation, loaded.test):
        assert split.images.dtype == np.uint8
        assert split.labels.dtype == np.int64
        assert split.images.shape == (len(split.labels), *loaded.input_shape)
    for split in (loaded.train, loaded.validation):
        assert split.labels.tolist() == [label[image.tobytes()] for image in split.images]


@pytest.mark.parametrize("shape", [(28, 28), (28, 28, 1)])
@pytest.mark.parametrize("labels", [np.uint8, np.int8, np.int64, ">i4", np.uint64])
def test_npz_of_any_integer_labels_and_either_grey_shape(tmp_path: Path, shape: tuple[int, ...], labels: Any) -> None:
    arrays = make(shape)
    arrays |= {key: arrays[key].astype(labels).reshape(-1, 1) for key in ("y_train", "y_test")}
    loaded = mnist(save(tmp_path / "a.npz", arrays)).load()
    assert_holds(loaded, arrays)
    assert (loaded.name, loaded.classes, loaded.input_shape) == ("mnist", 10, (28, 28, 1))


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("kind", [Mnist, FashionMnist, Kmnist])
def test_idx_files_equal_the_npz(tmp_path: Path, zipped: bool, kind: type[Mnist]) -> None:
    arrays = make((28, 28))
    folder = write_idx(tmp_path / "idx", arrays, zipped=zipped)
    loaded = kind(path=str(folder), validation=0.25, limit=None, augment=STILL).load()
    assert_holds(loaded, arrays)
    assert loaded.content_hash == mnist(save(tmp_path / "a.npz", arrays)).load().content_hash


def test_cifar_binaries_equal_the_npz(tmp_path: Path) -> None:
    arrays = make((32, 32, 3))
    files = cifar_bytes(arrays) | {"batches.meta.txt": b"airplane\n", "readme.html": b""}
    (tmp_path / "unpacked").mkdir()
    for name, raw in files.items():
        (tmp_path / "unpacked" / name).write_bytes(raw)
    hashes = set[str]()
    for path in (
        tmp_path / "unpacked",
        write_tar(tmp_path / "cifar-10-binary.tar.gz", dict(reversed(files.items()))),
        write_tar(tmp_path / "renamed.tgz", files, folder="../.."),
        save(tmp_path / "a.npz", arrays),
    ):
        loaded = cifar(path).load()
        assert_holds(loaded, arrays)
        hashes.add(loaded.content_hash)
    assert len(hashes) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.npz", "cifar-10-binary.tar.gz", "renamed.tgz", "unpacked"]


def test_cifar_wants_ten_thousand_images_a_file(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "cifar-10-binary.tar.gz", cifar_bytes(make((32, 32, 3))))
    error = refusal(Cifar10(path=str(path), validation=0.25, limit=None, augment=STILL).load)
    assert error.where == "path"
    assert str(path) in str(error)


def test_a_home_folder_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    save(tmp_path / "a.npz", make((28, 28)))
    assert len(mnist("~/a.npz").load().test) == 4
    assert "~nobody-of-this-name" in str(refusal(mnist("~nobody-of-this-name/a.npz").load).received)


# --- Refusing --------------------------------------------------------------------------------------------------------


def without(key: str) -> Callable[[dict[str, Array]], dict[str, Array]]:
    return lambda arrays: {name: array for name, array in arrays.items() if name != key}


def changed(key: str, change: Callable[[Array], Array]) -> Callable[[dict[str, Array]], dict[str, Array]]:
    return lambda arrays: arrays | {key: change(arrays[key])}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        *((without(key), "x_train, y_train, x_test, y_test") for key in IDX),
        *((changed(key, lambda array: array.astype(object)), "Object arrays cannot be loaded") for key in IDX),
        (changed("x_train", lambda array: array.astype(np.float32) / 255), "x_train to be uint8"),
        (changed("x_test", lambda array: array.astype(np.int64)), "x_test to be uint8"),
        (changed("x_train", lambda array: array[:, :27]), "(n, 28, 28) or (n, 28, 28, 1)"),
        (changed("x_test", lambda array: np.stack([array] * 3, axis=-1)), "(4, 28, 28, 3)"),
        (changed("x_test", lambda array: array[0]), "(28, 28)"),
        (changed("x_test", lambda array: np.array(3, np.uint8)), "uint8 ()"),
        (changed("x_train", lambda array: array[:0]), "n at least 1"),
        (changed("x_test", lambda array: array[:0]), "n at least 1"),
        (changed("x_train", lambda array: array[1:]), "19 integers"),
        (changed("y_test", lambda array: array[1:]), "4 integers"),
        (changed("y_train", lambda array: array.astype(float)), "20 integers"),
        (changed("y_train", lambda array: array > 4), "where it is bool (20,)"),
        (changed("y_train", lambda array: np.eye(10, dtype=int)[array]), "where it is int64 (20, 10)"),
        (changed("y_train", lambda array: array + np.uint8(1)), "from 1 to 10"),
        (changed("y_test", lambda array: array.astype(int) - 1), "from -1 to 2"),
        (changed("y_test", lambda array: array + np.uint64(2**63)), "to 9223372036854775811"),
    ],
)
def test_an_npz_that_does_not_hold_mnist(tmp_path: Path, change: Callable[..., dict[str, Array]], said: str) -> None:
    path = tmp_path / "mine.npz"
    np.savez(path, **change(make((28, 28))))  # type: ignore[arg-type]
    error = refusal(mnist(path).load)
    assert error.where == "path"
    assert str(path) in str(error.received)
    assert said in str(error)


def test_grey_images_are_no_cifar_and_colour_ones_no_mnist(tmp_path: Path) -> None:
    assert "(n, 32, 32, 3)" in refusal(cifar(save(tmp_path / "grey.npz", make((32, 32)))).load).expected
    assert "(n, 28, 28)" in refusal(mnist(save(tmp_path / "colour.npz", make((32, 32, 3)))).load).expected


@pytest.mark.parametrize("build", [mnist, cifar])
def test_what_is_no_data_set_at_all(tmp_path: Path, build: Callable[..., Dataset]) -> None:
    np.save(tmp_path / "array.npy", np.zeros(3))
    (tmp_path / "pickled.pkl").write_bytes(pickle.dumps(make((28, 28))))
    (tmp_path / "renamed.npz").write_bytes(pickle.dumps(make((28, 28))))
    (tmp_path / "empty.npz").touch()
    (tmp_path / "empty.tar.gz").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder.npz").mkdir()
    for name in (*(path.name for path in tmp_path.iterdir()), "absent.npz", "absent", "array.npy/inside", "a\0b", "x" * 5000):
        error = refusal(build(tmp_path / name).load)
        assert error.where == "path"
        assert name in str(error.received)


class Trap:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (str(self.path), "w")


def test_pickles_are_refused_and_not_loaded(tmp_path: Path) -> None:
    sprung = tmp_path / "sprung"
    raw = pickle.dumps(Trap(sprung))
    pickle.loads(raw).close()  # noqa: S301  the trap works where pickles are loaded
    assert sprung.exists()
    sprung.unlink()
    names = [name.removesuffix(".bin") for name in BATCHES]
    (tmp_path / "cifar-10-batches-py").mkdir()
    for name in names:
        (tmp_path / "cifar-10-batches-py" / name).write_bytes(raw)
    archive = write_tar(tmp_path / "cifar-10-python.tar.gz", dict.fromkeys(names, raw), "cifar-10-batches-py")
    for path in (archive, tmp_path / "cifar-10-batches-py"):
        error = refusal(cifar(path).load)
        assert error.where == "path"
        assert str(path) in str(error)
        assert "pickles are never loaded" in error.expected
        assert "cifar-10-binary.tar.gz" in error.expected
    trapped = np.empty(20, object)
    trapped[:] = [Trap(sprung)] * 20
    np.savez(tmp_path / "trap.npz", **(make((28, 28)) | {"y_train": trapped}))  # type: ignore[arg-type]
    assert refusal(mnist(tmp_path / "trap.npz").load).where == "path"
    assert not sprung.exists()


@pytest.mark.parametrize("missing", range(6))
def test_a_missing_cifar_file_is_named(tmp_path: Path, missing: int) -> None:
    files = cifar_bytes(make((32, 32, 3)))
    del files[BATCHES[missing]]
    assert f"without {BATCHES[missing]}" in str(refusal(cifar(write_tar(tmp_path / "a.tar.gz", files)).load))


def test_an_archive_with_folders_is_read_and_one_with_links_refused(tmp_path: Path) -> None:
    files = cifar_bytes(make((32, 32, 3)))
    for kind, name, target in [(tarfile.DIRTYPE, "folder", ""), (tarfile.SYMTYPE, BATCHES[0], "/etc/hostname")]:
        path = tmp_path / f"{name}.tar.gz"
        with tarfile.open(path, "w:gz") as archive:
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, target
            archive.addfile(member)
            for batch, raw in files.items():
                member = tarfile.TarInfo(batch)
                member.size = len(raw)
                archive.addfile(member, io.BytesIO(raw))
    assert len(cifar(tmp_path / "folder.tar.gz").load().test) == 4
    assert "link" in str(refusal(cifar(tmp_path / f"{BATCHES[0]}.tar.gz").load).received)


@pytest.mark.parametrize("key", IDX)
def test_a_missing_idx_file_is_named(tmp_path: Path, key: str) -> None:
    folder = write_idx(tmp_path / "idx", make((28, 28)), zipped=True)
    (folder / f"{IDX[key]}.gz").unlink()
    error = refusal(mnist(folder).load)
    assert IDX[key] in error.expected
    assert str(folder) in str(error.received)


@pytest.mark.parametrize(
    ("key", "raw"),
    [
        ("x_train", idx_bytes(np.zeros(20, np.uint8))),  # labels for images
        ("y_train", idx_bytes(np.zeros((20, 28, 28), np.uint8))),  # images for labels
        ("x_train", b"\0\0\x09\x03" + idx_bytes(np.zeros((20, 28, 28), np.uint8))[4:]),  # signed bytes
        ("x_train", idx_bytes(np.zeros((20, 28, 28), np.uint8)) + b"\0"),
        ("x_train", idx_bytes(np.zeros((20, 28, 28), np.uint8))[:-1]),
        ("x_train", idx_bytes(np.zeros((0, 28, 28), np.uint8))),
        ("x_test", b"\0\0\x08\x03" + b"\xff" * 12),  # more images than memory holds
        ("y_test", b""),
        ("y_test", b"\0\0\x08"),
        ("y_test", b"\0\0\x08\x01\0\0"),
        ("y_test", idx_bytes(np.full(4, 10, np.uint8))),
    ],
)
@pytest.mark.parametrize("zipped", [False, True])
def test_idx_files_that_are_none(tmp_path: Path, key: str, raw: bytes, zipped: bool) -> None:
    folder = write_idx(tmp_path / "idx", make((28, 28)), zipped=zipped)
    (folder / f"{IDX[key]}{'.gz' * zipped}").write_bytes(gzip.compress(raw) if zipped else raw)
    error = refusal(mnist(folder).load)
    assert error.where == "path"
    assert str(folder) in str(error)


def damaged_files(tmp_path: Path) -> Iterator[tuple[Path, Dataset]]:
    """One file of each format that carries a checksum, and the data set that reads it."""
    npz, grey = tmp_path / "a.npz", make((28, 28))
    yield save(npz, grey), mnist(npz)
    np.savez(tmp_path / "stored.npz", **grey)  # type: ignore[arg-type]
    yield tmp_path / "stored.npz", mnist(tmp_path / "stored.npz")
    folder = write_idx(tmp_path / "idx", grey, zipped=True)
    yield folder / "train-images-idx3-ubyte.gz", mnist(folder)
    yield folder / "t10k-labels-idx1-ubyte.gz", mnist(folder)
    yield write_tar(tmp_path / "a.tar.gz", cifar_bytes(make((32, 32, 3)))), cifar(tmp_path / "a.tar.gz")


def test_a_truncated_file_is_refused_wherever_it_ends(tmp_path: Path) -> None:
    for path, dataset in damaged_files(tmp_path):
        raw = path.read_bytes()
        ends = {*range(0, len(raw), max(1, len(raw) // 40)), *range(max(0, len(raw) - 40), len(raw))}
        for end in ends:
            path.write_bytes(raw[:end])
            error = refusal(dataset.load)
            assert error.where == "path", (path, end)
            assert str(path.parent) in str(error), (path, end)


def test_a_flipped_bit_is_refused_or_changes_nothing(tmp_path: Path) -> None:
    random, refused = np.random.default_rng(0), 0
    for path, dataset in damaged_files(tmp_path):
        raw = path.read_bytes()
        whole = dataset.load().content_hash
        ends = {*range(min(40, len(raw))), *range(max(0, len(raw) - 40), len(raw))}
        places = ends | set(random.integers(0, len(raw), 30).tolist())
        for place in places:
            path.write_bytes(raw[:place] + bytes([raw[place] ^ 1 << int(random.integers(8))]) + raw[place + 1 :])
            datasets._load.cache_clear()
            try:
                content_hash = dataset.load().content_hash
            except ConfigError:
                refused += 1
            else:
                assert content_hash == whole, (path, place)
        path.write_bytes(raw)
    assert refused > 200


# --- Downloading -----------------------------------------------------------------------------------------------------


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def site(tmp_path: Path) -> Iterator[tuple[Path, str, http.server.HTTPServer]]:
    """A folder, and the address and the server that offer it."""
    folder = tmp_path / "site"
    folder.mkdir()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=partial(server.serve_forever, 0.01))
    thread.start()
    yield folder, f"http://127.0.0.1:{server.server_address[1]}/", server
    server.shutdown()
    server.server_close()
    thread.join()


def offered(kind: type[Mnist | FashionMnist | Kmnist | Cifar10], base: str, files: Mapping[str, str]) -> Dataset:
    """The data set as if `base` published it."""
    published = type(kind.__name__, (kind,), {"base": base, "files": files})
    dataset: Dataset = published(path=None, validation=0.25, limit=None, augment=STILL)
    return dataset


def test_a_download_is_checked_kept_and_not_repeated(site: tuple[Path, str, http.server.HTTPServer], kept_in: Path) -> None:
    folder, base, server = site
    arrays, colour = make((28, 28)), make((32, 32, 3))
    save(folder / "mnist.npz", arrays)
    write_idx(folder, arrays, zipped=True)
    write_tar(folder / "cifar-10-binary.tar.gz", cifar_bytes(colour))
    md5 = {path.name: f"md5:{hashlib.md5(path.read_bytes()).hexdigest()}" for path in folder.iterdir()}
    sets = [
        (offered(Mnist, base, {"mnist.npz": md5["mnist.npz"]}), arrays),
        (offered(FashionMnist, base, {f"{name}.gz": md5[f"{name}.gz"] for name in IDX.values()}), arrays),
        (offered(Kmnist, base, {f"{name}.gz": md5[f"{name}.gz"] for name in IDX.values()}), arrays),
        (offered(SmallCifar10, base, {"cifar-10-binary.tar.gz": md5["cifar-10-binary.tar.gz"]}), colour),
    ]
    for dataset, expected in sets:
        assert_holds(dataset.load(), expected)
    assert {path.name for path in kept_in.rglob("*") if path.is_file()} == set(md5)
    server.shutdown()
    datasets._load.cache_clear()
    for dataset, expected in sets:
        assert_holds(dataset.load(), expected)


def test_a_download_with_another_hash_is_refused_and_not_kept(
    site: tuple[Path, str, http.server.HTTPServer], kept_in: Path
) -> None:
    folder, base, _ = site
    save(folder / "mnist.npz", make((28, 28)))
    error = refusal(offered(Mnist, base, {"mnist.npz": f"md5:{'0' * 32}"}).load)
    assert error.where == "path"
    assert f"{base}mnist.npz" in error.expected
    assert "dataset.path=" in error.expected
    assert "hash" in str(error.received)
    assert not [path for path in kept_in.rglob("*") if path.is_file()]


def test_a_file_that_is_not_there_is_one_error(site: tuple[Path, str, http.server.HTTPServer], kept_in: Path) -> None:
    error = refusal(offered(Mnist, site[1], Mnist.files).load)
    assert error.where == "path"
    assert "404" in str(error.received)
    error.__cause__.response.close()  # type: ignore[union-attr]  # pooch leaves the answer open, which warnings would report


def test_a_server_that_is_down_is_one_error(kept_in: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))  # bound and not listening: connections are refused
        base = f"http://127.0.0.1:{free.getsockname()[1]}/"
        error = refusal(offered(Mnist, base, Mnist.files).load)
    assert error.where == "path"
    assert "refused" in str(error.received)


def test_a_server_that_never_answers_is_not_waited_for(kept_in: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert max(download._TIMEOUT) <= 60
    monkeypatch.setattr(download, "_TIMEOUT", (0.2, 0.2))
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        begin = time.monotonic()
        error = refusal(offered(Mnist, f"http://127.0.0.1:{silent.getsockname()[1]}/", Mnist.files).load)
    assert "timed out" in str(error.received).lower()
    assert time.monotonic() - begin < 5


# --- The data sets themselves ----------------------------------------------------------------------------------------


def digits(**changes: Any) -> Digits:
    return Digits(**({"validation": 0.2, "limit": None, "augment": STILL} | changes))


def test_digits_are_scikit_learns() -> None:
    from sklearn.datasets import load_digits

    source, loaded = load_digits(), digits().load()
    assert [len(split) for split in (loaded.train, loaded.validation, loaded.test)] == [1150, 287, 360]
    assert (loaded.name, loaded.classes, loaded.input_shape) == ("digits", 10, (8, 8, 1))
    scaled = [[round(value * 255 / 16) for value in image] for image in source.data]
    assert loaded.test.images.reshape(360, 64).tolist() == scaled[1437:]
    assert loaded.test.labels.tolist() == source.target[1437:].tolist()
    learnt = [*loaded.train.images.reshape(-1, 64).tolist(), *loaded.validation.images.reshape(-1, 64).tolist()]
    assert sorted(learnt) == sorted(scaled[:1437])
    assert loaded.train.images.max() == 255
    assert loaded.train.images.min() == 0
    quotas = np.bincount(source.target[:1437]) * 0.2
    assert (np.abs(np.bincount(loaded.validation.labels) - quotas) < 1).all()


@pytest.mark.parametrize("shape", [(6, 9), (6, 9, 1), (5, 4, 2)])
def test_arrays_of_ones_own_have_any_shape_and_any_number_of_classes(tmp_path: Path, shape: tuple[int, ...]) -> None:
    random = np.random.default_rng(0)
    arrays = {
        "x_train": random.integers(0, 256, (60, *shape), np.uint8),
        "y_train": np.arange(60, dtype=np.int32) % 3,
        "x_test": random.integers(0, 256, (7, *shape), np.uint8),
        "y_test": np.array([2, 1, 0, 0, 1, 2, 2], np.int32)[:, None],
    }
    loaded = own(save(tmp_path / "mine.npz", arrays)).load()
    assert (loaded.name, loaded.classes, loaded.input_shape) == ("arrays", 3, (*shape, 1)[:3])
    assert [len(split) for split in (loaded.train, loaded.validation, loaded.test)] == [45, 15, 7]
    assert np.bincount(loaded.validation.labels).tolist() == [5, 5, 5]
    np.testing.assert_array_equal(loaded.test.images.reshape(arrays["x_test"].shape), arrays["x_test"])
    assert loaded.test.labels.tolist() == [2, 1, 0, 0, 1, 2, 2]


@pytest.mark.parametrize(
    ("change", "expected", "received"),
    [
        ({"x_train": np.zeros((9, 4), np.uint8)}, "(n, height, width, channels)", "uint8 (9, 4)"),
        ({"x_train": np.full((9, 4, 4), 0.3, np.float32)}, "x_train to be uint8", "float32 with 0.3"),
        ({"x_test": np.zeros((3, 4, 5), np.uint8)}, "x_test to be uint8 of shape (n, 4, 4)", "uint8 (3, 4, 5)"),
        ({"y_train": np.zeros(9, int)}, "at least two classes", "with 1"),
        ({"y_train": np.array([0, 1, 3] * 3)}, "y_train to be in [0, 3)", "from 0 to 3"),
        ({"y_train": np.array([1, 2, 3] * 3)}, "y_train to be in [0, 3)", "from 1 to 3"),
        ({"y_test": np.array([0, 1, 3])}, "y_test to be in [0, 3)", "from 0 to 3"),
        ({"y_train": np.array([0.0, 1.0, 2.0] * 3)}, "9 integers", "float64"),
        ({"y_train": np.array([0, 1, 2])}, "9 integers", "int64 (3,)"),
        ({"y_train": None}, "the arrays x_train, y_train", "with x_train, x_test, y_test"),
    ],
)
def test_arrays_of_ones_own_that_cannot_be_used_are_refused(
    tmp_path: Path, change: Mapping[str, Array | None], expected: str, received: str
) -> None:
    arrays = {
        "x_train": np.zeros((9, 4, 4), np.uint8),
        "y_train": np.arange(9) % 3,
        "x_test": np.zeros((3, 4, 4), np.uint8),
        "y_test": np.arange(3),
    } | change
    path = save(tmp_path / "mine.npz", {name: array for name, array in arrays.items() if array is not None})
    error = refusal(own(path).load)
    assert error.where == "path"
    assert expected in error.expected
    assert received in str(error.received)
    assert str(path) in str(error.received)


@pytest.mark.parametrize("path", ["", None, 3, "nowhere.npz"])
def test_arrays_of_ones_own_need_a_place(path: Any) -> None:
    error = refusal(lambda: OwnArrays(path=path, validation=0.25, limit=None, augment=STILL).load())
    assert error.where == "path"
    assert "an .npz with the arrays x_train, y_train, x_test, y_test" in error.expected


def test_every_file_of_the_group_names_a_class_and_all_of_its_keys() -> None:
    from hydra.utils import instantiate
    from omegaconf import OmegaConf

    kinds = set()
    for path in CONF.glob("*.yaml"):
        config, name = OmegaConf.load(path), path.stem
        dataset = instantiate(config)
        assert isinstance(dataset, datasets.Dataset)
        assert isinstance(dataset.augment, Augment)
        assert dataset.name == name
        assert set(config) == {"_target_", *(field.name for field in fields(dataset))}
        assert set(config.augment) == {"_target_", "shift", "flip"}
        assert dataset.limit is None
        assert getattr(dataset, "path", None) is None
        assert not (dataset.augment.flip and name in ("digits", "mnist", "arrays")), "a mirrored number is another sign"
        kinds.add(type(dataset))
    assert {Cifar10, Digits, FashionMnist, Kmnist, Mnist, OwnArrays} <= kinds


def real(name: str) -> Path:
    folder = os.environ.get("SWEEP_TEST_DATA")
    path = Path(folder or "") / f"{name}.npz"
    if not folder or not path.is_file():
        pytest.skip(f"SWEEP_TEST_DATA names no folder with {name}.npz")
    return path


@pytest.mark.parametrize(
    ("kind", "shape", "sizes", "of_class"),
    [
        (Mnist, (28, 28, 1), [54_000, 6_000, 10_000], [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]),
        (Cifar10, (32, 32, 3), [45_000, 5_000, 10_000], [5000] * 10),
    ],
)
def test_the_published_data_set(
    kind: type[Mnist | Cifar10], shape: tuple[int, ...], sizes: list[int], of_class: list[int]
) -> None:
    path = real(kind.name)
    dataset = kind(path=str(path), validation=0.1, limit=None, augment=STILL)
    loaded = dataset.load()
    assert loaded.input_shape == shape
    assert [len(split) for split in (loaded.train, loaded.validation, loaded.test)] == sizes
    validation = np.bincount(loaded.validation.labels)
    assert (np.bincount(loaded.train.labels) + validation).tolist() == of_class
    assert (np.abs(validation - np.array(of_class) * 0.1) < 1).all()
    with np.load(path, allow_pickle=False) as official:
        np.testing.assert_array_equal(loaded.test.images.reshape(official["x_test"].shape), official["x_test"])
    limited = replace(dataset, limit=1000).load()
    assert np.abs(np.bincount(limited.train.labels) - np.array(of_class) / (sum(of_class) / 1000)).max() < 1
    assert limited.content_hash == loaded.content_hash != limited.split_hash


def test_importing_data_brings_in_nothing_heavy() -> None:
    heavy = {"tensorflow", "sklearn", "scipy", "pooch", "requests", "hydra"}
    code = f"import sys, sweep.data; print({heavy!r} & set(sys.modules) or 'nothing')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=CONF.parents[1])
    assert done.stdout.strip() == "nothing"
