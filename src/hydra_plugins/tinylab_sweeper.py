"""tinylab's sweeper, in the package where Hydra looks for plugins.

Imported at every start, so it does not import torch.
"""

from typing import Any

from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class TinylabSweeper(Sweeper):
    """The sweeper behind ``tinylab train -m``."""

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Create the launcher that the config names, if any."""
        self._loader = hydra_context.config_loader
        self._master = config
        self._launcher: Launcher | None = None
        # Hydra's own runs one job after another; tinylab's runs them in parallel.
        if config.hydra.runtime.choices["hydra/launcher"] != "basic":
            self._launcher = Plugins.instance().instantiate_launcher(
                hydra_context=hydra_context, task_function=task_function, config=config
            )

    def sweep(self, arguments: list[str]) -> Any:
        """Check all jobs, run the missing ones and show the table."""
        from tinylab.sweeps import run

        return run(arguments, self._loader, self._master, self._launcher)
