"""Shared by the fuzz tests: damaged copies of real files, a time limit, and a stored corpus.

Every reader has a folder in `corpus/`. Its files are inputs that the reader once handled wrongly, or that reach a branch of the
reader; every test run reads them all. The slow tier then damages them at random for $SWEEP_FUZZ_SECONDS (60).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

CORPUS = Path(__file__).parent / "corpus"
_ROUND = 100  # examples between two checks of the time
_NOISE = (b"\0", b"\xff", b"\n", b"NaN", b"1e999", b"-1", b"[" * 2000, b'{"', b"\x80\x04.", b"null")


def corpus(reader: str) -> list[Path]:
    """The stored inputs of a reader, sorted by name; at least one."""
    paths = sorted(path for path in (CORPUS / reader).iterdir() if path.is_file())
    assert paths, f"no corpus for {reader}"
    return paths


@st.composite
def damaged(draw: st.DrawFn, originals: Sequence[bytes]) -> bytes:
    """One of the originals after one to four mutations: truncated, or with bytes overwritten, removed, doubled or inserted."""
    content = bytearray(draw(st.sampled_from(originals)))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(content)))
        stop = min(len(content), start + draw(st.integers(1, 64)))
        match draw(st.sampled_from(("cut", "overwrite", "remove", "double", "noise"))):
            case "cut":
                del content[start:]
            case "overwrite":
                content[start:stop] = draw(st.binary(min_size=stop - start, max_size=stop - start))
            case "remove":
                del content[start:stop]
            case "double":
                content[start:start] = content[start:stop]
            case "noise":
                content[start:start] = draw(st.sampled_from(_NOISE))
    return bytes(content)


def fuzz(strategy: st.SearchStrategy[Any], check: Callable[[Any], None]) -> None:
    """Checks examples of a strategy until the time is over.

    Args:
        strategy: the strategy of the inputs.
        check: raises for an input that is handled wrongly. Hypothesis shrinks that input and prints it.
    """

    # On CI Hypothesis would draw the same examples in every round.
    @settings(max_examples=_ROUND, deadline=None, database=None, derandomize=False, suppress_health_check=list(HealthCheck))
    @given(strategy)
    def examples(example: Any) -> None:
        check(example)

    end = time.monotonic() + float(os.environ.get("SWEEP_FUZZ_SECONDS", "60"))
    while time.monotonic() < end:
        examples()
