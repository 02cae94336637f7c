"""The overrides that a sweep adds to a trial's point."""

from __future__ import annotations

from sweep.config import build
from sweep.results import reader
from sweep.search.batches import quoted
from sweep.search.front import Front
from sweep.search.parent_run import ParentRun
from sweep.search.proposals import Proposal


def overrides(proposal: Proposal, parent: ParentRun, front: Front, n_jobs: int) -> list[str]:
    """All overrides of a trial: those of its point, those that hold for all points, and where it belongs.

    Args:
        proposal: the point.
        parent: the sweep's run.
        front: what the trial has to beat.
        n_jobs: trials side by side, which share the cores where the configuration names no number of threads.
    """
    records, space = parent.records, parent.records.space
    own = [
        f"sweep.name={records.folder.name}",
        f"sweep.axes={len(proposal.point)}",
        f"hydra.sweep.subdir={reader.trial_name(proposal.number)}",
    ]
    if parent.run_id is not None:
        own.append(f"tracking.parent_run_id={parent.run_id}")
    if front.path is not None:
        own.append(f"sweep.rivals={quoted(front.path.absolute())}")
    if space.config.threads is None and n_jobs > 1:
        own.append(f"threads={max(1, build.cores() // n_jobs)}")
    return [*proposal.point, *space.constants(proposal.point), *own]
