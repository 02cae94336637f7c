"""Damaged and hostile data files: every one is read, or refused by one ConfigError, in bounded time and memory."""

from __future__ import annotations

import gzip
import io
import resource
import struct
import tarfile
import time
import zipfile
import zlib
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from fuzzing import corpus, damaged, fuzz
from hypothesis import strategies as st

from sweep.core.errors import ConfigError
from sweep.data import datasets
from sweep.data.augment import Augment
from sweep.data.datafiles import BATCHES, IDX
from sweep.data.datasets import Cifar10, Dataset, Mnist, OwnArrays

STILL = Augment(shift=0, flip=False)
FILES = {path.name: path for path in corpus("data")}
SECONDS, MIB = 20, 200


class SmallCifar10(Cifar10):
    """CIFAR-10 with one image a file."""

    records: ClassVar[int] = 1


def check(dataset: Dataset) -> None:
    datasets._load.cache_clear()
    began, before = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refused: ConfigError | None = None
    try:
        loaded = dataset.load()
    except ConfigError as error:
        refused = error
    else:
        assert loaded.train.images.dtype == np.uint8
        assert loaded.train.labels.max() < loaded.classes
    if refused is not None:
        assert refused.where in ("path", "max_gib", "test", "validation")
        assert "\n" not in str(refused)
        assert len(str(refused)) < 2000
        assert not isinstance(refused.__cause__, (TypeError, AttributeError, NameError)), "a mistake of the reader"
    assert time.monotonic() - began < SECONDS
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MIB << 10


def read(path: Path, kind: type[Dataset]) -> None:
    check(kind(path=str(path), validation=0.25, limit=None, augment=STILL))  # type: ignore[call-arg]


def answer(folder: Path, name: str, content: bytes) -> None:
    """Read content as what a file of the corpus of this name is: an .npz, a .tar.gz, or one idx file of four."""
    path = folder / name
    if name.endswith(".npz"):
        path.write_bytes(content)
        for kind in (OwnArrays, Mnist, SmallCifar10):
            read(path, kind)
    elif name.endswith(".tar.gz"):
        path.write_bytes(content)
        read(path, SmallCifar10)
    else:
        for key, whole in IDX.items():
            (folder / f"{whole}.gz").write_bytes(content if name.startswith(key) else FILES[f"{key}.gz"].read_bytes())
        read(folder, Mnist)


@pytest.mark.parametrize("name", FILES)
def test_every_file_of_the_corpus_is_answered(tmp_path: Path, name: str) -> None:
    answer(tmp_path, name, FILES[name].read_bytes())


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        *((f"{name}.npz", OwnArrays) for name in ("good", "fortran", "python2-header", "hostile-names")),
        *((f"{name}.tar.gz", SmallCifar10) for name in ("good", "pax-names", "gnu-names")),
    ],
)
def test_good_files_of_the_corpus_are_read(name: str, kind: type[Dataset]) -> None:
    path = str(FILES[name])
    assert kind(path=path, validation=0.25, limit=None, augment=STILL).load().classes in (3, 10)  # type: ignore[call-arg]


def resealed(content: bytes) -> bytes:
    """A zip archive whose checksums are those of its damaged members, so that the damage gets past them."""
    result = bytearray(content)
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            for member in archive.infolist():
                start = member.header_offset
                names = sum(struct.unpack("<HH", content[start + 26 : start + 30]))
                raw = content[start + 30 + names :][: member.compress_size]
                inflate = zlib.decompressobj(-15)
                whole = raw if member.compress_type == zipfile.ZIP_STORED else inflate.decompress(raw, 1 << 20)
                checksum = struct.pack("<I", zlib.crc32(whole[: member.file_size]))
                entry = content.rfind(b"PK\x01\x02", 0, content.rfind(member.filename.encode()))
                result[start + 14 : start + 18] = result[entry + 16 : entry + 20] = checksum
    except Exception:  # noqa: BLE001  broken beyond sealing
        return content
    return bytes(result)


@st.composite
def headers(draw: st.DrawFn) -> bytes:
    """An .npy with a header of any literals."""
    sizes = st.one_of(st.integers(-2, 70), st.sampled_from((True, 2**31, 2**63, 10**30, 1.0, None, "8")))
    shape: Any = draw(st.one_of(st.lists(sizes, max_size=6).map(tuple), sizes))
    kinds = ("|u1", "u1", "<i8", ">u2", "|O", "|b1", "|S0", "|V9", "<f4", "<c16", "<M8[s]", "<U3", "<f", "q9", "", ("u1", 3))
    descr: Any = draw(st.one_of(st.sampled_from(kinds), st.just([("a", "u1"), ("b", "|O")]), st.text(max_size=5)))
    header = {"descr": descr, "fortran_order": draw(st.sampled_from((False, True, 1, None))), "shape": shape}
    if draw(st.booleans()):
        header.pop(draw(st.sampled_from(tuple(header))))
    text = repr(header).encode("latin1", "replace") + b"\n"
    body = draw(st.sampled_from((b"", bytes(64), bytes(8 * 8 * 12), bytes(8 * 8 * 12 + 1))))
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + body


@st.composite
def archives(draw: st.DrawFn) -> tuple[str, bytes]:
    """A .npz with whole checksums: the arrays of a good one, some replaced by others, left out, doubled or renamed."""
    stream = io.BytesIO()
    with zipfile.ZipFile(FILES["good.npz"]) as good, zipfile.ZipFile(stream, "w") as made:
        for name in good.namelist():
            content = draw(st.one_of(st.just(good.read(name)), headers(), damaged([good.read(name)])))
            method = draw(st.sampled_from((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2)))
            called = draw(st.sampled_from((name, name, name, f"../{name}", name.upper(), f"{name}\n\x1b[31m")))
            made.writestr(called, content, method)
    return "made.npz", stream.getvalue()


@st.composite
def tars(draw: st.DrawFn) -> tuple[str, bytes]:
    """A .tar.gz with whole checksums: members of any kind, size and name before those of a good one."""
    raw = io.BytesIO()
    for _ in range(draw(st.integers(1, 3))):
        member = tarfile.TarInfo(draw(st.sampled_from((*BATCHES, "data_batch_1", "other", "é" * 40))))
        member.type = draw(st.sampled_from((b"0", b"\0", b"1", b"2", b"5", b"6", b"7", b"S", b"L", b"K", b"x", b"g", b"Z")))
        member.size = draw(st.sampled_from((0, 1, 512, 3073, 1 << 20, 1 << 40, -1)))
        raw.write(
            member.tobuf(tarfile.GNU_FORMAT) + draw(st.binary(max_size=64)).ljust(draw(st.sampled_from((0, 512, 3584))), b"1")
        )
    raw.write(gzip.decompress(FILES["good.tar.gz"].read_bytes()))
    return "made.tar.gz", gzip.compress(raw.getvalue(), 1)


@st.composite
def copies(draw: st.DrawFn) -> tuple[str, bytes]:
    """A damaged copy of a file of the corpus; of a compressed one also what is inside, compressed again."""
    name = draw(st.sampled_from(sorted(FILES)))
    content = FILES[name].read_bytes()
    if name.endswith(".gz") and draw(st.booleans()):
        try:
            inside = gzip.decompress(content)
        except (OSError, EOFError, zlib.error):
            return name, draw(damaged([content]))
        return name, gzip.compress(draw(damaged([inside[: 1 << 16]])), 1)
    changed = draw(damaged([content]))
    return name, resealed(changed) if name.endswith(".npz") and draw(st.booleans()) else changed


@pytest.mark.slow
def test_damaged_files_are_answered(tmp_path: Path) -> None:
    fuzz(st.one_of(copies(), archives(), tars()), lambda made: answer(tmp_path, *made))
