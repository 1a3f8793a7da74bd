"""The job of ``tinylab train``, which Hydra calls with a composed config."""

from typing import TYPE_CHECKING

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from tinylab.config import own_metrics
from tinylab.config.compose import to_config
from tinylab.config.schema import Config, SweepConfig
from tinylab.errors import Stopped, UserError
from tinylab.ui.console import said_if_slow, say

if TYPE_CHECKING:
    from tinylab.store.run import Run


def job(composed: DictConfig) -> float | None:
    """Run one Hydra job: train the config, or return its existing result.

    In a sweep with another launcher, a failure is recorded and the next job runs.
    """
    hydra_config = HydraConfig.get() if HydraConfig.initialized() else None
    config = to_config(composed)
    if hydra_config is None or hydra_config.mode != RunMode.MULTIRUN:
        refuse_sweep(config)
        return train(config).metric("val_accuracy")
    if config.sweep.workers is not None:  # a launcher's job is a worker of a shared study
        from tinylab.store.sweep import sweep_folder
        from tinylab.sweeps import crew

        crew.run_one_here(sweep_folder(config.outputs, config.name or "").path)
        return None
    from tinylab import data
    from tinylab.config import weights
    from tinylab.store.folder import run_folder

    config = weights.identified(data.identified(config))
    say(f"\njob {hydra_config.job.num + 1}: {' '.join(hydra_config.overrides.task)}")
    with run_folder(config).failure_recorded():
        try:
            return train(config).metric("val_accuracy")
        except Stopped as stop:  # no traceback, whichever launcher is used
            raise SystemExit(128 + stop.signum) from None
    return None


def refuse_sweep(config: Config) -> None:
    """Raise UserError for a sweep option given to a single run."""
    sweep, default = config.sweep, SweepConfig()
    keys = dict.fromkeys([*sweep.space, *(key for each in sweep.settings for key in each)])
    given = [name for name, value in vars(sweep).items() if value != getattr(default, name)]
    if keys or given:
        what = f"over {', '.join(keys)}" if keys else f"sweep.{given[0]}={getattr(sweep, given[0])}"
        raise UserError(f"{what}: expected -m, which runs a sweep: tinylab train -m ...")


def train(config: Config, command: str | None = None) -> "Run":
    """Train one config unless it is already finished.

    ``command`` is recorded in the result (None: the command line).
    """
    # Imports numpy, which a refused override does not wait for.
    from tinylab import data
    from tinylab.config import weights
    from tinylab.store.folder import run_folder
    from tinylab.store.run import open_run

    own_metrics.refuse_undeclared(config)
    config = weights.identified(data.identified(config))
    files = run_folder(config)
    result = files.valid_result(config) or files.bring_back(config)
    if result is not None and files.is_presented():
        files.say_finished(result)
    else:
        with said_if_slow("loading PyTorch ..."):  # seconds on a busy machine or a slow disk
            from tinylab.experiment import run as experiment
            from tinylab.system import runtime

        if config.fresh:
            data.make_ready(config.dataset, fresh=True)
        experiment.run(config, command or runtime.command_line())
    return open_run(files.path)
