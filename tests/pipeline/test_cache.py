"""The stage cache: keys, damage, full disks, and two processes that want one entry."""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweep.cache import main
from sweep.pipeline import cache
from sweep.pipeline.cache import Cache, canonical, digest
from sweep.pipeline.cache_entry import Entry

ARRAYS = {"weights": np.arange(6.0).reshape(2, 3), "text": np.array("{}"), "none": np.zeros((0, 2), bool)}


@dataclass(frozen=True)
class Stage:
    sparsity: float
    name: str = "a"


@dataclass(frozen=True)
class Other(Stage):
    pass


class Colour(Enum):
    RED = "red"


def never():
    raise AssertionError("computed again")


leaves = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
plain = st.recursive(leaves, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8)


@given(st.dictionaries(st.text(), plain, min_size=1, max_size=4))
def test_a_key_does_not_feel_the_order_of_its_names(key):
    assert digest(key) == digest(dict(reversed(key.items())))


@given(st.dictionaries(st.text(), plain, max_size=3), st.text(), leaves, leaves)
def test_a_key_feels_every_leaf(key, name, one, two):
    def plain(value):
        return repr(int(value) if isinstance(value, float) and value.is_integer() else value)

    assert (digest({**key, name: [one]}) == digest({**key, name: [two]})) == (plain(one) == plain(two))


def test_a_key_feels_the_class_and_every_field_of_a_stage():
    stage = Stage(0.5)
    others = [replace(stage, sparsity=0.6), replace(stage, name="b"), Other(0.5)]
    assert digest(stage) == digest(Stage(0.5))
    assert len({digest(value) for value in (stage, *others)}) == 4
    assert canonical({"a": (Colour.RED, [1])}) == {"a": ["red", [1]]}
    with pytest.raises(TypeError, match="ndarray has no canonical form"):
        digest(np.zeros(2))


def test_what_is_kept_comes_back_to_the_bit(tmp_path):
    first = Cache(tmp_path).fetch({"stage": Stage(0.5)}, lambda: ARRAYS)
    again = Cache(tmp_path).fetch({"stage": Stage(0.5)}, never)
    assert (first.reused, again.reused) == (False, True)
    assert again.seconds == first.seconds
    assert again.arrays.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(again.arrays[name], array)
        assert again.arrays[name].dtype == array.dtype


def test_a_failed_computation_leaves_nothing_behind(tmp_path):
    with pytest.raises(ZeroDivisionError):
        Cache(tmp_path).fetch({"a": 1}, lambda: {"x": np.array(1 / 0)})
    assert not list(Cache(tmp_path).entries())
    assert not Cache(tmp_path).fetch({"a": 1}, lambda: ARRAYS).reused


@pytest.mark.parametrize("where", [0, 10, 64, 65, 200, -1])
def test_a_damaged_entry_is_computed_again(tmp_path, where, caplog):
    store = Cache(tmp_path)
    store.fetch({"a": 1}, lambda: ARRAYS)
    [path] = store.entries()
    content = bytearray(path.read_bytes())
    content[where] ^= 1
    path.write_bytes(content)
    assert not store.fetch({"a": 1}, lambda: ARRAYS).reused
    assert "damaged" in caplog.text
    assert store.fetch({"a": 1}, never).reused


@pytest.mark.parametrize("length", [0, 1, 64, 65, 300])
def test_a_truncated_entry_is_computed_again(tmp_path, length):
    store = Cache(tmp_path)
    store.fetch({"a": 1}, lambda: ARRAYS)
    [path] = store.entries()
    path.write_bytes(path.read_bytes()[:length])
    assert not store.fetch({"a": 1}, lambda: ARRAYS).reused
    assert store.fetch({"a": 1}, never).reused


def test_a_full_disk_costs_the_entry_and_not_the_result(tmp_path, caplog, monkeypatch):
    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache.os, "fsync", full)
    hit = Cache(tmp_path).fetch({"a": 1}, lambda: ARRAYS)
    assert hit.arrays is ARRAYS
    assert "No space left" in caplog.text
    assert not list(tmp_path.rglob("*.entry")) + list(tmp_path.rglob("*.aside"))


@pytest.mark.slow
def test_two_processes_compute_an_entry_once(tmp_path):
    script = (
        "import sys, time, numpy as np; from pathlib import Path; from sweep.pipeline.cache import Cache\n"
        "def compute():\n"
        "    time.sleep(1); open(sys.argv[2], 'a').write('x'); return {'a': np.ones(3)}\n"
        "print(Cache(Path(sys.argv[1])).fetch({'a': 1}, compute).reused)"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "cache"), str(tmp_path / "count")]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    told = sorted(process.communicate(timeout=60)[0].strip() for process in processes)
    assert told == ["False", "True", "True"]
    assert (tmp_path / "count").read_text() == "x"


@pytest.mark.slow
def test_a_killed_computation_blocks_nobody(tmp_path):
    script = (
        "import sys, time; from pathlib import Path; from sweep.pipeline.cache import Cache\n"
        "def compute():\n"
        "    print('begun', flush=True); time.sleep(60)\n"
        "Cache(Path(sys.argv[1])).fetch({'a': 1}, compute)"
    )
    process = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    with process:
        assert process.stdout.readline() == "begun\n"
        process.kill()
    assert not Cache(tmp_path).fetch({"a": 1}, lambda: ARRAYS).reused


def test_the_command_lists_shrinks_and_empties(tmp_path, capsys):
    store = Cache(tmp_path)
    for number in range(3):
        store.fetch({"stage": Stage(number / 10)}, lambda: {"x": np.zeros(1000)})
    oldest = next(store.entries())
    assert main(["ls", "--store", str(tmp_path)]) == 0
    listed = capsys.readouterr().out.splitlines()
    assert listed[0].startswith(oldest.stem[:12])
    assert listed[0].endswith("Stage")
    assert listed[-1].startswith("3 entries")
    Cache(tmp_path / "other").fetch({"code": 1, "float file of": 2}, lambda: ARRAYS)
    assert main(["ls", "--store", str(tmp_path / "other")]) == 0
    assert capsys.readouterr().out.splitlines()[0].endswith("float file")
    left = sum(path.stat().st_size for path in store.entries()) - 1
    main(["gc", "--store", str(tmp_path), "--max-gib", str(left / 2**30)])
    assert not oldest.exists()
    assert len(list(store.entries())) == 2
    main(["clear", "--store", str(tmp_path)])
    assert capsys.readouterr().out.splitlines()[-1].startswith("0 entries")
    assert main(["ls", "--store", str(Path(tmp_path) / "absent")]) == 0


def the_entry(store: Cache) -> Path:
    """The file of the entry that the store keeps under {"a": 1}."""
    store.fetch({"a": 1}, lambda: ARRAYS)
    [path] = store.entries()
    return path


def sealed(body: bytes) -> bytes:
    """A body under a checksum that fits it."""
    return hashlib.sha256(body).hexdigest().encode() + b"\n" + body


def archive(**arrays) -> bytes:
    """An entry's content, checksum and all, with these arrays only."""
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return sealed(buffer.getvalue())


def zipped(content: bytes, compression: int = zipfile.ZIP_STORED, name: str = "key.npy") -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as file:
        file.writestr(name, content)
    return sealed(buffer.getvalue())


def npy(header: str) -> bytes:
    """An array's header, without its data."""
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode()


STORED = b"PK\x01\x02\x14\x03\x14\x00\x00\x00\x00\x00"  # how the directory says that a file is not compressed
FACTS = {"key": np.array('{"a": 1}'), "seconds": np.array(1.0)}
FORM = np.array('{"weights": ["<f8", [2, 3]], "text": ["<U2", []], "none": ["|b1", [0, 2]]}')
CONTENTS = {
    "nothing": b"",
    "a pickle": sealed(pickle.dumps({"a": 1})),
    "an object array": archive(**FACTS, form=FORM, weights=np.array([{}], object)),
    "no arrays at all": archive(),
    "no arrays of its own": archive(**FACTS),
    "fewer arrays than were kept": archive(**FACTS, form=FORM),
    "arrays of another type": archive(**FACTS, form=FORM, weights=np.zeros((2, 3), "i1"), text=np.zeros(()), none=np.zeros(0)),
    "no key": archive(seconds=np.array(1.0), form=np.array("{}")),
    "seconds that are a text": archive(**FACTS | {"seconds": np.array("x")}, form=np.array("{}")),
    "seconds that are no number": archive(**FACTS | {"seconds": np.array(np.nan)}, form=np.array("{}")),
    "a bomb": zipped(bytes(1 << 24), zipfile.ZIP_DEFLATED),
    "an array of a petabyte": zipped(npy("{'descr': '<f8', 'fortran_order': False, 'shape': (125000000000000,)}\n")),
    "an array of negative sizes": zipped(npy("{'descr': '<f8', 'fortran_order': False, 'shape': (-1, -1)}\n") + bytes(8)),
    "a header without an end": zipped(npy("(" * 9000)),
    "an unknown compression": sealed(zipped(b"x")[65:].replace(STORED, STORED[:-2] + b"\x63\x00")),
}  # fmt: skip


@pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS)
def test_what_is_no_entry_is_computed_again_and_replaced_and_told_once(tmp_path, content, caplog):
    store = Cache(tmp_path)
    path = the_entry(store)
    path.write_bytes(content)
    assert not store.holds({"a": 1})
    assert not store.fetch({"a": 1}, lambda: ARRAYS).reused
    assert [record.message.count("damaged") for record in caplog.records] == [1]
    assert store.holds({"a": 1})
    assert store.fetch({"a": 1}, never).reused


def in_place(path: Path, kind: str) -> None:
    """Put something in a file's place that is none."""
    path.unlink(missing_ok=True)
    match kind:
        case "folder":
            path.mkdir()
        case "full folder":
            (path / "more").mkdir(parents=True)
            (path / "more" / "file").touch()
        case "pipe":
            os.mkfifo(path)
        case "dangling link":
            path.symlink_to("nowhere")
        case "loop":
            path.symlink_to(path.name)
        case "link to a folder":
            path.symlink_to("..")
        case "device":
            path.symlink_to("/dev/zero")


PLACES = ("folder", "full folder", "pipe", "dangling link", "loop", "link to a folder", "device")


@pytest.mark.parametrize("kind", PLACES)
def test_what_is_no_file_is_replaced(tmp_path, kind):
    store = Cache(tmp_path)
    path = the_entry(store)
    in_place(path, kind)
    assert not store.holds({"a": 1})
    assert not store.fetch({"a": 1}, lambda: ARRAYS).reused
    assert store.fetch({"a": 1}, never).reused
    assert path.is_file()
    assert not path.is_symlink()


@pytest.mark.parametrize("kind", PLACES)
def test_what_is_no_lock_costs_the_lock(tmp_path, kind):
    store = Cache(tmp_path)
    path = the_entry(store)
    path.unlink()
    in_place(path.with_suffix(".lock"), kind)
    assert not store.fetch({"a": 1}, lambda: ARRAYS).reused
    assert store.fetch({"a": 1}, never).reused


def test_an_entry_in_anothers_place_is_not_believed(tmp_path, caplog):
    store = Cache(tmp_path)
    path = the_entry(store)
    other = store.fetch({"a": 2}, lambda: {**ARRAYS, "weights": np.zeros((2, 3))})
    [foreign] = set(store.entries()) - {path}
    path.write_bytes(foreign.read_bytes())
    assert not store.holds({"a": 1})
    hit = store.fetch({"a": 1}, lambda: ARRAYS)
    assert "another result's" in caplog.text
    assert not hit.reused
    assert (store.fetch({"a": 1}, never).arrays["weights"] == ARRAYS["weights"]).all()
    assert (store.fetch({"a": 2}, never).arrays["weights"] == other.arrays["weights"]).all()


def refuse(monkeypatch, owner, name, error):
    def refusal(*args, **kwargs):
        raise error

    monkeypatch.setattr(owner, name, refusal)


def test_an_entry_that_may_not_be_read_is_replaced(tmp_path, monkeypatch):
    store = Cache(tmp_path)
    the_entry(store)
    with monkeypatch.context() as patched:
        refuse(patched, Path, "read_bytes", PermissionError(13, "Permission denied"))
        assert not store.fetch({"a": 1}, lambda: ARRAYS).reused
    assert store.fetch({"a": 1}, never).reused


def test_what_cannot_be_replaced_is_gone_on_without_and_told_once(tmp_path, monkeypatch, caplog):
    store = Cache(tmp_path)
    in_place(the_entry(store), "full folder")
    refuse(monkeypatch, shutil, "rmtree", PermissionError(13, "Permission denied"))
    for _ in range(3):
        assert not store.fetch({"a": 1}, lambda: ARRAYS).reused
    assert len(caplog.records) == 2  # that it is damaged, and that it cannot be kept
    assert not list(tmp_path.rglob("*.aside"))


def test_a_store_that_is_only_read_is_read(tmp_path, monkeypatch, caplog):
    store = Cache(tmp_path)
    the_entry(store)
    read_only = OSError(30, "Read-only file system")
    for owner, name in ((os, "utime"), (Path, "mkdir"), (os, "open")):
        refuse(monkeypatch, owner, name, read_only)
    assert store.fetch({"a": 1}, never).reused
    for number in (2, 3, 4):
        assert not store.fetch({"a": number}, lambda: ARRAYS).reused
    assert len(caplog.records) == 2  # no lock, nothing kept
    assert "Read-only file system" in caplog.text


@pytest.mark.parametrize("place", ["", "parent"])
def test_a_file_in_the_stores_place_costs_what_is_kept(tmp_path, place, caplog):
    folder = tmp_path / "cache"
    if place:
        parent = folder / digest({"a": 1})[:2]
        folder.mkdir()
        parent.touch()
    else:
        folder.touch()
    for _ in range(2):
        assert not Cache(folder).fetch({"a": 1}, lambda: ARRAYS).reused
        assert Cache(folder).fetch_unless_busy({"a": 1}, lambda: ARRAYS).arrays is ARRAYS
    assert not Cache(folder).holds({"a": 1})


@pytest.fixture
def littered(tmp_path):
    """A store with an entry, and with all that is none in the places of entries and of what is left behind."""
    store = Cache(tmp_path)
    folder = the_entry(store).parent
    for number, content in enumerate(CONTENTS.values()):
        (folder / f"{number:064x}.entry").write_bytes(content)
    for kind in PLACES:
        for ending in ("entry", "lock", "aside"):
            in_place(folder / f"{kind}.{ending}", kind)
    (folder / "a\nb\x1b[2J\udcff.entry").touch()
    (folder / f"{0:064x}.entry").write_bytes(Entry('{"stage": {"class": "a.\\n\\ud800"}}', 1.0, {}).to_bytes())
    return store, tmp_path


def test_the_command_shows_what_is_damaged(littered, capsys):
    store, folder = littered
    assert main(["ls", "--store", str(folder)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(list(store.entries())) + 1
    assert sum(line.endswith("damaged") for line in lines) == len(CONTENTS) - 1 + len(PLACES) + 1
    assert all(line.isprintable() for line in lines)


def test_the_command_shrinks_and_empties_what_is_damaged(littered, capsys):
    store, folder = littered
    assert main(["gc", "--store", str(folder)]) == 0
    assert all(path.is_file() and not path.is_symlink() for path in store.entries())
    assert store.fetch({"a": 1}, never).reused
    assert main(["clear", "--store", str(folder)]) == 0
    assert not list(folder.glob("??/*"))
    assert capsys.readouterr().err == ""


def test_what_cannot_be_removed_is_told_and_the_rest_removed(tmp_path, capsys, monkeypatch):
    store = Cache(tmp_path)
    in_place(the_entry(store).with_name("x.entry"), "full folder")
    refuse(monkeypatch, shutil, "rmtree", PermissionError(13, "Permission denied"))
    assert main(["clear", "--store", str(tmp_path)]) == 1
    assert len(list(store.entries())) == 1
    assert capsys.readouterr().err.startswith("error: could not remove")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["gc", "--max-gib", "nan"], "error: --max-gib: expected a number of at least 0; received nan"),
        (["gc", "--max-gib", "-1"], "error: --max-gib: expected a number of at least 0; received -1.0"),
        (["gc", "--max-gib=inf"], "error: --max-gib: expected a number of at least 0; received inf"),
        (["gc", "--max-gib", "a\nb"], "error: argument --max-gib: invalid float value: 'a\\nb'"),
        (["gc", "--colour\nred"], "error: unrecognized arguments: --colour red"),
        (["list"], "error: argument action: invalid choice: 'list' (choose from 'ls', 'gc', 'clear')"),
        ([], "error: the following arguments are required: action"),
        (["ls", "--store", __file__], f"error: --store: expected a folder; received {__file__}"),
    ],
)
def test_a_mistake_gets_one_line_and_exit_code_2(tmp_path, monkeypatch, capsys, arguments, line):
    monkeypatch.chdir(tmp_path)
    path = the_entry(Cache(tmp_path / "mlruns" / "cache"))
    try:
        code = main(arguments)
    except SystemExit as end:
        code = end.code
    assert code == 2
    assert capsys.readouterr().err == f"{line}\n"
    assert path.exists()
