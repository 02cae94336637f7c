"""The records of a sweep: `sweep.json`, and a `trial.json` for each trial.

The trials' records decide what is finished; Optuna's journal can be rebuilt from them.
"""

from __future__ import annotations

import os
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweep.core import files, jsonfiles, metrics
from sweep.core.errors import ConfigError
from sweep.core.trial_files import TrialFile
from sweep.pipeline.origin import Origin
from sweep.results import reader, sweeps
from sweep.search.proposals import Proposal
from sweep.search.resuming import resuming_command
from sweep.search.space import Space

if TYPE_CHECKING:
    from sweep.search.settings import Settings


@dataclass(eq=False)
class Records:
    """The records of a sweep.

    Attributes:
        folder: the folder of the sweep.
        space: the search space.
        content: the content of `sweep.json`.
        parent_run_id: the id of the sweep's run in the tracker; None without an earlier start that was tracked.
    """

    folder: Path
    space: Space
    content: dict[str, Any]
    parent_run_id: str | None = None

    @staticmethod
    def open(folder: Path, space: Space, settings: Settings, arguments: Sequence[str], origin: Origin) -> Records:
        """Opens the records in `folder`, new or of an earlier start.

        Raises:
            ConfigError: when the earlier start had another space, other objectives or another origin, or its record is damaged.
        """
        fixed = dict(text.split("=", 1) for text in (*space.fixed, *space.where_known) if "=" in text)
        content: dict[str, Any] = {
            "name": folder.name,
            "command": shlex.join(resuming_command(space.config, folder.name, arguments)),
            "axes": space.text,
            "fixed": _without_places(fixed),
            "objectives": dict(settings.objectives),
            "constraints": {metric: str(text) for metric, text in settings.constraints.items()},
            "metrics": {name: metric.as_record() for name, metric in metrics.own().items()},
            "sampler": settings.sampler if settings.n_trials is not None or not space.finite else None,
            "n_trials": settings.n_trials,
            "seed": settings.seed,
            "started": time.time(),
            "ended": None,
            "importances": {},
            "status": "RUNNING",
            "parent_run_id": None,
            "origin": origin.as_record(),
        }
        records = Records(folder, space, content)
        if os.path.lexists(path := folder / "sweep.json"):
            earlier = jsonfiles.read(path)
            for name in ("axes", "fixed", "objectives", "constraints"):
                before = jsonfiles.get(path, earlier, name, dict)
                if before != content[name]:
                    changed = _difference(before, content[name])
                    expected = f"a new name, or the {name} that this sweep began with"
                    raise ConfigError("sweep.name", expected, f"{folder.name} ({changed})")
            if (began := Origin.read(earlier.get("origin"))) is not None:
                began.require(origin, folder.name)
                content["origin"] = began.as_record()
                if changed := began.changed_versions(origin):
                    print(f"warning: the sweep goes on with other versions than it began with: {changed}", file=sys.stderr)
            content["started"] = jsonfiles.seconds(path, earlier, "started")
            records.parent_run_id = jsonfiles.get(path, earlier, "parent_run_id", str, None)
        return records

    def lock(self) -> AbstractContextManager[Any]:
        """Acquires the lock of the sweep, held while it runs.

        Raises:
            ConfigError: when another process holds the lock.
        """
        from filelock import FileLock, Timeout

        self.folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.folder / ".lock")
        try:
            return lock.acquire(timeout=0)
        except Timeout:
            raise ConfigError("sweep.name", "a sweep that is not running already", self.folder.name) from None

    def trials(self) -> tuple[sweeps.Trial, ...]:
        """The recorded trials, by number. A trial whose record is damaged is left out, so that it runs again.

        Raises:
            ConfigError: for a trial's folder that is no folder, or a record that is no regular file.
        """
        trials = []
        for folder in reader.trial_folders(self.folder):
            path = folder / "trial.json"
            if not folder.is_dir() or (os.path.lexists(path) and not path.is_file()):
                raise ConfigError(str(folder if not folder.is_dir() else path), "a trial's record", "something else")
            try:
                trial = reader.trial(folder)
                not_finite = [
                    name for name in self.content["objectives"] if trial.complete and not isfinite(trial.metrics[name])
                ]
                if not_finite:
                    raise ConfigError(
                        str(folder / TrialFile.METRICS), f"a finite {not_finite[0]}", trial.metrics[not_finite[0]]
                    )
            except ConfigError as error:
                print(f"{folder.name} runs again: {error}", file=sys.stderr)
                continue
            trials.append(trial)
        return tuple(trials)

    def trial_folder(self, proposal: Proposal) -> Path:
        """The folder of a trial."""
        return self.folder / reader.trial_name(proposal.number)

    def begin(self, parent_run_id: str | None) -> None:
        """Writes the record of the sweep at its start."""
        self.content["parent_run_id"] = parent_run_id
        self._save()

    def end(self, status: str, importances: Mapping[str, Any]) -> None:
        """Writes the record of the sweep at its end."""
        self.content.update(status=status, ended=time.time(), importances=importances)
        self._save()

    def trial(
        self,
        proposal: Proposal,
        state: str,
        *,
        seconds: float | None = None,
        error: str | None = None,
        run_id: str | None = None,
    ) -> None:
        """Writes the record of a trial."""
        folder = self.trial_folder(proposal)
        folder.mkdir(parents=True, exist_ok=True)
        content = {
            "number": proposal.number,
            "state": state,
            "overrides": dict(text.split("=", 1) for text in proposal.point),
            "fixed": _without_places(dict(text.split("=", 1) for text in self.space.constants(proposal.point) if "=" in text)),
            "seconds": seconds,
            "error": error,
            "run_id": run_id,
        }
        files.write_json(folder / "trial.json", content)

    def leave_error(self, proposal: Proposal, error: str) -> bool:
        """Writes the `error.txt` of a trial that could not write it; returns whether it was missing."""
        path = self.trial_folder(proposal) / TrialFile.ERROR
        if path.exists():
            return False
        files.write(path, error + "\n")
        return True

    def _save(self) -> None:
        files.write_json(self.folder / "sweep.json", self.content)


def _without_places(fixed: Mapping[str, str]) -> dict[str, str]:
    """What of the overrides says what a trial is, not where it is written or what it is shown beside."""
    return {key: text for key, text in fixed.items() if key not in ("sweep.name", "sweep.references", "output")}


def _difference(earlier: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """The keys that differ, with their old and new values."""
    keys = [key for key in {**earlier, **now} if earlier.get(key) != now.get(key)]
    return ", ".join(f"{key}={earlier.get(key, 'absent')} then, {key}={now.get(key, 'absent')} now" for key in keys)
