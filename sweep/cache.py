"""`python -m sweep.cache`: lists the stage cache, removes the least recently used entries, or all."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from sweep.cli.arguments import CommandLine
from sweep.core.errors import ConfigError, require_number
from sweep.pipeline.cache import Cache, shown, size
from sweep.pipeline.cache_upkeep import describe, excess, leftovers, remove_all


def main(arguments: list[str] | None = None) -> int:
    """List the entries, remove the least recently used ones down to a size, or remove all.

    Returns:
        The exit code: 0; 1 where something could not be removed; 2 for input that cannot be used.
    """
    parser = CommandLine(prog="python -m sweep.cache", description="The stage cache.")
    parser.add_argument("action", choices=("ls", "gc", "clear"), help="list, shrink to --max-gib, or empty it")
    parser.add_argument("--store", type=Path, default=Path("mlruns/cache"), help="its folder (mlruns/cache)")
    parser.add_argument("--max-gib", type=float, default=10.0, help="what gc leaves, in GiB (10)")
    options = parser.parse_args(arguments)
    store, cache = options.store, Cache(options.store)
    try:
        require_number("--max-gib", options.max_gib, 0)
        if os.path.lexists(store) and not store.is_dir():
            raise ConfigError("--store", "a folder", shown(store))
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    done = True
    match options.action:
        case "ls":
            for path in cache.entries():
                print(describe(path))
        case "gc":
            done = remove_all([*leftovers(store, "aside"), *excess(list(cache.entries()), options.max_gib * 2**30)])
        case "clear":
            done = remove_all([*leftovers(store, "aside", "lock"), *cache.entries()])
    left = list(cache.entries())
    print(f"{len(left)} entries, {sum(map(size, left)) / 2**20:.1f} MiB in {shown(store)}")
    return 0 if done else 1


if __name__ == "__main__":
    sys.exit(main())
