"""The sweep itself: refuse what cannot work, run what is proposed, keep what comes of it, and report.

The records that it leaves (`sweep.json`, a `trial.json` a trial) are what `sweep.report` and `sweep.best` read.
"""

from __future__ import annotations

import itertools
import math
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from hydra.core.config_loader import ConfigLoader
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from omegaconf import DictConfig

from sweep.config import build, explain
from sweep.core import files
from sweep.core.errors import ConfigError
from sweep.core.text import clock
from sweep.core.types import TrialRecord
from sweep.pipeline.early_stop import Rivals
from sweep.reporting import report
from sweep.results import pareto, reader, sweeps
from sweep.search.batches import Batches, Pool, quoted
from sweep.search.proposals import Proposal
from sweep.search.recorder import Records
from sweep.search.settings import Settings
from sweep.search.space import Space
from sweep.search.study import Study
from sweep.tracking.tracker import Status, Tracker, TrackingError

# The files that tell how a trial went.
_OUTCOMES = ("config.yaml", "metrics.json", "pruned.txt", "error.txt")
_STATES = {"COMPLETE": "complete", "FAIL": "failed", "PRUNED": "pruned"}
# Fewer ended trials than this say nothing about a rate.
_TRIALS_FOR_A_RATE = 5


class SweepFailed(RuntimeError):
    """Some trials failed; the others are complete."""


def sweep(
    launcher: Launcher, loader: ConfigLoader, config: DictConfig, settings: Settings, arguments: Sequence[str]
) -> list[JobReturn]:
    """Run the sweep, or what of it is still missing.

    Args:
        launcher: runs the trials.
        loader: composes their configurations.
        config: the parent's configuration.
        settings: the sweeper's keys.
        arguments: the command line's overrides.

    Returns:
        One JobReturn for each trial that this call ran, in the order in which they ended.

    Raises:
        ConfigError: before anything runs, for settings, an axis or a point that cannot work; for a sweep of the same name over
            another space or with other objectives.
        SweepFailed: after everything ran, when a trial failed.
    """
    space = Space.parse(loader, config, settings.params, arguments)
    if not space.finite and settings.n_trials is None and settings.timeout is None:
        endless = next(axis for axis in space.axes if axis.interval)
        raise ConfigError("hydra.sweeper.n_trials", f"a number of trials, since {endless.key} is an interval", "null")
    bounds = settings.bounds
    space.require_at_most(settings.max_points, search=settings.n_trials is not None or not space.finite)
    origin = space.check()
    folder = build.output(config) / "sweeps" / build.sweep_name(config)
    tracker = build.tracker(config)
    build.prepare(tracker)
    records = Records.open(folder, space, settings, arguments, origin)
    with records.lock():
        study = Study(
            folder,
            space,
            objectives=settings.objectives,
            constraints=bounds,
            sampler=settings.sampler,
            seed=settings.seed,
            total=settings.n_trials if settings.n_trials is not None or space.finite else sys.maxsize,
            recorded=(recorded := records.trials()),
        )
        if study.retold:
            _say(f"{study.retold} trials that study.journal does not know are told again from their records")
        parent = tracker.open_sweep(
            folder.name, space.text, {"mlflow.source.name": "sweep"}, f"{study.total:.0f} trials.", resume=records.parent_run_id
        )
        records.begin(parent)
        # Not in a grid, which is to be whole; nor over seeds, since a mean over those that were lucky is none.
        whole = (settings.n_trials is None and space.finite) or any(axis.key == sweeps.SEED for axis in space.axes)
        pool = launcher.pool() if hasattr(launcher, "pool") else nullcontext(Batches(launcher, settings.n_jobs, folder))
        return _Sweep(
            space, settings, study, records, recorded, tracker, parent, pool, None if whole else settings.early_stop
        ).run()


@dataclass(eq=False)
class _Sweep:
    """One start of a sweep, from its first proposal to its report."""

    space: Space
    settings: Settings
    study: Study
    records: Records
    recorded: tuple[sweeps.Trial, ...]
    tracker: Tracker
    parent: str | None
    pool: AbstractContextManager[Pool]
    early_stop: float | None

    def __post_init__(self) -> None:
        self._under_way: dict[int, tuple[Proposal, float]] = {}
        self._ended: list[JobReturn] = []
        self._failed: list[int] = []
        self._pruned: list[int] = []
        self._began = time.time()
        self._before = self.study.begun
        self._rivals: dict[str, dict[str, float]] = {}

    def run(self) -> list[JobReturn]:
        status: Status = "KILLED"
        reason = ""
        try:
            self._meet_rivals()
            with self.pool as pool:
                reason = self._loop(pool)
            status = "FAILED" if self._failed else "FINISHED"
        finally:
            self._close(status)
        if reason:
            _say(reason)
        ended, failed, pruned = len(self._ended), len(self._failed), len(self._pruned)
        early = f" ({pruned} stopped early)" if pruned else ""
        _say(f"{ended - failed} of {ended} trials{early} in {clock(time.time() - self._began)}: {self.records.folder}")
        if failed:
            which = ", ".join(map(reader.trial_name, sorted(self._failed)))
            raise SweepFailed(f"{failed} of {ended} trials failed ({which}); each holds an error.txt and a log")
        return self._ended

    def _loop(self, pool: Pool) -> str:
        """Propose and run until there is nothing left or reason to stop; returns that reason."""
        stopped = ""
        while True:
            while pool.free and not stopped:
                stopped = self._reason_to_stop()
                if stopped or (proposal := self.study.ask()) is None:
                    break
                self._submit(pool, proposal)
            if not pool.busy:
                return stopped or self._exhausted()
            for number, returned in pool.wait().items():
                self._take(number, returned)

    def _submit(self, pool: Pool, proposal: Proposal) -> None:
        _say(f"trial {proposal.number + 1} of {self._total}: {' '.join(proposal.point) or 'the defaults'}")
        self._under_way[proposal.number] = proposal, time.time()
        for name in _OUTCOMES:  # of an earlier start: what is there afterwards is of this one
            (self.records.trial_folder(proposal) / name).unlink(missing_ok=True)
        self.records.trial(proposal, "RUNNING", self.space)
        own = [
            f"sweep.name={self.records.folder.name}",
            f"sweep.axes={len(proposal.point)}",
            f"hydra.sweep.subdir={reader.trial_name(proposal.number)}",
        ]
        if self.parent is not None:
            own.append(f"tracking.parent_run_id={self.parent}")
        if self.early_stop is not None:
            own.append(f"sweep.rivals={quoted(self.records.rivals.absolute())}")
        if self.space.config.threads is None and self.settings.n_jobs > 1:
            own.append(f"threads={max(1, build.cores() // self.settings.n_jobs)}")
        pool.submit(proposal.number, [*proposal.point, *self.space.constants(proposal.point), *own])

    def _take(self, number: int, returned: JobReturn) -> None:
        """Tell the study and the records what came of a trial."""
        proposal, began = self._under_way.pop(number)
        seconds = time.time() - began
        self._ended.append(returned)
        value = returned._return_value  # the property would print a line of Hydra's own and raise
        pruned = isinstance(value, Mapping) and "pruned" in value
        error: str | None
        if pruned:
            error = value["pruned"]
        elif returned.status is JobStatus.COMPLETED and isinstance(value, Mapping):
            lost = [name for name in self.settings.objectives if not math.isfinite(float(value[name]))]
            error = f"not a finite number: {', '.join(lost)}" if lost else None
        else:
            told = self.records.trial_folder(proposal) / "error.txt"
            cause = value if isinstance(value, BaseException) else RuntimeError(str(value))
            error = told.read_text().strip() if told.exists() else explain.explain(cause)[1]
        # The record first: where it cannot be written (a full disk), the study takes the trial up again at the next start.
        if error is None:
            self.records.trial(proposal, "COMPLETE", self.space, seconds=seconds, run_id=value.get("run_id"))
            self.study.tell(proposal, value)
            self._tell_rivals({reader.trial_name(number): value})
        elif pruned:
            self._pruned.append(number)
            self.records.trial(proposal, "PRUNED", self.space, seconds=seconds, error=error)
            self.study.prune(proposal, error)
        else:
            self._failed.append(number)
            self.records.trial(proposal, "FAIL", self.space, seconds=seconds, error=error)
            self.study.fail(proposal, error)
            self._log_the_lost(proposal, began, error)
            _say(f"trial {number + 1} failed: {error}")
        _say(f"  {self._progress()}")

    def _meet_rivals(self) -> None:
        """Begin with the front of earlier starts."""
        self._tell_rivals({reader.trial_name(trial.number): trial.metrics for trial in self.recorded if trial.complete})

    def _tell_rivals(self, complete: Mapping[str, Mapping[str, float]]) -> None:
        """Let the trials under way know what they have to beat, these trials (by name) and their metrics included."""
        if self.early_stop is None:
            return
        for name, metrics in complete.items():
            if all(bound.violation(metrics) <= 0 for bound in self.settings.bounds):
                self._rivals[name] = {metric: float(metrics[metric]) for metric in self.settings.objectives}
        columns = {metric: [values[metric] for values in self._rivals.values()] for metric in self.settings.objectives}
        front = pareto.front(pareto.oriented(columns, self.settings.objectives))
        self._rivals = dict(itertools.compress(self._rivals.items(), front))
        Rivals(dict(self.settings.objectives), self.early_stop, self._rivals).write(self.records.rivals)

    def _log_the_lost(self, proposal: Proposal, began: float, error: str) -> None:
        """Log a trial that took its process down with it, and so could not log itself."""
        folder = self.records.trial_folder(proposal)
        if (folder / "error.txt").exists():
            return
        files.write(folder / "error.txt", error + "\n")
        swept = dict(text.split("=", 1) for text in proposal.point)
        tracker = build.tracker(self.space.compose([*proposal.point, *_child_of(self.parent)]))
        record = TrialRecord(folder.name, folder, swept, swept, {}, {}, {}, error, began, time.time())
        try:
            tracker.log_trial(record)
        except TrackingError as lost:
            _say(f"warning: could not log {folder.name} to MLflow: {lost}")

    def _reason_to_stop(self) -> str:
        settings = self.settings
        if settings.timeout is not None and time.time() - self._began > settings.timeout:
            return f"stopped after the timeout of {settings.timeout:g} s"
        if len(self._ended) >= _TRIALS_FOR_A_RATE and len(self._failed) / len(self._ended) > settings.max_failure_rate:
            return f"stopped: {len(self._failed)} of {len(self._ended)} trials failed, more than max_failure_rate allows"
        if settings.patience is not None and self._stalled(settings.patience):
            return f"stopped: the hypervolume has not grown over {settings.patience} trials"
        return ""

    def _stalled(self, patience: int) -> bool:
        columns: dict[str, list[float]] = {name: [] for name in self.settings.objectives}
        for returned in self._ended:
            value = returned._return_value
            for name, column in columns.items():
                column.append(float(value[name]) if isinstance(value, Mapping) and name in value else math.nan)
        points = pareto.oriented(columns, self.settings.objectives)
        if len(self._ended) <= patience or not np.isfinite(points).all(axis=1).any():
            return False
        grown = pareto.running_hypervolume(points, pareto.reference_point(points))
        return bool(np.isclose(grown[-1], grown[-1 - patience], rtol=1e-9))

    def _exhausted(self) -> str:
        if len(self._ended) == 0:
            return f"nothing left to run: {self._before} of {self._total} trials are there already"
        asked = self.settings.n_trials
        return f"every one of the {self.study.begun} points has been tried" if asked and self.study.begun < asked else ""

    def _progress(self) -> str:
        """What is done, what remains, and for how long about."""
        done = len(self._ended)
        if self.study.total == sys.maxsize:
            return f"{done} done"
        left = int(self.study.total) - self._before - done
        seconds = (time.time() - self._began) / done * left
        return f"{done} done, {left} to go" + (f", about {clock(seconds)} left" if left else "")

    @property
    def _total(self) -> str:
        return "many" if self.study.total == sys.maxsize else f"{self.study.total:.0f}"

    def _close(self, status: Status) -> None:
        """Write the records and the report, and end the parent run, whatever happened."""
        paths: tuple[Path, ...] = ()
        front: list[str] = []
        metrics: dict[str, int] = {}
        told = "The report could not be written."
        try:
            self.records.end(status, self.study.importances())
            written = report.write(self.records.folder)
            paths, front = written.paths, self._log_models(written.members)
            # Of all starts of the sweep together.
            metrics = {f"trials_{word}": written.trials.get(state, 0) for state, word in _STATES.items()}
            told = f"{metrics['trials_complete']} of {sum(written.trials.values())} trials complete."
            if status == "FINISHED" and metrics["trials_failed"]:
                status = "FAILED"
        except (ConfigError, OSError) as error:  # a full disk, say: the trials are there all the same
            _say(f"warning: could not write the report: {error}")
        try:
            self.tracker.close_sweep(
                self.parent, status=status, metrics=metrics, artifacts=paths, description=told, front=front
            )
        except TrackingError as error:
            _say(f"warning: could not close the sweep's run in MLflow: {error}")

    def _log_models(self, front: Sequence[sweeps.Trial]) -> list[str]:
        """Make MLflow models of the files on the front; returns their runs, best first."""
        for trial in front:
            try:
                self.tracker.log_model(trial.run_id, trial.folder / "model.tflite")
            except TrackingError as error:
                _say(f"warning: {trial.folder.name} is no model in MLflow: {error}")
        return [trial.run_id for trial in front if trial.run_id is not None]


def _child_of(parent: str | None) -> list[str]:
    return [] if parent is None else [f"tracking.parent_run_id={parent}"]


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
