"""Official arrays: what cannot be used is refused with its array and a mend, and what is odd is said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sweep.core.errors import ConfigError
from sweep.core.types import Array, Data
from sweep.data import datasets, imagechecks
from sweep.data.augment import Augment
from sweep.data.datasets import Cifar10, Dataset, OwnArrays

STILL = Augment(shift=0, flip=False)
RANDOM = np.random.default_rng(0)
TRAIN = RANDOM.integers(0, 256, (60, 8, 8), np.uint8)
TEST = RANDOM.integers(0, 256, (12, 8, 8), np.uint8)
GOOD = {"x_train": TRAIN, "y_train": np.arange(60) % 3, "x_test": TEST, "y_test": np.arange(12) % 3}


@pytest.fixture(autouse=True)
def forget_loaded() -> None:
    datasets._load.cache_clear()


def dataset(path: Path, kind: type[Dataset] = OwnArrays, **changes: Any) -> Dataset:
    return kind(**({"path": str(path), "validation": 0.25, "limit": None, "augment": STILL} | changes))


def write(folder: Path, **changes: Array | None) -> Path:
    arrays = {key: array for key, array in (GOOD | changes).items() if array is not None}
    np.savez_compressed(folder / "mine.npz", **arrays)  # type: ignore[arg-type]
    return folder / "mine.npz"


def pixels(*shape: int) -> Array:
    return np.random.default_rng(sum(shape)).integers(0, 256, shape, np.uint8)


@pytest.mark.parametrize(
    ("changes", "expected", "received"),
    [
        ({"x_train": pixels(60, 0, 8)}, "x_train to be uint8", "uint8 (60, 0, 8), without a single row"),
        ({"x_train": pixels(60, 8, 0)}, "x_train to be uint8", "uint8 (60, 8, 0), without a single column"),
        ({"x_train": pixels(60, 8, 8, 0)}, "x_train to be uint8", "uint8 (60, 8, 8, 0), without a single channel"),
        ({"x_train": pixels(0, 8, 8)}, "all at least 1", "uint8 (0, 8, 8), without a single image"),
        ({"x_test": pixels(0, 8, 8)}, "x_test to be uint8", "uint8 (0, 8, 8), without a single image"),
        ({"x_test": pixels(12, 8, 9)}, "(n, 8, 8) or (n, 8, 8, 1)", "where it is uint8 (12, 8, 9)"),
        ({"x_train": TRAIN / 300}, "whole multiples of 1/255 in [0, 1]", "float64 with 0."),
        ({"x_train": TRAIN / 255 * 2 - 1}, "whole multiples of 1/255 in [0, 1]", "float64 with -0."),
        ({"x_train": TRAIN * 1.5}, "whole numbers in [0, 255]", "float64 with"),
        ({"x_test": TEST * np.float32(2)}, "x_test to be uint8", "float32 with"),
        ({"x_train": np.full((60, 8, 8), np.nan)}, "x_train to be uint8", "float64 with nan"),
        ({"x_train": np.full((60, 8, 8), np.inf, np.float16)}, "x_train to be uint8", "float16 with inf"),
        ({"x_test": TEST[:, :4] / 255}, "(n, 8, 8) or (n, 8, 8, 1)", "(12, 4, 8)"),
        ({"x_train": pixels(60, 64) / 255}, "x.reshape(-1, height, width) for flat ones", "float64 (60, 64)"),
        ({"x_train": TRAIN > 9}, "x.astype('uint8') * 255", "bool (60, 8, 8)"),
        ({"x_train": TRAIN.astype(np.uint16)}, "x.astype('uint8') for pixels of 0 to 255", "uint16 (60, 8, 8)"),
        ({"x_train": TRAIN.astype(">i4")}, "x.astype('uint8') for pixels of 0 to 255", ">i4 (60, 8, 8)"),
        ({"x_train": TRAIN.astype(complex)}, "x_train to be uint8", "complex128 (60, 8, 8)"),
        ({"x_train": np.zeros((60, 8, 8), [("red", "u1"), ("green", "u1")])}, "x_train to be uint8", "('green', 'u1')"),
        ({"x_train": np.array(3, np.uint8)}, "x_train to be uint8", "where it is uint8 ()"),
        ({"x_train": pixels(60, 64)}, "x.reshape(-1, height, width) for flat ones", "uint8 (60, 64)"),
        ({"x_train": pixels(60, 2, 2, 2, 2)}, "x_train to be uint8", "uint8 (60, 2, 2, 2, 2)"),
        ({"x_train": pixels(8, 8, 60)}, "np.moveaxis(x, 2, 0)", "where it is int64 (60,)"),
        ({"x_train": pixels(32, 32, 3, 60)}, "np.moveaxis(x, 3, 0)", "where it is int64 (60,)"),
        ({"y_train": np.arange(60) % 3 - 1}, "y_train to be in [0, 3)", "from -1 to 1"),
        ({"y_train": np.array([0, 1, 3] * 20)}, "y_train to be in [0, 3)", "from 0 to 3, without class 2"),
        ({"y_train": np.array([0, 5, 10**12] * 20)}, "without a gap", "from 0 to 1000000000000, without class 1, 6"),
        ({"y_train": np.array([1, 2, 3] * 20)}, "y_train to be in [0, 3)", "without class 0 (by y - 1)"),
        ({"y_test": np.arange(12) % 4}, "y_test to be in [0, 3)", "where class 3 has no training image"),
        ({"y_train": np.arange(61) % 3}, "60 integers", "int64 (61,)"),
        ({"y_train": np.eye(3)[np.arange(61) % 3]}, "60 integers", "float64 (61, 3)"),
        ({"y_train": np.ones((60, 3))}, "y_train to be integers, or one-hot rows", "row 0 is [1.0, 1.0, 1.0]"),
        ({"y_test": np.eye(3)[np.arange(12) % 3] * 2}, "y_test to be integers, or one-hot rows", "row 0 is [2.0, 0.0, 0.0]"),
        ({"y_train": np.zeros((60, 3), int)}, "y_train to be integers, or one-hot rows", "row 0 is [0, 0, 0]"),
        ({"y_train": (np.arange(60) % 3).astype(float)}, "y.astype(int)", "float64 (60,)"),
        ({"y_train": np.arange(60) % 2 > 0}, "y.astype(int)", "bool (60,)"),
        ({"y_train": np.array(["a", "b", "c"] * 20)}, "np.unique(y, return_inverse=True)[1]", "<U1 (60,)"),
        ({"y_train": np.array(3)}, "60 integers", "int64 ()"),
        ({"y_train": np.uint64(2**63) + (np.arange(60) % 3).astype(np.uint64)}, "[0, 3)", "to 9223372036854775810"),
        ({"y_train": np.full(60, 7)}, "at least two classes", "with 1: every label is 7"),
        ({"x_test": None}, "x_train, y_train, x_test, y_test", "without x_test.npy"),
    ],
)
def test_a_refusal_names_the_array_and_the_mend(
    tmp_path: Path, changes: dict[str, Array | None], expected: str, received: str
) -> None:
    path = write(tmp_path, **changes)
    with pytest.raises(ConfigError) as caught:
        dataset(path).load()
    assert caught.value.where == "path"
    assert expected in caught.value.expected
    assert received in str(caught.value.received)
    assert str(path) in str(caught.value.received)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"x_train": TRAIN / 255}, "x_train (float64) is taken as pixels divided by 255"),
        ({"x_train": (TRAIN / 255).astype(np.float32)}, "x_train (float32) is taken as pixels divided by 255"),
        ({"x_test": (TEST / 255).astype(np.float16)}, "x_test (float16) is taken as pixels divided by 255"),
        ({"x_test": TEST[..., None] / np.float32(255)}, "x_test (float32) is taken as pixels divided by 255"),
        ({"x_train": TRAIN.astype(float)}, "x_train (float64) is taken as pixels of 0 to 255"),
        ({"y_train": np.eye(3)[np.arange(60) % 3]}, "y_train (60, 3) is taken as one-hot labels of 3 classes"),
        ({"y_test": np.eye(3, dtype=bool)[np.arange(12) % 3]}, "y_test (12, 3) is taken as one-hot labels of 3 classes"),
    ],
)
def test_floats_that_are_pixels_and_one_hot_labels_are_taken_for_what_they_are(tmp_path, caplog, changes, said):
    expected = dataset(write(tmp_path)).load()
    (tmp_path / "other").mkdir()
    found = dataset(write(tmp_path / "other", **changes)).load()
    assert said in caplog.text
    assert found.content_hash == expected.content_hash


def test_without_a_test_split_one_is_cut_off_by_the_pixels(tmp_path, caplog):
    images, labels = pixels(200, 6, 6), np.arange(200) % 3
    whole = {"x_train": images, "y_train": labels, "x_test": None, "y_test": None}
    data = dataset(write(tmp_path, **whole), test=0.3).load()
    assert f"it has no x_test: {len(data.test)} of 200 images are the test split" in caplog.text
    assert 40 <= len(data.test) <= 80
    assert len(data.train) + len(data.validation) + len(data.test) == 200
    tested = {image.tobytes() for image in data.test.images}
    label_of = {image.tobytes(): label for image, label in zip(images, labels, strict=True)}
    assert all(label_of[image.tobytes()] == label for image, label in zip(data.test.images, data.test.labels, strict=True))
    more = {
        "x_train": np.concatenate([images[::-1], images[:50], pixels(30, 6, 6)]),
        "y_train": np.concatenate([labels[::-1], labels[:50], np.arange(30) % 3]),
    }
    (tmp_path / "more").mkdir()
    again = dataset(write(tmp_path / "more", **(whole | more)), test=0.3).load()
    still = {image.tobytes() for image in again.test.images}
    assert tested <= still
    assert not still & {image.tobytes() for part in (again.train, again.validation) for image in part.images}
    line = refusal_of(dataset(tmp_path / "mine.npz", test=1e-5))
    assert line.startswith("test: expected a fraction that leaves images of every class for the test split, or more images")
    assert line.endswith("received 1e-05, which leaves none of class 0, 1, 2")


def refusal_of(data: Dataset) -> str:
    with pytest.raises(ConfigError) as caught:
        data.load()
    return str(caught.value)


@pytest.mark.parametrize(
    ("shape", "order"), [((3, 32, 32), "0, 2, 3, 1"), ((1, 28, 28), "0, 2, 3, 1"), ((32, 3, 32), "0, 1, 3, 2")]
)
def test_axes_that_are_hardly_height_width_and_channels(tmp_path: Path, shape: tuple[int, ...], order: str) -> None:
    path = write(tmp_path, x_train=pixels(60, *shape), x_test=pixels(12, *shape))
    with pytest.raises(ConfigError) as caught:
        dataset(path).load()
    assert f"x.transpose({order})" in caught.value.expected
    assert f"dataset.channels={shape[2]}" in caught.value.expected
    assert f"uint8 {(60, *shape)}, {shape[0]}×{shape[1]} pixels with {shape[2]} channels" in str(caught.value.received)
    assert dataset(path, channels=shape[2]).load().input_shape == shape
    with pytest.raises(ConfigError) as caught:
        dataset(path, channels=3).load()
    assert (caught.value.where, caught.value.received) == ("channels", 3)


@pytest.mark.parametrize("shape", [(32, 32, 3), (8, 8, 64), (4, 4, 8), (1, 1, 16), (3, 32, 3), (2, 2)])
def test_axes_without_a_doubt(tmp_path: Path, shape: tuple[int, ...]) -> None:
    path = write(tmp_path, x_train=pixels(60, *shape), x_test=pixels(12, *shape))
    assert dataset(path).load().input_shape[:2] == shape[:2]


@pytest.mark.parametrize("channels", [0, -1, 1.0, "3", True])
def test_channels_that_are_none(channels: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        dataset(Path("a.npz"), channels=channels)
    assert caught.value.where == "channels"


def test_a_published_data_set_in_another_order_of_axes(tmp_path: Path) -> None:
    for shape, mend in (((3, 32, 32), "x.transpose(0, 2, 3, 1)"), ((3072,), "x.reshape(-1, 32, 32, 3)")):
        with pytest.raises(ConfigError) as caught:
            dataset(write(tmp_path, x_train=pixels(60, *shape)), Cifar10).load()
        assert mend in caught.value.expected


BLACK = np.zeros((60, 8, 8), np.uint8)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, []),
        ({"x_val": TEST, "y_val": np.arange(12)}, ["x_val, y_val in it is not read"]),
        ({"x_train": BLACK}, ["every image of x_train is the same"]),
        ({"x_test": np.full((12, 8, 8), 200, np.uint8)}, ["every image of x_test is the same"]),
        ({"x_train": TRAIN // 128, "x_test": TEST // 128}, ["pixel of x_train is 1 of 255", "pixel of x_test is 1 of 255"]),
        ({"x_train": TRAIN // 16}, ["the brightest pixel of x_train is 15 of 255"]),
        ({"y_test": np.arange(12) % 2}, ["y_test has no image of class 2"]),
        ({"x_test": TRAIN, "y_test": GOOD["y_train"]}, ["60 of the 60 images of x_test are in x_train too"]),
        ({"x_test": np.concatenate([TEST[:11], TRAIN[:1]])}, ["1 of the 12 images of x_test are in x_train too"]),
        ({"x_train": np.concatenate([TRAIN[:50], TRAIN[:10]])}, ["10 of the 60 images of x_train come again"]),
        ({"x_train": pixels(60, 64, 1), "x_test": pixels(12, 64, 1)}, ["read as 64×1 grey pixels"]),
        ({"x_train": TRAIN[:3], "y_train": np.arange(3)}, ["no image of class 0 to train on"]),
    ],
)
def test_what_is_odd_is_said_once_and_taken(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, changes: dict[str, Array], said: list[str]
) -> None:
    for _ in range(2):
        dataset(write(tmp_path, **changes)).load()
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == len(said)
    for message, text in zip(messages, said, strict=True):
        assert text in message
        assert "\n" not in message


def test_a_limit_below_the_number_of_classes_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    dataset(write(tmp_path), limit=2).load()
    assert "dataset.validation and dataset.limit leave no image of class 2 to train on" in caplog.text


@given(st.integers(1, 5), st.integers(1, 7), st.integers(1, 3), st.integers(0, 10))
@settings(max_examples=100, deadline=None)
def test_images_are_equal_where_their_hashes_are(height: int, width: int, channels: int, seed: int) -> None:
    images = np.random.default_rng(seed).integers(0, 2, (600, height, width, channels), np.uint8) * 128
    _, of_bytes = np.unique(images.reshape(len(images), -1), axis=0, return_inverse=True)
    _, of_hashes = np.unique(imagechecks.image_hashes(images), return_inverse=True)
    assert len(set(zip(of_bytes.ravel().tolist(), of_hashes.tolist(), strict=True))) == len(set(of_hashes.tolist()))
    assert len(set(of_bytes.ravel().tolist())) == len(set(of_hashes.tolist()))


def test_the_hash_is_of_the_content_and_not_of_its_form(tmp_path: Path) -> None:
    def loaded(path: Path) -> Data:
        datasets._load.cache_clear()
        return dataset(path).load()

    first = loaded(write(tmp_path))
    np.savez(tmp_path / "stored.npz", **GOOD)  # type: ignore[arg-type]
    assert loaded(tmp_path / "stored.npz").split_hash == first.split_hash
    forms = {
        "x_train": [
            np.asfortranarray(TRAIN),
            TRAIN[..., None],
            np.asfortranarray(TRAIN[..., None]),
            TRAIN.transpose(2, 1, 0).T,
        ],
        "y_train": [GOOD["y_train"].astype(kind) for kind in (">i8", ">u2", np.uint8, np.uint64)] + [GOOD["y_train"][:, None]],
    }
    for key, others in forms.items():
        for other in others:
            again = loaded(write(tmp_path, **{key: other}))
            assert again.content_hash == first.content_hash
            assert again.split_hash == first.split_hash
            assert again.train.images.tobytes() == first.train.images.tobytes()
    moved = TRAIN.copy()
    moved[0, 0, 0] ^= 1
    assert loaded(write(tmp_path, x_train=moved)).content_hash != first.content_hash
