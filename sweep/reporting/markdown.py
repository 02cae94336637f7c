"""The report of a sweep as Markdown: its sections in their order. What each says is told by a module of its name."""

from __future__ import annotations

from sweep.reporting import axes, budgets, front, outcomes, overview, references
from sweep.reporting.techniques import Techniques
from sweep.results.ranking import Ranking
from sweep.results.sweeps import Sweep


def markdown(sweep: Sweep, ranking: Ranking) -> str:
    """All sections that have something to say.

    Args:
        sweep: the sweep.
        ranking: of its candidates.
    """
    sections = [overview.head(sweep, ranking), overview.run(sweep)]
    if ranking.known.any():
        sections += front.section(sweep, ranking)
        sections += budgets.section(sweep, ranking)
        sections += axes.section(sweep)
        sections += Techniques(sweep, ranking).section()
    sections += references.section(sweep)
    sections += [outcomes.cost(sweep), *outcomes.refused(sweep), *outcomes.stopped(sweep), *outcomes.failures(sweep)]
    return "\n\n".join(sections) + "\n"
