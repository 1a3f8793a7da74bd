"""The grid of ``tinylab train -m a=1,2 b=x,y``: every combination is one job."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from omegaconf import DictConfig, open_dict

from tinylab import runs
from tinylab.compose import to_config
from tinylab.config import Config, run_id
from tinylab.console import say
from tinylab.errors import UserError
from tinylab.sweep.table import show


@dataclass(frozen=True)
class Job:
    """One combination: its overrides, what varies in it, and its checked config."""

    overrides: list[str]
    varied: dict[str, str]
    config: Config

    @property
    def folder(self) -> Path:
        """Where its run is kept."""
        return runs.folder_of(self.config)


def run(
    arguments: list[str], loader: ConfigLoader, master: DictConfig, launcher: Launcher
) -> list[Sequence[JobReturn]]:
    """Run every combination of ``arguments``; one that fails does not stop the others.

    Raises UserError before the first job where any of them is wrong, and after the last one
    where any has failed.
    """
    jobs = expand(arguments, loader, master)
    say(f"sweep of {len(jobs)} jobs over {', '.join(jobs[0].varied) or 'nothing'}")
    returns = launcher.launch([job.overrides for job in jobs], initial_job_idx=0)
    failed = show([(job.varied, job.folder) for job in jobs])
    if failed:
        raise UserError(
            f"{failed} of {len(jobs)} jobs failed; each one's train.log says why\n"
            "  mend the cause and repeat the command: what is finished is not run again"
        )
    return [returns]


def expand(arguments: list[str], loader: ConfigLoader, master: DictConfig) -> list[Job]:
    """The jobs of a sweep, each composed and checked. Raises UserError for the first bad one."""
    combinations = _combinations(arguments, loader)
    jobs: list[Job] = []
    for number, (overrides, varied) in enumerate(combinations, start=1):
        composed = loader.load_sweep_config(master, overrides)
        with open_dict(composed):
            del composed["hydra"]
        try:
            jobs.append(Job(overrides, varied, to_config(composed)))
        except UserError as error:
            raise UserError(f"job {number} of {len(combinations)}: {error}") from error
    _refuse_twins(jobs)
    return jobs


def _combinations(
    arguments: list[str], loader: ConfigLoader
) -> list[tuple[list[str], dict[str, str]]]:
    """Every combination, as the overrides of its job and what is varied in it."""
    fixed: list[str] = []
    axes: list[list[tuple[str, str]]] = []
    for override in OverridesParser.create(config_loader=loader).parse_overrides(arguments):
        key = override.get_key_element()
        if not override.is_sweep_override():
            fixed.append(f"{key}={override.get_value_element_as_str()}")
            continue
        if not override.is_discrete_sweep():
            raise UserError(f"{override.input_line}: an interval has no end of values; list some")
        values = [str(value) for value in override.sweep_string_iterator()]
        if not values:
            raise UserError(f"{override.input_line}: no value to try")
        axes.append([(key, value) for value in values])
    return [
        ([*fixed, *(f"{key}={value}" for key, value in combination)], dict(combination))
        for combination in itertools.product(*axes)
    ]


def _refuse_twins(jobs: list[Job]) -> None:
    seen: dict[str, int] = {}
    for number, job in enumerate(jobs, start=1):
        first = seen.setdefault(run_id(job.config), number)
        if first != number:
            raise UserError(
                f"jobs {first} and {number} of {len(jobs)} are the same run ({job.varied}); "
                "remove the repeated value"
            )
