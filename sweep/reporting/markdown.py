"""The report of a sweep as Markdown: its sections in order, each from the module of its name."""

from __future__ import annotations

from sweep.reporting import axes, budgets, front, outcomes, overview, references
from sweep.reporting.techniques import Techniques
from sweep.results.ranking import Ranking
from sweep.results.sweeps import Sweep


def markdown(sweep: Sweep, ranking: Ranking) -> str:
    """The non-empty sections of the report.

    Args:
        sweep: the sweep.
        ranking: the ranking of its candidates.
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
