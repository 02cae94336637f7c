"""The plugin's face. Hydra imports this module at every start, `--help` included, so the work is in `_impl`."""

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
        params: axes in Hydra's sweep grammar, override key to values; the command line's come on top and win.
    """

    _target_: str = "hydra_plugins.pareto_sweeper.sweeper.ParetoSweeper"
    params: dict[str, Any] = field(default_factory=dict)


ConfigStore.instance().store(group="hydra/sweeper", name="pareto", node=ParetoSweeperConfig, provider="pareto_sweeper")


class ParetoSweeper(Sweeper):
    """Runs every point of an exact grid once, through whichever launcher is configured."""

    def __init__(self, params: DictConfig) -> None:
        self._params = params

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keep what `sweep` needs."""
        self._context, self._config = hydra_context, config
        self._launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> Any:
        """Sweep over the axes in `arguments` and in `hydra.sweeper.params`."""
        from hydra_plugins.pareto_sweeper import _impl

        return _impl.sweep(self._launcher, self._context.config_loader, self._config, dict(self._params), arguments)
