"""The records of a sweep: its own `sweep.json`, and a `trial.json` a trial.

The trials' records are the truth about what is finished; Optuna's journal can be rebuilt from them.
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
        folder: of the sweep.
        space: what varies.
        content: what `sweep.json` holds.
        parent_run_id: the sweep's run in the tracker, where an earlier start has one.
    """

    folder: Path
    space: Space
    content: dict[str, Any]
    parent_run_id: str | None = None

    @staticmethod
    def open(folder: Path, space: Space, settings: Settings, arguments: Sequence[str], origin: Origin) -> Records:
        """The records in `folder`, new or of an earlier start.

        Raises:
            ConfigError: when the earlier start had another space or other objectives, or stood on something else, or its record
                is damaged.
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
                if changed := began.versions_told(origin):
                    print(f"warning: the sweep goes on with other versions than it began with: {changed}", file=sys.stderr)
            content["started"] = jsonfiles.seconds(path, earlier, "started")
            records.parent_run_id = jsonfiles.get(path, earlier, "parent_run_id", str, None)
        return records

    def lock(self) -> AbstractContextManager[Any]:
        """Held while the sweep runs.

        Raises:
            ConfigError: when another process holds it.
        """
        from filelock import FileLock, Timeout

        self.folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.folder / ".lock")
        try:
            return lock.acquire(timeout=0)
        except Timeout:
            raise ConfigError("sweep.name", "a sweep that is not running already", self.folder.name) from None

    def trials(self) -> tuple[sweeps.Trial, ...]:
        """What the trials' own records say, by number. A trial whose record is damaged has not ended: it runs again.

        Raises:
            ConfigError: for something in the place of a trial's folder or of its record that cannot be written over.
        """
        trials = []
        for folder in reader.trial_folders(self.folder):
            path = folder / "trial.json"
            if not folder.is_dir() or (os.path.lexists(path) and not path.is_file()):
                raise ConfigError(str(folder if not folder.is_dir() else path), "a trial's record", "something else")
            try:
                trial = reader.trial(folder)
                lacking = [name for name in self.content["objectives"] if trial.complete and not isfinite(trial.metrics[name])]
                if lacking:
                    raise ConfigError(str(folder / TrialFile.METRICS), f"a finite {lacking[0]}", trial.metrics[lacking[0]])
            except ConfigError as error:
                print(f"{folder.name} runs again: {error}", file=sys.stderr)
                continue
            trials.append(trial)
        return tuple(trials)

    def trial_folder(self, proposal: Proposal) -> Path:
        """Where the files of a trial are."""
        return self.folder / reader.trial_name(proposal.number)

    def begin(self, parent_run_id: str | None) -> None:
        """The sweep starts."""
        self.content["parent_run_id"] = parent_run_id
        self._save()

    def end(self, status: str, importances: Mapping[str, Any]) -> None:
        """The sweep ends."""
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
        """Write what is known of a trial."""
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
        """Write the `error.txt` of a trial that could not; returns whether it was missing."""
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
    """What differs, old and new."""
    keys = [key for key in {**earlier, **now} if earlier.get(key) != now.get(key)]
    return ", ".join(f"{key}={earlier.get(key, 'absent')} then, {key}={now.get(key, 'absent')} now" for key in keys)
