"""The loop of a sweep: ask for a proposal, run it, record its outcome, check the stopping criteria."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager

from hydra.core.utils import JobReturn

from sweep.core import trial_files
from sweep.search import submission
from sweep.search.batches import Pool
from sweep.search.console import say
from sweep.search.front import Front
from sweep.search.outcomes import outcome
from sweep.search.parent_run import ParentRun
from sweep.search.proposals import Proposal
from sweep.search.settings import Settings
from sweep.search.study import Study
from sweep.search.tally import Tally


class Loop:
    """One start of a sweep, from its first proposal to its report.

    Args:
        settings: the sweeper's keys.
        study: proposes points.
        pool: runs trials; entered while the loop runs.
        front: the current Pareto front.
        parent: the sweep's run in the tracker, and its records.
    """

    def __init__(
        self, settings: Settings, study: Study, pool: AbstractContextManager[Pool], front: Front, parent: ParentRun
    ) -> None:
        self._settings, self._study, self._pool, self._front, self._parent = settings, study, pool, front, parent
        self._records, self._tally = parent.records, Tally(settings, study.begun, study.total)
        self._running: dict[int, tuple[Proposal, float]] = {}

    def run(self) -> list[JobReturn]:
        """Runs the sweep to its end and writes its report.

        Returns:
            The JobReturn of each trial, in the order in which they ended.

        Raises:
            SweepFailed: at the end, when a trial failed.
        """
        if self._study.restored:
            say(f"{self._study.restored} trials that study.journal lacks are added to it from their records")
        killed, reason = True, ""
        try:
            self._front.begin()
            with self._pool as pool:
                reason = self._until_done(pool)
            killed = False
        finally:
            self._parent.close(self._tally.status(killed=killed), self._study)
        if reason:
            say(reason)
        say(self._tally.summary(self._records.folder))
        self._tally.require_no_failure()
        return self._tally.ended

    def _until_done(self, pool: Pool) -> str:
        """Proposes and runs trials until none is left or a stopping criterion holds; returns the message of that criterion."""
        stopped = ""
        while True:
            while pool.free and not stopped:
                stopped = self._tally.reason_to_stop()
                if stopped or (proposal := self._study.ask()) is None:
                    break
                self._submit(pool, proposal)
            if not pool.busy:
                return stopped or self._tally.exhausted(self._study.begun)
            for number, returned in pool.wait().items():
                self._record(number, returned)

    def _submit(self, pool: Pool, proposal: Proposal) -> None:
        say(f"trial {proposal.number + 1} of {self._tally.total}: {' '.join(proposal.point) or 'the defaults'}")
        self._running[proposal.number] = proposal, time.time()
        trial_files.remove(self._records.trial_folder(proposal))  # so that later files are of this start
        self._records.trial(proposal, "RUNNING")
        pool.submit(proposal.number, submission.overrides(proposal, self._records, self._settings.n_jobs))

    def _record(self, number: int, returned: JobReturn) -> None:
        """Writes the outcome of a trial to its record, the study, the front and the tally."""
        proposal, began = self._running.pop(number)
        seconds = time.time() - began
        folder = self._records.trial_folder(proposal)
        ended = outcome(returned, self._settings.objectives, self._settings.constraints, folder)
        self._tally.count(number, returned, ended)
        # The record first: if it cannot be written (a full disk), the next start runs the trial again.
        run_id = ended.metrics.get("run_id")
        error = None if ended.state == "COMPLETE" else ended.error
        self._records.trial(proposal, ended.state, seconds=seconds, error=error, run_id=run_id)
        if ended.state == "COMPLETE":
            self._study.tell(proposal, ended.metrics)
            self._front.add({folder.name: ended.metrics})
        elif ended.state == "PRUNED":
            self._study.prune(proposal, ended.error, ended.metrics)
        else:
            self._study.fail(proposal, ended.error)
            self._parent.log_lost_trial(proposal, began, ended.error)
            say(f"trial {number + 1} failed: {ended.error}")
        say(f"  {self._tally.progress}")
