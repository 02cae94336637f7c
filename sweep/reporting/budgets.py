"""The section of the report on the best model within a size budget."""

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
    """The metric of the budgets: the first file size among the objectives, or without one the first file size."""
    sizes = of_kind(Kind.FILE_SIZE)
    return next((name for name in sizes if name in sweep.objectives), sizes[0])


def round_budgets(sizes: Sequence[float]) -> list[int]:
    """Budgets in KiB, powers of two: from the first that the smallest size (in bytes) meets to the first that all meet."""
    sizes = [size for size in sizes if size > 0]
    if not sizes:
        return []
    first, last = (max(0, math.ceil(math.log2(size / 1024))) for size in (min(sizes), max(sizes)))
    return [2**power for power in range(first, last + 1)]


def within(candidates: Sequence[Candidate], size: str, kib: int) -> Candidate | None:
    """The most accurate candidate of at most `kib` KiB; of equally accurate ones the smallest."""
    if not candidates:
        return None
    order = directions("val_accuracy", size)
    columns = {name: [candidate.mean[name] for candidate in candidates] for name in order}
    points = pareto.oriented(columns, order)
    row = pareto.best(points, pareto.violation(columns, {size: (-math.inf, kib * 1024)}))
    return None if row is None else candidates[row]
