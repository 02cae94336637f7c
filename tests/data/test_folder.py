"""Folders of photos: what a photo becomes, which split it is in, what is refused, and what is kept."""

from __future__ import annotations

import hashlib
import io
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sweep.core.errors import ConfigError
from sweep.data import datasets, photo_store, photos
from sweep.data.augment import Augment
from sweep.data.folder import Folder
from sweep.data.photo_listing import listed
from sweep.data.photos import BrokenPhotoError, Shape

CLASSES = ("ants", "bees", "wasps")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """An empty cache folder."""
    datasets._load.cache_clear()
    monkeypatch.setenv("SWEEP_DATA_DIR", str(tmp_path / "cache"))
    yield tmp_path / "cache" / "photos"
    datasets._load.cache_clear()


def noise(seed: int, height: int = 6, width: int = 6, channels: int = 3) -> np.ndarray:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, channels), np.uint8)
    return pixels[..., 0] if channels == 1 else pixels


def save(path: Path, pixels: np.ndarray, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return path


def folder_of(root: Path, count: int = 40, first: int = 0, **options: Any) -> Path:
    for label, name in enumerate(CLASSES):
        for number in range(first, first + count):
            save(root / name / f"{number:03d}.png", noise(1000 * label + number, **options))
    return root


def dataset(path: Path | None, **changes: Any) -> Folder:
    values: dict[str, Any] = {
        "size": None, "fit": "crop", "channels": None, "test": 0.2, "validation": 0.2, "max_broken": 0, "max_gib": 4,
        "limit": None, "augment": Augment(shift=0, flip=False),
    }  # fmt: skip
    return Folder(path=None if path is None else str(path), **(values | changes))


def refused(path: Path | None, **changes: Any) -> str:
    with pytest.raises(ConfigError) as refusal:
        dataset(path, **changes).load()
    line = str(refusal.value)
    assert "\n" not in line
    return line


def split_of(data: Any) -> dict[bytes, str]:
    """Pixels to split."""
    return {image.tobytes(): name for name in ("train", "validation", "test") for image in getattr(data, name).images}


def test_every_photo_is_in_one_split_with_its_label_and_its_pixels(tmp_path):
    data = dataset(folder_of(tmp_path / "photos")).load()
    assert (data.name, data.classes, data.class_names, data.input_shape) == ("folder", 3, CLASSES, (6, 6, 3))
    labels = {
        image.tobytes(): label
        for part in (data.train, data.validation, data.test)
        for image, label in zip(part.images, part.labels, strict=True)
    }
    assert len(labels) == 120
    for label in range(3):
        for number in range(40):
            assert labels[noise(1000 * label + number).tobytes()] == label
    for part in (data.train, data.validation, data.test):
        assert set(part.labels.tolist()) == {0, 1, 2}
        assert not part.images.flags.writeable
    assert 10 <= len(data.test) <= 40
    assert 10 <= len(data.validation) <= 40


def test_a_split_is_the_hash_of_the_file(tmp_path):
    root = folder_of(tmp_path / "photos")
    split = split_of(dataset(root, test=0.3, validation=0.5).load())
    for file in root.rglob("*.png"):
        fraction = int(hashlib.sha256(file.read_bytes()).hexdigest()[:16], 16) / 2**64
        expected = "test" if fraction < 0.3 else "validation" if fraction < 0.3 + 0.5 * 0.7 else "train"
        assert split[np.asarray(Image.open(file)).tobytes()] == expected


def test_new_photos_and_other_names_move_none(tmp_path):
    before = split_of(dataset(folder_of(tmp_path / "photos")).load())
    folder_of(tmp_path / "photos", 15, first=200)
    (tmp_path / "photos" / "bees" / "007.png").rename(tmp_path / "photos" / "bees" / "renamed.png")
    datasets._load.cache_clear()
    after = split_of(dataset(tmp_path / "photos").load())
    assert len(after) == len(before) + 45
    assert {pixels: after[pixels] for pixels in before} == before


def test_given_splits_stay_as_they_are(tmp_path):
    root = tmp_path / "photos"
    for name, first in (("train", 0), ("Validation", 100), ("test", 200)):
        folder_of(root / name, 5, first=first)
    data = dataset(root).load()
    assert (len(data.train), len(data.validation), len(data.test)) == (15, 15, 15)
    assert {int(label) for label in data.test.labels} == {0, 1, 2}
    assert split_of(data)[noise(1203).tobytes()] == "test"
    shutil.rmtree(root / "Validation")
    folder_of(root / "train", 40)
    datasets._load.cache_clear()
    data = dataset(root).load()
    assert len(data.test) == 15
    assert len(data.train) + len(data.validation) == 120


@pytest.mark.parametrize("shape", [(6, 6, 3), (5, 7, 1)])
def test_arrays_stay_on_disk_and_are_used_again(tmp_path, cache, monkeypatch, shape):
    height, width, channels = shape
    root = folder_of(tmp_path / "photos", height=height, width=width, channels=channels)
    first = dataset(root).load()
    assert first.input_shape == shape
    base = first.train.images
    while base.base is not None and not isinstance(base, np.memmap):
        base = base.base
    assert isinstance(base, np.memmap)
    datasets._load.cache_clear()
    monkeypatch.setattr(photos, "read", None)
    monkeypatch.setattr(photos, "header", None)
    second = dataset(root, test=0.3).load()
    assert second.content_hash == first.content_hash
    assert second.split_hash == first.split_hash or len(second.test) != len(first.test)
    assert len(list(cache.glob("*.npy"))) == 1
    assert not list(cache.glob(".*"))


@pytest.mark.parametrize(
    "damage",
    [
        lambda file: file.write_bytes(file.read_bytes()[:-1]),
        lambda file: file.write_bytes(file.read_bytes()[:-1] + bytes([file.read_bytes()[-1] ^ 1])),
        lambda file: file.write_bytes(b""),
        lambda file: file.with_suffix(".json").write_text("{}"),
        lambda file: file.with_suffix(".json").write_text("not JSON"),
        lambda file: file.with_suffix(".json").unlink(),
        lambda file: next(file.parent.glob("*.index.json")).write_text('{"a": [1]}'),
    ],
)
def test_a_damaged_cache_is_made_again(tmp_path, cache, damage):
    root = folder_of(tmp_path / "photos")
    first = dataset(root).load()
    before, digest = split_of(first), first.content_hash
    del first
    datasets._load.cache_clear()
    damage(next(cache.glob("*.npy")))
    second = dataset(root).load()
    assert split_of(second) == before
    assert second.content_hash == digest


def test_a_changed_photo_is_read_again_and_the_old_array_goes(tmp_path, cache):
    root = folder_of(tmp_path / "photos")
    dataset(root).load()
    dataset(root, channels=1).load()
    assert len(list(cache.glob("*.npy"))) == 2
    datasets._load.cache_clear()
    save(root / "ants" / "000.png", noise(77_777))
    assert noise(77_777).tobytes() in split_of(dataset(root).load())
    assert len(list(cache.glob("*.npy"))) == len(list(cache.glob("*-*.json"))) == 2


def test_a_folder_whose_photos_are_all_damaged_is_refused(tmp_path):
    root = tmp_path / "photos"
    for number, name in enumerate(CLASSES):
        file = save(root / name / "a.bmp", noise(number, 40, 40))
        file.write_bytes(file.read_bytes()[:200])  # the header is whole
    assert refused(root, max_broken=9).endswith(f"expected photos that can be read; received {root}, without one")


def test_equal_photos_stay_together_and_are_named(tmp_path, caplog):
    root = folder_of(tmp_path / "photos")
    for number in range(40):  # the same pixels in another file
        save(root / "ants" / f"copy{number}.bmp", noise(number))
    save(root / "bees" / "copy.bmp", noise(0))
    data = dataset(root).load()
    held = {name: {image.tobytes() for image in getattr(data, name).images} for name in ("train", "validation", "test")}
    assert not held["train"] & held["validation"]
    assert not held["train"] & held["test"]
    assert not held["validation"] & held["test"]
    assert sum(len(getattr(data, name)) for name in held) == 161
    assert "41 photos have the pixels of another; those of one split stay together" in caplog.text
    assert "the same pixels are in more than one class: " in caplog.text


def test_equal_photos_in_two_given_splits_are_named(tmp_path, caplog):
    for name in ("train", "test"):
        folder_of(tmp_path / "photos" / name, 20, first=0 if name == "train" else 15)
    dataset(tmp_path / "photos").load()
    assert "the same pixels are in more than one split: test/ants/015.png and train/ants/015.png" in caplog.text


FILES: Mapping[str, bytes] = {
    "no image": b"a text",
    "nothing": b"",
    "cut": b"cut",
    "another format": b"tiff",
}


def broken(name: str) -> bytes:
    stream = io.BytesIO()
    if name == "another format":
        Image.fromarray(noise(0)).save(stream, "TIFF")
        return stream.getvalue()
    if name == "cut":
        Image.fromarray(noise(0, 64, 64)).save(stream, "JPEG")
        return stream.getvalue()[: len(stream.getvalue()) // 2]
    return FILES[name]


@pytest.mark.parametrize("name", FILES)
def test_a_broken_photo_is_named_and_left_out_as_far_as_allowed(tmp_path, caplog, name):
    root = folder_of(tmp_path / "photos")
    (root / "bees" / "it.jpg").write_bytes(broken(name))
    line = refused(root, size=6)
    assert line.startswith(
        "path: expected JPEG, PNG, BMP, GIF and WebP images alone (dataset.max_broken=1 leaves out the others)"
    )
    assert f"{root}/bees/it.jpg, which is" in line
    for _ in range(2):
        data = dataset(root, max_broken=1, size=6).load()
        assert sum(map(len, (data.train, data.validation, data.test))) == 120
        assert f"{root}/bees/it.jpg is left out: it is" in caplog.text
        caplog.clear()
        datasets._load.cache_clear()


def test_what_is_no_folder_of_photos_is_refused(tmp_path):
    root = tmp_path / "photos"
    assert refused(None) == "path: expected a folder with a folder of photos for each class; received null"
    assert refused(root).endswith(f"received {root}, which is not there")
    root.mkdir()
    assert refused(root).endswith(f"of at least two classes; received {root}, with none")
    (root / "ants").mkdir()
    (root / "bees").mkdir()
    assert refused(root).endswith(f"none empty; received {root}/ants, without a file")
    folder_of(root)
    (root / "readme.txt").write_text("about")
    assert refused(root).endswith(f"no files beside these folders; received {root}, with readme.txt")
    (root / "readme.txt").rename(root / ".hidden")
    (root / "bees" / "Thumbs.db").write_text("clutter")
    (root / "bees" / ".DS_Store").write_text("clutter")
    (root / "bees" / "more").mkdir()
    save(root / "bees" / "more" / "a.gif", noise(9))
    dataset(root).load()
    assert refused(root / "readme.txt").endswith("which is not there")
    assert refused(root / ".hidden").endswith("which is a file")
    for name in ("train", "test"):
        folder_of(tmp_path / "split" / name, 3)
    (tmp_path / "split" / "test" / "flies").mkdir()
    assert refused(tmp_path / "split").endswith(
        f"classes of train/ alone in test/; received {tmp_path / 'split'}, with test/flies"
    )
    (tmp_path / "split" / "val").mkdir()
    (tmp_path / "split" / "Valid").mkdir()
    (tmp_path / "split" / "test" / "flies").rmdir()
    assert "one folder of the split val" in refused(tmp_path / "split")


def test_invalid_keys_are_refused(tmp_path):
    root = folder_of(tmp_path / "photos")
    save(root / "ants" / "large.png", noise(5, 8, 9))
    assert (
        refused(root) == "size: expected [height, width] in pixels; received null, for photos of 2 sizes: 120 of 121 have 6×6"
    )
    assert refused(root, size=(6, 0)).startswith("size: expected an integer of at least 1 and at most 4096")
    assert refused(root, size=(6, 6, 3)).startswith("size: expected [height, width] in pixels, one number for both, or null")
    assert refused(root, size=6, fit="squeeze").startswith("fit: expected one of crop, pad, stretch")
    assert refused(root, size=6, channels=4).startswith("channels: expected 1 (grey), 3 (RGB) or null")
    assert refused(root, size=6, max_broken=-1).startswith("max_broken: ")
    assert refused(root, size=6, test=1.0).startswith("test: ")
    assert refused(root, size=4096, max_gib=0.5).startswith("max_gib: expected at least 5.7, the GiB of 121 photos")
    line = refused(root, size=6, test=1e-6)
    assert line.startswith("test: expected a fraction that leaves photos of every class for the test split, or more photos")
    assert line.endswith("which leaves none of class ants, bees, wasps")
    assert refused(root, size=6, validation=0.999).startswith(
        "test: expected a fraction that leaves photos of every class for tr"
    )


def decoded(pixels: np.ndarray, shape: Shape, tmp_path: Path, name: str = "a.png", **options: Any) -> np.ndarray:
    return photos.read(save(tmp_path / name, pixels, **options), shape)


def test_what_shrinks_is_averaged_over_areas(tmp_path):
    pixels = noise(3, 8, 12)
    expected = pixels.reshape(2, 4, 3, 4, 3).mean(axis=(1, 3))
    found = decoded(pixels, Shape(2, 3, 3, "crop"), tmp_path)
    np.testing.assert_allclose(found, expected, atol=1)


def test_other_proportions_are_cut_filled_or_distorted(tmp_path):
    pixels = noise(4, 4, 8)
    np.testing.assert_array_equal(decoded(pixels, Shape(4, 4, 3, "crop"), tmp_path), pixels[:, 2:6])
    padded = decoded(pixels, Shape(8, 8, 3, "pad"), tmp_path)
    np.testing.assert_array_equal(padded[2:6], pixels)
    assert not padded[:2].any()
    assert not padded[6:].any()
    stretched = decoded(pixels, Shape(4, 4, 3, "stretch"), tmp_path)
    np.testing.assert_allclose(stretched, pixels.reshape(4, 4, 2, 3).mean(axis=2), atol=1)
    assert decoded(pixels, Shape(16, 2, 3, "stretch"), tmp_path).shape == (16, 2, 3)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_turns_a_photo(tmp_path, orientation):
    pixels = np.zeros((8, 16, 3), np.uint8)
    pixels[:4, :8] = 250  # the upper left
    turned = {
        1: pixels, 2: pixels[:, ::-1], 3: pixels[::-1, ::-1], 4: pixels[::-1],
        5: pixels.transpose(1, 0, 2), 6: np.rot90(pixels, -1), 7: np.rot90(pixels, 2).transpose(1, 0, 2), 8: np.rot90(pixels),
    }[orientation]  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = save(tmp_path / "turned.png", pixels, exif=exif)
    height, width = turned.shape[:2]
    np.testing.assert_array_equal(photos.read(file, Shape(height, width, 3, "crop")), turned)
    assert (photos.header(file).height, photos.header(file).width) == (height, width)


@pytest.mark.parametrize("suffix", ["png", "bmp", "gif", "webp", "jpg"])
def test_every_format_is_read_whatever_its_name(tmp_path, suffix):
    grey = np.repeat(np.uint8([[0, 80], [160, 240]]), 8, axis=0).repeat(8, axis=1)
    options = {"lossless": True} if suffix == "webp" else {"quality": 95} if suffix == "jpg" else {}
    save(tmp_path / f"a.{suffix}", grey, **options)
    file = (tmp_path / f"a.{suffix}").rename(tmp_path / "a.photo")
    np.testing.assert_allclose(photos.read(file, Shape(16, 16, 1, "crop"))[..., 0], grey, atol=3)
    assert photos.read(file, Shape(16, 16, 3, "crop")).shape == (16, 16, 3)


def test_modes_become_grey_or_rgb(tmp_path):
    shape = Shape(2, 2, 3, "crop")
    rgba = np.zeros((2, 2, 4), np.uint8)
    rgba[..., 0], rgba[..., 3] = 200, [[0, 255], [0, 255]]
    np.testing.assert_array_equal(decoded(rgba, shape, tmp_path)[0], [[255, 255, 255], [200, 0, 0]])
    deep = np.uint16([[0, 256], [0x8000, 0xFFFF]])
    np.testing.assert_array_equal(decoded(deep, Shape(2, 2, 1, "crop"), tmp_path)[..., 0], deep >> 8)
    Image.fromarray(rgba[..., :3]).convert("P").save(tmp_path / "palette.gif")
    np.testing.assert_allclose(photos.read(tmp_path / "palette.gif", shape)[0, 0], [200, 0, 0], atol=5)
    Image.new("CMYK", (2, 2), (0, 255, 255, 0)).save(tmp_path / "print.jpg")
    assert photos.read(tmp_path / "print.jpg", shape)[0, 0, 0] > 200
    Image.new("1", (2, 2), 1).save(tmp_path / "bits.png")
    assert photos.read(tmp_path / "bits.png", shape).min() == 255


def test_channels_are_those_of_the_photos(tmp_path):
    root = folder_of(tmp_path / "grey", channels=1)
    assert dataset(root).load().input_shape == (6, 6, 1)
    assert dataset(root, channels=3).load().input_shape == (6, 6, 3)
    datasets._load.cache_clear()
    save(root / "ants" / "coloured.png", noise(1))
    assert dataset(root).load().input_shape == (6, 6, 3)
    assert dataset(root, channels=1).load().input_shape == (6, 6, 1)


def test_a_photo_that_is_too_large_is_broken(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 30)
    file = save(tmp_path / "a.png", noise(0))
    with pytest.raises(BrokenPhotoError, match="has more than 89 million pixels"), photos.strict():
        photos.read(file, Shape(2, 2, 3, "crop"))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_damaged_files_are_read_or_broken(tmp_path_factory, data):
    stream = io.BytesIO()
    form = data.draw(st.sampled_from(photos.FORMATS))
    Image.fromarray(noise(1, 20, 30)).save(stream, form)
    content = bytearray(stream.getvalue())
    for place, byte in data.draw(st.lists(st.tuples(st.integers(0, len(content) - 1), st.integers(0, 255)), max_size=6)):
        content[place] = byte
    file = tmp_path_factory.getbasetemp() / "damaged"
    file.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    with photos.strict(), suppress(BrokenPhotoError):
        assert photos.header(file).height > 0
        assert photos.read(file, Shape(5, 4, 3, "pad")).shape == (5, 4, 3)


def test_a_cache_that_cannot_be_written_is_said(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("SWEEP_DATA_DIR", str(tmp_path / "file"))
    assert "SWEEP_DATA_DIR=FOLDER is another place" in refused(folder_of(tmp_path / "photos", 3), test=0.5)


def test_the_listing_is_sorted_and_reads_nothing(tmp_path):
    listing = listed(folder_of(tmp_path / "photos", 3))
    assert listing.classes == CLASSES
    assert [str(photo.path) for photo in listing.photos] == [
        f"{name}/{number:03d}.png" for name in CLASSES for number in range(3)
    ]
    known = photo_store.facts(tmp_path / "photos", listing, tmp_path)
    assert {(fact.height, fact.width, fact.is_grey, fact.fault) for fact in known} == {(6, 6, False, "")}
