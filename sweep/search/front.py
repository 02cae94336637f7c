"""The current Pareto front, in a file that running trials read for early stopping."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path

from sweep.config.membership import FRONT
from sweep.pipeline.front import FrontRecord
from sweep.results import pareto, reader, sweeps
from sweep.search.settings import Settings
from sweep.search.space import Space


class Front:
    """The feasible trials that no other dominates, kept in a file in the sweep's folder.

    Args:
        settings: the sweeper's keys.
        margin: the margin by which a trial must be dominated to be stopped; None without early stopping and without a file.
        folder: the folder of the sweep.
        recorded: the trials of earlier starts.
    """

    def __init__(self, settings: Settings, margin: float | None, folder: Path, recorded: Sequence[sweeps.Trial]) -> None:
        self._objectives, self._bounds = dict(settings.objectives), settings.bounds
        self._margin, self._path, self._recorded = margin, folder / FRONT, recorded
        self._trials: dict[str, dict[str, float]] = {}

    def begin(self) -> None:
        """Writes the front of earlier starts; without a margin removes its file, whose presence enables early stopping."""
        if self._margin is None:
            self._path.unlink(missing_ok=True)
        self.add({reader.trial_name(trial.number): trial.metrics for trial in self._recorded if trial.complete})

    def add(self, complete: Mapping[str, Mapping[str, float]]) -> None:
        """Adds complete trials and writes the file.

        Args:
            complete: trial name to metrics.
        """
        if self._margin is None:
            return
        for name, metrics in complete.items():
            if all(bound.violation(metrics) <= 0 for bound in self._bounds):
                self._trials[name] = {metric: float(metrics[metric]) for metric in self._objectives}
        columns = {metric: [values[metric] for values in self._trials.values()] for metric in self._objectives}
        on_front = pareto.front(pareto.oriented(columns, self._objectives))
        self._trials = dict(itertools.compress(self._trials.items(), on_front))
        FrontRecord(self._objectives, self._margin, self._trials).write(self._path)


def margin(settings: Settings, space: Space) -> float | None:
    """The margin of early stopping; None where no trial may be stopped.

    A grid stops none, since it has to be complete. A sweep over seeds stops none, since the mean over the surviving seeds would
    be biased.
    """
    grid = settings.n_trials is None and space.finite
    over_seeds = any(axis.key == sweeps.SEED for axis in space.axes)
    return None if grid or over_seeds else settings.early_stop
