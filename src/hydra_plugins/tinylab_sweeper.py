"""tinylab's sweeper, where Hydra looks for plugins. It is imported at every start: no torch."""

from typing import Any

from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class TinylabSweeper(Sweeper):
    """Hands the jobs of ``tinylab train -m`` to Hydra's launcher."""

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Make the launcher that the config names."""
        self._loader = hydra_context.config_loader
        self._master = config
        self._launcher: Launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> Any:
        """Check every job, run what is missing, show the table."""
        from tinylab.sweep import run

        return run(arguments, self._loader, self._master, self._launcher)
