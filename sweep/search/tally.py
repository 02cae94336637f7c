"""The progress of a sweep: counts of trials, the remaining time, and the stopping criteria."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from hydra.core.utils import JobReturn

from sweep.core.text import clock
from sweep.results import pareto, reader
from sweep.search.outcomes import Outcome
from sweep.search.settings import Settings
from sweep.tracking.tracker import Status

# The failure rate is not checked before this many trials have ended.
_MIN_TRIALS_FOR_RATE = 5


class SweepFailed(RuntimeError):
    """At least one trial failed."""


class Tally:
    """Counts the trials of one start of a sweep as they end.

    Args:
        settings: the sweeper's keys.
        before: the number of points that earlier starts proposed.
        planned: the number of trials in all; `sys.maxsize` for no limit.

    Attributes:
        ended: the JobReturn of each trial, in the order in which they ended.
    """

    def __init__(self, settings: Settings, before: int, planned: float) -> None:
        self._settings, self._before, self._planned = settings, before, planned
        self.ended: list[JobReturn] = []
        self._failed: list[int] = []
        self._pruned = self._infeasible = self._refused = 0
        self._began = time.time()

    def count(self, number: int, returned: JobReturn, outcome: Outcome) -> None:
        """Counts a trial that ended."""
        self.ended.append(returned)
        if outcome.state == "FAIL":
            self._failed.append(number)
        self._infeasible += outcome.infeasible
        self._pruned += outcome.state == "PRUNED" and not outcome.infeasible
        self._refused += outcome.refused

    def status(self, *, killed: bool) -> Status:
        """How this start of the sweep ended."""
        if killed:
            return "KILLED"
        return "FAILED" if self._failed else "FINISHED"

    @property
    def total(self) -> str:
        """The planned number of trials as text."""
        return "many" if self._planned == sys.maxsize else f"{self._planned:.0f}"

    @property
    def progress(self) -> str:
        """The numbers of trials done and to go, and an estimate of the remaining time."""
        done = len(self.ended)
        if self._planned == sys.maxsize:
            return f"{done} done"
        remaining = int(self._planned) - self._before - done
        seconds = (time.time() - self._began) / done * remaining
        return f"{done} done, {remaining} to go" + (f", about {clock(seconds)} left" if remaining else "")

    def summary(self, folder: Path) -> str:
        """The last line of the sweep, with the folder of its results."""
        ended, failed = len(self.ended), len(self._failed)
        parts = {"refused before training": self._infeasible, "stopped early": self._pruned}
        early = ", ".join(f"{number} {what}" for what, number in parts.items() if number)
        early = f" ({early})" if early else ""
        return f"{ended - failed} of {ended} trials{early} in {clock(time.time() - self._began)}: {folder}"

    def require_no_failure(self) -> None:
        """Raises an error at the end of a sweep with failed trials.

        Raises:
            SweepFailed: naming the failed trials.
        """
        if self._failed:
            which = ", ".join(map(reader.trial_name, sorted(self._failed)))
            count = f"{len(self._failed)} of {len(self.ended)}"
            raise SweepFailed(f"{count} trials failed ({which}); each holds an error.txt and a log")

    def reason_to_stop(self) -> str:
        """The message of the stopping criterion that holds; empty where none does."""
        settings, ended, failed = self._settings, len(self.ended), len(self._failed)
        if settings.timeout is not None and time.time() - self._began > settings.timeout:
            return f"stopped after the timeout of {settings.timeout:g} s"
        worked, broken = ended - self._refused, failed - self._refused  # a refusal costs nothing, and says nothing of the next
        if worked >= _MIN_TRIALS_FOR_RATE and broken / worked > settings.max_failure_rate:
            return f"stopped: {broken} of {worked} trials failed, more than max_failure_rate allows"
        if settings.patience is not None and self._stalled(settings.patience):
            return f"stopped: the hypervolume has not grown over {settings.patience} trials"
        return ""

    def exhausted(self, begun: int) -> str:
        """The message for a sweep that ran out of points; empty after all planned trials.

        Args:
            begun: the number of points proposed in all.
        """
        if not self.ended:
            return f"nothing left to run: {self._before} of {self.total} trials are there already"
        asked = self._settings.n_trials
        return f"every one of the {begun} points has been tried" if asked and begun < asked else ""

    def _stalled(self, patience: int) -> bool:
        """Whether the hypervolume of this start's trials has not grown over the last `patience` trials."""
        columns: dict[str, list[float]] = {name: [] for name in self._settings.objectives}
        for returned in self.ended:
            value = returned._return_value
            for name, column in columns.items():
                column.append(float(value[name]) if isinstance(value, Mapping) and name in value else math.nan)
        points = pareto.oriented(columns, self._settings.objectives)
        if len(self.ended) <= patience or not np.isfinite(points).all(axis=1).any():
            return False
        grown = pareto.running_hypervolume(points, pareto.reference_point(points))
        return bool(np.isclose(grown[-1], grown[-1 - patience], rtol=1e-9))
