"""Hostile and broken data files: regular files only, nothing inflated that could not be used, one line that names the file."""

from __future__ import annotations

import gzip
import io
import os
import resource
import socket
import struct
import tarfile
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from sweep.core.errors import ConfigError
from sweep.core.types import Array
from sweep.data import archives, datasets
from sweep.data.augment import Augment
from sweep.data.datafiles import BATCHES, IDX
from sweep.data.datasets import Cifar10, Dataset, Mnist, OwnArrays

STILL = Augment(shift=0, flip=False)


class SmallCifar10(Cifar10):
    """CIFAR-10 with four images a file."""

    records: ClassVar[int] = 4


@pytest.fixture(autouse=True)
def forget_loaded() -> None:
    datasets._load.cache_clear()


def read(kind: type[Dataset], path: Path | str, **changes: Any) -> Dataset:
    return kind(**({"path": str(path), "validation": 0.25, "limit": None, "augment": STILL} | changes))


def refusal(dataset: Dataset) -> ConfigError:
    """The error of a file that is refused in bounded time and memory."""
    began, before = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ConfigError) as caught:
        dataset.load()
    assert time.monotonic() - began < 20
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10
    assert "\n" not in str(caught.value)
    return caught.value


def arrays(shape: tuple[int, ...] = (8, 8), classes: int = 3) -> dict[str, Array]:
    random = np.random.default_rng(0)
    return {
        "x_train": random.integers(0, 256, (60, *shape), np.uint8),
        "y_train": np.arange(60) % classes,
        "x_test": random.integers(0, 256, (12, *shape), np.uint8),
        "y_test": np.arange(12) % classes,
    }


# --- What is no regular file -----------------------------------------------------------------------------------------


def make_fifo(path: Path) -> None:
    os.mkfifo(path)


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (make_fifo, "a FIFO"),
        (make_socket, "a socket"),
        (lambda path: path.symlink_to("/dev/zero"), "a character device"),
        (lambda path: path.symlink_to(path), "Too many levels of symbolic links"),
        (lambda path: path.symlink_to("absent"), "a link to what does not exist"),
    ],
)
@pytest.mark.parametrize("kind", [OwnArrays, Mnist, Cifar10])
@pytest.mark.parametrize("name", ["data", "data.npz", "data.tar.gz"])
def test_only_regular_files_and_folders_are_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[Path], None], said: str, kind: type[Dataset], name: str
) -> None:
    monkeypatch.chdir(tmp_path)  # the name of a socket is short
    make(Path(name))
    error = refusal(read(kind, name))
    assert error.where == "path"
    assert said in str(error.received)


@pytest.mark.parametrize("make", [make_fifo, lambda path: path.symlink_to("/dev/zero"), lambda path: path.mkdir()])
@pytest.mark.parametrize(("kind", "name"), [(Mnist, IDX["x_train"]), (Mnist, f"{IDX['x_train']}.gz"), (Cifar10, BATCHES[0])])
def test_in_a_folder_too(tmp_path: Path, make: Callable[[Path], None], kind: type[Dataset], name: str) -> None:
    make(tmp_path / name)
    assert str(tmp_path / name) in str(refusal(read(kind, tmp_path)).received)


def test_a_folder_is_no_npz(tmp_path: Path) -> None:
    assert str(refusal(read(OwnArrays, tmp_path)).received) == f"{tmp_path}, a folder"


@pytest.mark.parametrize("path", ["/dev/zero", "/proc/self/mem", "/proc/self/pagemap", "/proc/kmsg"])
def test_files_of_the_kernel(path: str) -> None:
    if not os.path.exists(path):  # noqa: PTH110  a device is not looked at
        pytest.skip("not on this system")
    assert path in str(refusal(read(OwnArrays, path)).received)


# --- .npz ------------------------------------------------------------------------------------------------------------


def npy(header: object, body: bytes = b"", version: int = 1) -> bytes:
    """An .npy with any header: a mapping's text, or bytes."""
    text = header if isinstance(header, bytes) else repr(header).encode()
    length = struct.pack("<H" if version == 1 else "<I", len(text))
    return b"\x93NUMPY" + bytes((version, 0)) + length + text + body


def head(shape: object, descr: object = "|u1") -> dict[str, object]:
    return {"descr": descr, "fortran_order": False, "shape": shape}


def members() -> dict[str, bytes]:
    contents = {}
    for key, array in arrays().items():
        stream = io.BytesIO()
        np.save(stream, array)
        contents[f"{key}.npy"] = stream.getvalue()
    return contents


def write_npz(path: Path, changes: Mapping[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in (members() | changes).items():
            archive.writestr(name, content)
    return path


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (npy(head((10**9, 8, 8))), "which has 0 bytes for x_train, uint8 (1000000000, 8, 8)"),
        (npy(head((10**30, 8, 8))), "no header of a .npy for x_train"),
        (npy(head((-60, 8, -8)), bytes(3840)), "uint8 (-60, 8, -8)"),
        (npy(head((60, 8, 8)), bytes(3839)), "which has 3839 bytes for x_train"),
        (npy(head((60, 8, 8)), bytes(3841)), "which has 3841 bytes for x_train"),
        (npy(head((1,) * 3000), bytes(1)), "uint8 (1, 1, 1"),
        (npy(head((60, 8, 8), "|O"), bytes(3840)), "pickled"),
        (npy(head((60,), [("a", [("b", "|O")])]), bytes(60)), "pickled"),
        (npy(head((60, 8, 8), "|V1000000000")), "which has 0 bytes"),
        (npy(head((60, 8, 8)), bytes(3840), 3), "no header of a .npy for x_train"),
        (npy(b"(" * 9000), "no header of a .npy for x_train"),
        (npy(b"-" * 9000 + b"1"), "no header of a .npy for x_train"),
        (npy(b"1" * 60_000), "no header of a .npy for x_train"),
        (npy(b"{'descr': '|u1', 'fortran_order': False, 'shape': (0x" + b"f" * 8000 + b",)}"), "x_train"),
        (b"\x93NUMPY\x02\x00\xff\xff\xff\xff", "no header of a .npy for x_train"),
        (b"PK\x05\x06" + bytes(18), "no header of a .npy for x_train"),
        (b"", "no header of a .npy for x_train"),
    ],
)
def test_an_array_that_is_none(tmp_path: Path, content: bytes, said: str) -> None:
    path = write_npz(tmp_path / "a.npz", {"x_train.npy": content})
    error = refusal(read(OwnArrays, path))
    assert error.where == "path"
    assert str(path) in str(error.received)
    assert said in str(error.received)
    assert len(str(error)) < 600


@pytest.mark.parametrize(
    "content",
    [
        npy(head((60, 8, 8)), os.urandom(3840), 2),
        npy(b"{'descr': '|u1', 'fortran_order': False, 'shape': (60L, 8L, 8L), }", os.urandom(3840)),  # by Python 2
    ],
)
def test_unusual_headers_are_read(tmp_path: Path, content: bytes) -> None:
    assert read(OwnArrays, write_npz(tmp_path / "a.npz", {"x_train.npy": content})).load().input_shape == (8, 8, 1)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_compressions_that_numpy_does_not_write_are_refused(tmp_path: Path, method: int) -> None:
    assert f"method {method}" in str(refusal(read(OwnArrays, write_npz(tmp_path / "a.npz", {}, method))).received)


def test_an_array_that_is_there_twice(tmp_path: Path) -> None:
    path = write_npz(tmp_path / "a.npz", {})
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("x_train.npy", members()["x_train.npy"])
    assert "x_train.npy 2 times" in str(refusal(read(OwnArrays, path)).received)


def entry(raw: bytes, name: str) -> int:
    """Where the central directory's entry of a member begins."""
    return raw.rfind(b"PK\x01\x02", 0, raw.rfind(name.encode()))


def test_an_encrypted_array(tmp_path: Path) -> None:
    path = write_npz(tmp_path / "a.npz", {})
    raw = bytearray(path.read_bytes())
    raw[entry(raw, "y_test.npy") + 8] |= 1
    path.write_bytes(raw)
    assert "y_test is encrypted" in str(refusal(read(OwnArrays, path)).received)


@pytest.mark.parametrize("claimed", [2**32 - 2, 3840 + 128, 100])
def test_sizes_that_lie(tmp_path: Path, claimed: int) -> None:
    bomb = npy(head((60, 8, 8)), bytes(1 << 25))
    path = write_npz(tmp_path / "a.npz", {"x_train.npy": bomb})
    assert path.stat().st_size < 1 << 16
    raw = bytearray(path.read_bytes())
    start = entry(raw, "x_train.npy") + 24
    raw[start : start + 4] = struct.pack("<I", claimed)
    path.write_bytes(raw)
    assert "x_train" in str(refusal(read(OwnArrays, path)))


def test_an_array_that_inflates_to_more_than_it_declares(tmp_path: Path) -> None:
    path = write_npz(tmp_path / "a.npz", {"x_train.npy": npy(head((60, 8, 8)), bytes(1 << 27))})
    assert f"which has {1 << 27} bytes for x_train, uint8 (60, 8, 8)" in str(refusal(read(OwnArrays, path)).received)


def test_arrays_beyond_the_limit_are_not_inflated(tmp_path: Path) -> None:
    count = (1 << 27) // 64
    path = tmp_path / "a.npz"
    labels = npy(head((count,), "|u1"), bytes(count))
    write_npz(path, {"x_train.npy": npy(head((count, 8, 8)), bytes(1 << 27)), "y_train.npy": labels})
    error = refusal(read(OwnArrays, path, max_gib=0.1))
    assert (error.where, error.received) == ("max_gib", 0.1)
    assert error.expected == f"at least 0.13, the GiB of the arrays in {path} (x_train is uint8 ({count}, 8, 8))"


@pytest.mark.parametrize("max_gib", [0, -1, None, "4", float("nan"), float("inf"), True])
@pytest.mark.parametrize("kind", [OwnArrays, Mnist, Cifar10])
def test_limits_that_are_none(kind: type[Dataset], max_gib: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        read(kind, "a.npz", max_gib=max_gib)
    assert caught.value.where == "max_gib"


def test_a_table_of_many_members(tmp_path: Path) -> None:
    path = write_npz(tmp_path / "a.npz", {f"member-{number:020}": b"" for number in range(15_000)})
    assert "a table of more than 1 MiB" in str(refusal(read(OwnArrays, path)).received)


def test_a_table_that_claims_to_be_huge(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    with path.open("wb") as stream:  # sparse
        stream.write(b"PK\x03\x04")
        stream.seek(8 << 30)
        stream.write(struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 4, 4, 0xFFFFFFF0, 0, 0))
    assert "a table of more than 1 MiB" in str(refusal(read(OwnArrays, path)).received)


def test_names_out_of_an_archive_are_not_printed_as_they_are(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write_npz(tmp_path / "a.npz", {"../../evil\x1b[31m\n.npy": b"", **{f"{number}.npy": b"" for number in range(9)}})
    read(OwnArrays, path).load()
    assert r"../../evil\x1b[31m\n, 0, 1, 2, 3, 4 and 4 more in it is not read" in caplog.text


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.npy", b"\x93NUMPY\x01\x00", "an .npy with one array"),
        ("a.csv", b"1,2,3", "which is no .npz"),
        ("a.pkl", b"\x80\x04.", "which is no .npz"),
        ("a.npz", b"", "which is no .npz"),
        ("b.npz", b"PK\x03\x04" + bytes(100), "whose end is missing"),
    ],
)
def test_what_people_take_for_an_npz(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    (tmp_path / name).write_bytes(content)
    assert str(refusal(read(OwnArrays, tmp_path / name)).received) == f"{tmp_path / name}, {said}"


def test_suffixes_in_capitals(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", **arrays((28, 28), 10))  # type: ignore[arg-type]
    (tmp_path / "a.npz").rename(tmp_path / "A.NPZ")
    assert len(read(Mnist, tmp_path / "A.NPZ").load().test) == 12


# --- idx -------------------------------------------------------------------------------------------------------------


def idx(array: Array) -> bytes:
    sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
    return bytes((0, 0, 8, array.ndim)) + sizes + array.astype(np.uint8).tobytes()


def write_idx(folder: Path, **changes: bytes) -> Path:
    contents = {key: gzip.compress(idx(array)) for key, array in arrays((28, 28), 10).items()} | changes
    for key, content in contents.items():
        (folder / f"{IDX[key]}.gz").write_bytes(content)
    return folder


def images() -> bytes:
    return idx(arrays((28, 28), 10)["x_train"])


def huge(*shape: int) -> bytes:
    return bytes((0, 0, 8, len(shape))) + b"".join(size.to_bytes(4, "big") for size in shape)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (lambda: gzip.compress(images() + bytes(1 << 28)), "goes on beyond its end"),
        (lambda: gzip.compress(huge(2**32 - 1, 28, 28)), "uint8 (60,)"),
        (lambda: gzip.compress(images()) + b"more", "goes on beyond its end"),
        (lambda: gzip.compress(images()) + bytes(3 << 20), "goes on beyond its end"),
        (lambda: gzip.compress(images())[:-5], "ends too early"),
        (lambda: gzip.compress(images())[:500], "ends too early"),
        (lambda: gzip.compress(images())[:-8] + bytes(8), "broken"),
        (images, "is no .gz"),
        (lambda: b"", "is no .gz"),
        (lambda: gzip.compress(b"") * 17_000, "more than 16384 members"),
    ],
)
def test_an_idx_file_that_is_none(tmp_path: Path, content: Callable[[], bytes], said: str) -> None:
    error = refusal(read(Mnist, write_idx(tmp_path, x_train=content())))
    assert error.where == "path"
    assert str(tmp_path) in str(error.received)
    assert said in str(error.received)


def test_an_idx_file_beyond_the_limit(tmp_path: Path) -> None:
    folder = write_idx(tmp_path, x_train=gzip.compress(huge(1 << 23, 28, 28)), y_train=gzip.compress(huge(1 << 23)))
    error = refusal(read(Mnist, folder))
    assert (error.where, error.received) == ("max_gib", 4)


def test_a_gzip_file_of_several_members_with_zeros_behind_it(tmp_path: Path) -> None:
    whole = images()
    pieces = gzip.compress(whole[:100]) + gzip.compress(b"") + gzip.compress(whole[100:]) + bytes(512)
    loaded = read(Mnist, write_idx(tmp_path, x_train=pieces)).load()
    assert len(loaded.train) + len(loaded.validation) == 60


@pytest.mark.parametrize("size", [1, 7, 1000, 1 << 20])
def test_inflating_equals_gzip(size: int) -> None:
    whole = np.random.default_rng(0).integers(0, 4, 1 << 18, np.uint8).tobytes() + bytes(1 << 18)
    stream = archives.open_gzip(io.BytesIO(gzip.compress(whole[:1000]) + gzip.compress(whole[1000:])))
    found = b"".join(iter(lambda: stream.read(size), b"")) if size > 1 else stream.read(999) + stream.read()
    assert found == whole
    assert stream.tell() == len(whole)


# --- .tar.gz ---------------------------------------------------------------------------------------------------------


def batches() -> dict[str, bytes]:
    random = np.random.default_rng(0)
    return {
        name: b"".join(bytes([label]) + random.bytes(3072) for label in range(number, number + 4))
        for number, name in enumerate(BATCHES)
    }


def write_tar(path: Path, files: Iterator[tuple[str, bytes]], form: int = tarfile.GNU_FORMAT) -> Path:
    with tarfile.open(path, "w:gz", format=form) as archive:
        for name, content in files:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("folder", ["", "/", "../../", "x" * 200 + "é/", "x" * 95 + "/"])
def test_every_form_of_tar(tmp_path: Path, form: int, folder: str) -> None:
    path = write_tar(tmp_path / "a.tar.gz", ((folder + name, content) for name, content in batches().items()), form)
    loaded = read(SmallCifar10, path).load()
    assert loaded.test.labels.tolist() == [5, 6, 7, 8]
    assert [name.name for name in tmp_path.iterdir()] == ["a.tar.gz"]


def raw_member(name: str, kind: bytes, size: int, content: bytes = b"") -> bytes:
    member = tarfile.TarInfo(name)
    member.type, member.size = kind, size
    return member.tobuf(tarfile.GNU_FORMAT) + content + bytes(-len(content) % 512)


@pytest.mark.parametrize(
    ("start", "said"),
    [
        (lambda: raw_member("huge", tarfile.REGTYPE, 1 << 40), "inflates to more than 256 MiB"),
        (lambda: raw_member("huge", tarfile.REGTYPE, 1 << 28, bytes(1 << 28)), "inflates to more than 256 MiB"),
        (lambda: raw_member("negative", tarfile.REGTYPE, -(1 << 40)), "inflates to more than 256 MiB"),
        (lambda: raw_member("long", tarfile.XHDTYPE, 1 << 27), "too long a name"),
        (lambda: raw_member("long", tarfile.GNUTYPE_LONGNAME, 1 << 27), "too long a name"),
        (lambda: raw_member(BATCHES[0], tarfile.REGTYPE, 1 << 26, bytes(1 << 26)), f"{BATCHES[0]}, which has 67108864 bytes"),
        (lambda: raw_member(BATCHES[0], tarfile.REGTYPE, 12292, bytes(12292)), f"{BATCHES[0]}, which is in the archive twice"),
        (lambda: raw_member(BATCHES[0], tarfile.LNKTYPE, 12292), "is a link"),
        (lambda: raw_member(BATCHES[0], tarfile.FIFOTYPE, 0), "or no file at all"),
        (lambda: raw_member(BATCHES[0], tarfile.GNUTYPE_SPARSE, 12292, bytes(12292)), "or no file at all"),
        (lambda: raw_member("empty", tarfile.REGTYPE, 0) * 10_001, "more than 10000 members"),
        (lambda: raw_member("x", tarfile.XHDTYPE, 60_000, b"1" * 60_000) * 30 + b"1", "broken"),
        (lambda: b"no archive" * 100, "broken"),
    ],
)
def test_an_archive_that_is_none(tmp_path: Path, start: Callable[[], bytes], said: str) -> None:
    whole = gzip.decompress(write_tar(tmp_path / "a.tar.gz", iter(batches().items())).read_bytes())
    with gzip.open(tmp_path / "a.tar.gz", "wb", compresslevel=1) as archive:
        archive.write(start() + whole)
    error = refusal(read(SmallCifar10, tmp_path / "a.tar.gz"))
    assert error.where == "path"
    assert said in str(error.received)
    assert str(tmp_path / "a.tar.gz") in str(error.received)


def test_an_archive_in_an_archive(tmp_path: Path) -> None:
    inner = write_tar(tmp_path / "inner.tar.gz", iter(batches().items()))
    outer = write_tar(tmp_path / "outer.tar.gz", iter({"cifar-10-binary.tar.gz": inner.read_bytes()}.items()))
    assert f"without {BATCHES[0]}" in str(refusal(read(SmallCifar10, outer)).received)


def test_a_file_of_a_folder_that_is_too_long(tmp_path: Path) -> None:
    for name, content in batches().items():
        (tmp_path / name).write_bytes(content)
    os.truncate(tmp_path / BATCHES[2], 1 << 40)
    assert f"{BATCHES[2]}, which goes on beyond its end" in str(refusal(read(SmallCifar10, tmp_path)).received)
