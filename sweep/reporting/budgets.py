"""The section of the report on the best model within a budget, and the round budgets that candidates are compared at."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from sweep.core.metric import Kind
from sweep.core.metrics import METRICS, directions, of_kind
from sweep.core.text import table
from sweep.reporting.words import brief
from sweep.results import pareto
from sweep.results.ranking import Candidate, Ranking
from sweep.results.sweeps import SEED, Sweep


def section(sweep: Sweep, ranking: Ranking) -> Iterator[str]:
    """The most accurate candidate within each round budget."""
    size = size_metric(sweep)
    candidates = [candidate for candidate in ranking.candidates if candidate.feasible]
    shown = ("val_accuracy", "test_accuracy", size)
    rows = []
    for kib in round_budgets([candidate.mean[size] for candidate in candidates]):
        if best := within(candidates, size, kib):
            values = (METRICS[name].text(best.mean[name], best.deviation[name]) for name in shown)
            overrides = " ".join(f"{key}={brief(text)}" for key, text in best.overrides.items() if key != SEED)
            rows.append([f"{kib:,} KiB", str(best.number), *values, f"`{overrides or 'the defaults'}`"])
    if rows:
        best_of = table(["at most", "trial", *shown, "overrides"], rows)
        yield f"## The best within a budget\n\nOf `{size}`, by validation accuracy.\n\n{best_of}"


def size_metric(sweep: Sweep) -> str:
    """The size that budgets are of: the first file size among the objectives, or else the first of all."""
    sizes = of_kind(Kind.FILE_SIZE)
    return next((name for name in sizes if name in sweep.objectives), sizes[0])


def round_budgets(sizes: Sequence[float]) -> list[int]:
    """Powers of two, in KiB: from the first that the smallest of some sizes (in bytes) meets to the first that all do."""
    sizes = [size for size in sizes if size > 0]
    if not sizes:
        return []
    first, last = (max(0, math.ceil(math.log2(size / 1024))) for size in (min(sizes), max(sizes)))
    return [2**power for power in range(first, last + 1)]


def within(candidates: Sequence[Candidate], size: str, kib: int) -> Candidate | None:
    """The most accurate candidate of at most so many KiB; of equals the smallest."""
    if not candidates:
        return None
    order = directions("val_accuracy", size)
    columns = {name: [candidate.mean[name] for candidate in candidates] for name in order}
    points = pareto.oriented(columns, order)
    row = pareto.best(points, pareto.violation(columns, {size: (-math.inf, kib * 1024)}))
    return None if row is None else candidates[row]
