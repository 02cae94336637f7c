"""What a trial knows of its sweep, read from the records that the sweeper writes before it starts the trial.

The records lie in the sweep's folder, which every launcher's processes see, so nothing of this is in the configuration.
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
    """Where a trial belongs.

    Attributes:
        swept: override key, without a leading +, to text of what the sweep varies, in the order of its axes.
        parent_run_id: the sweep's run in the tracker; None where nothing is tracked.
        limits: metric to the (lowest, highest) value that the sweep's constraints allow.
        front: the file with the front of the sweep so far; there is none where no trial is stopped early.
    """

    swept: Mapping[str, str]
    parent_run_id: str | None
    limits: Limits
    front: Path

    @staticmethod
    def read(folder: Path) -> Membership:
        """The membership of the trial in a folder.

        Raises:
            ConfigError: for a record that is missing or damaged.
        """
        own, above = folder / TRIAL, folder.parent / SWEEP
        overrides = jsonfiles.texts(own, jsonfiles.read(own), "overrides")
        sweep = jsonfiles.read(above)
        return Membership(
            swept={key.lstrip("+"): text for key, text in overrides.items()},
            parent_run_id=jsonfiles.get(above, sweep, "parent_run_id", str, None),
            limits=reader.limits(above, sweep),
            front=folder.parent / FRONT,
        )
