"""The stage cache's reader on damaged and foreign entries: computed again, never an error, never foreign arrays."""

from __future__ import annotations

import hashlib
import io
import tempfile
from pathlib import Path

import numpy as np
import pytest
from fuzzing import corpus, damaged, fuzz
from hypothesis import strategies as st

from sweep.cache import main
from sweep.pipeline import cache
from sweep.pipeline.cache import Cache
from sweep.pipeline.cache_entry import Entry

KEY = {"stage": {"class": "sweep.prune.Global", "sparsity": 0.5}, "seed": 0}
TEXT = cache._text(KEY)
ARRAYS = {
    "architecture": np.array('{"layers": []}'),
    "weight/0000": np.arange(6, dtype=np.float32).reshape(2, 3),
    "mask/conv": np.ones((2, 3), bool),
    "curves": np.array("{}"),
}
OTHER = {"accuracies": np.array([0.5, 0.25])}
ENTRIES = [Entry(TEXT, 1.0, ARRAYS).to_bytes(), Entry('{"accuracy of": "x"}', 0.5, OTHER).to_bytes()]


def sealed(body: bytes) -> bytes:
    """A body under a checksum that fits it."""
    return hashlib.sha256(body).hexdigest().encode() + b"\n" + body


def archives() -> st.SearchStrategy[bytes]:
    """Archives of arrays that np.load reads, some of them under an entry's own names."""
    names = st.sampled_from(("key", "seconds", "form", *ARRAYS, "x"))
    texts = st.sampled_from((TEXT, "{}", "[]", "nan", "", '{"x": ["<f4", [1]]}')).map(np.array)
    values = st.one_of(texts, st.floats().map(np.array), st.lists(st.integers(0, 9), max_size=3).map(np.array))

    def packed(arrays: dict[str, np.ndarray]) -> bytes:
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **arrays)
        return buffer.getvalue()

    return st.dictionaries(names, values, max_size=6).map(packed)


def read(content: bytes) -> None:
    """Put it in the place of an entry that is then asked for, and give it to the command."""
    with tempfile.TemporaryDirectory() as folder:
        store = Cache(Path(folder))
        path = store._path(cache.digest(KEY))
        path.parent.mkdir()
        path.write_bytes(content)
        held = store.holds(KEY)
        assert main(["ls", "--store", folder]) == 0
        hit = store.fetch(KEY, lambda: ARRAYS)
        assert hit.reused == held
        assert hit.arrays.keys() == ARRAYS.keys()
        for name, array in ARRAYS.items():
            np.testing.assert_array_equal(hit.arrays[name], array, strict=True)
        assert store.fetch(KEY, lambda: pytest.fail("computed again")).reused
        path.write_bytes(content)
        assert main(["gc", "--store", folder, "--max-gib", "0"]) == 0
        assert not list(store.entries())


@pytest.mark.parametrize("path", corpus("cache"), ids=lambda path: path.name)
def test_what_is_kept_is_read(path):
    read(path.read_bytes())


@pytest.mark.slow
def test_damage_is_noticed_whether_its_checksum_fits_or_not():
    originals = [*(path.read_bytes() for path in corpus("cache")), *ENTRIES]
    bodies = damaged([content.partition(b"\n")[2] for content in originals])
    fuzz(st.one_of(damaged(originals), bodies.map(sealed), archives().map(sealed)), read)
