"""The overrides that a sweep adds to a trial's point."""

from __future__ import annotations

from sweep.config import build
from sweep.results import reader
from sweep.search.proposals import Proposal
from sweep.search.recorder import Records


def overrides(proposal: Proposal, records: Records, n_jobs: int) -> list[str]:
    """All overrides of a trial: those of its point, those that hold for all points, and where its files go.

    Args:
        proposal: the point.
        records: of the sweep.
        n_jobs: trials side by side, which share the cores where the configuration names no number of threads.
    """
    space = records.space
    own = [
        f"sweep.name={records.folder.name}",
        f"hydra.sweep.subdir={reader.trial_name(proposal.number)}",
    ]
    if space.config.threads is None and n_jobs > 1:
        own.append(f"threads={max(1, build.cores() // n_jobs)}")
    return [*proposal.point, *space.constants(proposal.point), *own]
