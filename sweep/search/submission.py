"""The overrides that a sweep adds to a trial's point."""

from __future__ import annotations

from sweep.config import build
from sweep.results import reader
from sweep.search.proposals import Proposal
from sweep.search.recorder import Records


def overrides(proposal: Proposal, records: Records, n_jobs: int) -> list[str]:
    """All overrides of a trial: its point's, the shared ones, and its output folder.

    Args:
        proposal: the proposal of the trial.
        records: the records of the sweep.
        n_jobs: the number of parallel trials, which share the cores unless the configuration sets `threads`.
    """
    space = records.space
    own = [
        f"sweep.name={records.folder.name}",
        f"hydra.sweep.subdir={reader.trial_name(proposal.number)}",
    ]
    if space.config.threads is None and n_jobs > 1:
        own.append(f"threads={max(1, build.cores() // n_jobs)}")
    return [*proposal.point, *space.constants(proposal.point), *own]
