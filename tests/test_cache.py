"""The stage cache: keys, damage, full disks, and two processes that want one entry."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweep import cache
from sweep.cache import Cache, canonical, digest

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
        "import sys, time, numpy as np; from pathlib import Path; from sweep.cache import Cache\n"
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
        "import sys, time; from pathlib import Path; from sweep.cache import Cache\n"
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
    assert cache.main(["ls", "--store", str(tmp_path)]) == 0
    listed = capsys.readouterr().out.splitlines()
    assert listed[0].startswith(oldest.stem[:12])
    assert listed[0].endswith("Stage")
    assert listed[-1].startswith("3 entries")
    Cache(tmp_path / "other").fetch({"code": 1, "float file of": 2}, lambda: ARRAYS)
    assert cache.main(["ls", "--store", str(tmp_path / "other")]) == 0
    assert capsys.readouterr().out.splitlines()[0].endswith("float file")
    left = sum(path.stat().st_size for path in store.entries()) - 1
    cache.main(["gc", "--store", str(tmp_path), "--max-gib", str(left / 2**30)])
    assert not oldest.exists()
    assert len(list(store.entries())) == 2
    cache.main(["clear", "--store", str(tmp_path)])
    assert capsys.readouterr().out.splitlines()[-1].startswith("0 entries")
    assert cache.main(["ls", "--store", str(Path(tmp_path) / "absent")]) == 0
