"""Small results that several trials need, kept in the stage cache."""

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
    """Named arrays under keys of plain values, looked up or computed.

    Args:
        store: where they are kept.
    """

    store: Cache

    def arrays(self, key: Mapping[str, Any], compute: Callable[[], Arrays]) -> Arrays:
        """The arrays that the store has under a key, or those that `compute` returns, which are kept.

        Args:
            key: all that determines the arrays, the code that computes them included.
            compute: computes them.

        Raises:
            ConfigError: when that code changed on the disk meanwhile.
            Exception: what `compute` raises.
        """

        def computed() -> Arrays:
            arrays = compute()
            sources.require_unchanged()
            return arrays

        return self.store.fetch(key, computed).arrays


@dataclass(frozen=True, eq=False)
class StageResults:
    """What stages share, each under what computes it besides its own key (see `SharedResults`).

    Args:
        memo: where it is kept.
        threads: of every TensorFlow operation.
    """

    memo: Memo
    threads: int

    def arrays(self, key: Mapping[str, Any], compute: Callable[[], Arrays]) -> Arrays:
        """As `Memo`; the code of what the key names, and that of `compute`, are part of the key."""
        machine = {"threads": self.threads, "kernels": kernels()}
        return self.memo.arrays({**key, **machine, "code": sources.behind(compute, key).digest}, compute)
