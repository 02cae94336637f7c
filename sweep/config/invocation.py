"""How Hydra calls what runs under a composed configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode


@dataclass(frozen=True)
class Invocation:
    """What Hydra knows of one run besides its configuration.

    Attributes:
        folder: where the run's files go; it exists.
        choices: group to choice, as composed.
        overrides: the overrides that the run was given, but for those of Hydra's own keys.
        swept: whether it is a trial of a sweep.
    """

    folder: Path
    choices: Mapping[str, str]
    overrides: tuple[str, ...]
    swept: bool

    @staticmethod
    def current() -> Invocation:
        """The one under way in this process."""
        state = HydraConfig.get()
        return Invocation(
            folder=Path(state.runtime.output_dir),
            choices=state.runtime.choices,
            overrides=tuple(state.overrides.task),
            swept=state.mode == RunMode.MULTIRUN,
        )
