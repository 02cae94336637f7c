"""The sweeper's keys, validated."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sweep.core.errors import ConfigError, require_choice, require_integer, require_number
from sweep.core.metrics import searchable
from sweep.search.constraints import Constraint


@dataclass(frozen=True)
class Settings:
    """The sweeper's keys (see `ParetoSweeperConfig`).

    Raises:
        ConfigError: for a value outside the range of its key.
    """

    params: Mapping[str, Any]
    objectives: Mapping[str, str]
    constraints: Mapping[str, Any]
    sampler: str
    seed: int
    n_trials: int | None
    timeout: float | None
    n_jobs: int
    max_failure_rate: float
    early_stop: float | None
    patience: int | None
    max_points: int = 100_000

    def __post_init__(self) -> None:
        if not 1 <= len(self.objectives) <= 4:
            raise ConfigError("hydra.sweeper.objectives", "one to four metrics", str(dict(self.objectives)))
        for metric, direction in self.objectives.items():
            require_choice("hydra.sweeper.objectives", metric, searchable())
            require_choice(f"hydra.sweeper.objectives.{metric}", direction, ("maximize", "minimize"))
        for metric in self.constraints:
            require_choice("hydra.sweeper.constraints", metric, searchable())
        require_integer("hydra.sweeper.seed", self.seed, 0, 2**31 - 1)
        require_integer("hydra.sweeper.n_jobs", self.n_jobs, 1, 1024)
        require_integer("hydra.sweeper.max_points", self.max_points, 1, 10_000_000)
        require_number("hydra.sweeper.max_failure_rate", self.max_failure_rate, 0, 1)
        for name, least in (("n_trials", 1), ("patience", 1)):
            if (value := getattr(self, name)) is not None:
                require_integer(f"hydra.sweeper.{name}", value, least, 10_000_000)
        if self.timeout is not None:
            require_number("hydra.sweeper.timeout", self.timeout, 0, 10**9, open_low=True)
        if self.early_stop is not None:
            require_number("hydra.sweeper.early_stop", self.early_stop, 0, 10**6)

    @property
    def bounds(self) -> tuple[Constraint, ...]:
        """The constraints, parsed."""
        return tuple(Constraint.parse(metric, text) for metric, text in self.constraints.items())
