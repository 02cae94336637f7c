"""The place of a trial in its sweep, from the records that the sweeper writes before it starts the trial.

Every launcher's processes see the folder of the sweep, so the configuration needs none of this.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sweep.core import jsonfiles
from sweep.results import reader
from sweep.results.sweeps import Limits

SWEEP, TRIAL, FRONT = "sweep.json", "trial.json", "front.json"
"""The files: the sweep's record and front in its folder, a trial's record in the trial's own."""


@dataclass(frozen=True)
class Membership:
    """The place of a trial in its sweep.

    Attributes:
        swept: override key, without a leading +, to text, for the axes of the sweep in their order.
        parent_run_id: the id of the sweep's run in the tracker; None without tracking.
        limits: metric to the (lowest, highest) value that the sweep's constraints allow.
        front: the file with the current front of the sweep; it is missing without early stopping.
    """

    swept: Mapping[str, str]
    parent_run_id: str | None
    limits: Limits
    front: Path

    @staticmethod
    def read(folder: Path) -> Membership:
        """Reads the membership of the trial in a folder.

        Raises:
            ConfigError: for a record that is missing or damaged.
        """
        trial_path, sweep_path = folder / TRIAL, folder.parent / SWEEP
        overrides = jsonfiles.texts(trial_path, jsonfiles.read(trial_path), "overrides")
        sweep = jsonfiles.read(sweep_path)
        return Membership(
            swept={key.lstrip("+"): text for key, text in overrides.items()},
            parent_run_id=jsonfiles.get(sweep_path, sweep, "parent_run_id", str, None),
            limits=reader.limits(sweep_path, sweep),
            front=folder.parent / FRONT,
        )
