"""What Hydra knows of a run besides its configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode


@dataclass(frozen=True)
class Invocation:
    """A run as Hydra invoked it.

    Attributes:
        folder: the output folder of the run; it exists.
        choices: group to choice, as composed.
        overrides: the overrides of the run, without those of Hydra's own keys.
        swept: whether it is a trial of a sweep.
    """

    folder: Path
    choices: Mapping[str, str]
    overrides: tuple[str, ...]
    swept: bool

    @staticmethod
    def current() -> Invocation:
        """The current invocation of this process."""
        state = HydraConfig.get()
        return Invocation(
            folder=Path(state.runtime.output_dir),
            choices=state.runtime.choices,
            overrides=tuple(state.overrides.task),
            swept=state.mode == RunMode.MULTIRUN,
        )
