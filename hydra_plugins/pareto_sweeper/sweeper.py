"""The plugin's face. Hydra imports this module at every start, `--help` included, so the work is in `sweep.search`."""

from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


@dataclass
class ParetoSweeperConfig:
    """Keys of the sweeper.

    Attributes:
        objectives: metric to `maximize` or `minimize`, one to four; the front is theirs. The test split cannot be one. null
            takes a metric out (`size_bytes: null`), since what is given joins the default.
        constraints: metric to a bound (`<=50000`, `>=0.97`) that a trial must keep to count for the front.
        params: axes in Hydra's sweep grammar, override key to values; the command line's come on top and win. A single value
            holds where its key exists; null takes an axis out.
        sampler: `tpe`, `nsga2`, `nsga3`, `qmc` or `random`: who proposes the points of a search.
        seed: of the sampler.
        n_trials: how many trials a search has in all; null makes finite axes an exact grid.
        timeout: seconds after which no further trial starts; null for no limit.
        n_jobs: trials side by side; they share the cores where `threads` is null.
        max_failure_rate: the fraction of failed trials, of at least five, above which the sweep stops.
        early_stop: margin by which a finished trial must be ahead of what is to be expected of another, for that one to be
            stopped before its next fine-tuning: accuracies as they are, other metrics as a fraction. null: never. Never in a
            grid either, nor where `seed` is an axis.
        patience: trials without growth of the hypervolume after which the sweep stops; null for none.
        max_points: points that a grid may have; a search may be over any number.
    """

    _target_: str = "hydra_plugins.pareto_sweeper.sweeper.ParetoSweeper"
    objectives: dict[str, str | None] = field(default_factory=lambda: {"val_accuracy": "maximize", "size_bytes": "minimize"})
    constraints: dict[str, Any] = field(default_factory=dict)
    params: dict[str, Any] = field(default_factory=dict)
    sampler: str = "tpe"
    seed: int = 0
    n_trials: int | None = None
    timeout: float | None = None
    n_jobs: int = 1
    max_failure_rate: float = 0.5
    early_stop: float | None = 0.05
    patience: int | None = None
    max_points: int = 100_000


ConfigStore.instance().store(group="hydra/sweeper", name="pareto", node=ParetoSweeperConfig, provider="pareto_sweeper")


class ParetoSweeper(Sweeper):
    """An exact grid where all axes are finite and no number of trials is given, an Optuna search otherwise."""

    def __init__(self, objectives: dict[str, str | None], **settings: Any) -> None:
        chosen = {metric: direction for metric, direction in objectives.items() if direction is not None}
        self._settings = {**settings, "objectives": chosen}

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keep what `sweep` needs."""
        self._context, self._config = hydra_context, config
        self._launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> Any:
        """Sweep over the axes in `arguments` and in `hydra.sweeper.params`."""
        from sweep.config import build
        from sweep.search.settings import Settings
        from sweep.search.sweeper import sweep

        build.metrics(self._config)  # the objectives may name them
        return sweep(self._launcher, self._context.config_loader, self._config, Settings(**self._settings), arguments)
