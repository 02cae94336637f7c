"""Small results that several trials share, in the stage cache."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sweep.core.types import Arrays
from sweep.pipeline import sources
from sweep.pipeline.cache import Cache
from sweep.pipeline.conversion import kernels


@dataclass(frozen=True, eq=False)
class Memo:
    """Reads or computes named arrays.

    Args:
        store: the stage cache.
    """

    store: Cache

    def arrays(self, key: Mapping[str, Any], compute: Callable[[], Arrays]) -> Arrays:
        """Returns the arrays of a key. On a miss, computes and writes them.

        Args:
            key: everything that determines the arrays, with the hash of the code that computes them.
            compute: computes the arrays.

        Raises:
            CodeChanged: when that code was changed on disk meanwhile.
            Exception: any that `compute` raises.
        """

        def computed() -> Arrays:
            arrays = compute()
            sources.require_unchanged()
            return arrays

        return self.store.fetch(key, computed).arrays


@dataclass(frozen=True, eq=False)
class StageResults:
    """The results that stages share: the implementation of `context.results`.

    Args:
        memo: the stage cache.
        threads: of every TensorFlow operation.
    """

    memo: Memo
    threads: int

    def arrays(self, key: Mapping[str, Any], compute: Callable[[], Arrays]) -> Arrays:
        """As `Memo.arrays`. The code of the objects in the key, that of `compute`, and the machine become part of the key."""
        machine = {"threads": self.threads, "kernels": kernels()}
        return self.memo.arrays({**key, **machine, "code": sources.behind(compute, key).digest}, compute)
