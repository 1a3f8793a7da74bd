"""Sweeps: many configs from one command, checked before the first job starts.

The state of a sweep is the state of its runs: the same command runs what is missing, and nothing
else. ``sweep.json`` lists the runs that belong to it.

``space`` parses what varies. ``grid`` creates all jobs at once; ``search`` creates them one by one,
from ``proposals`` by Optuna: its ``trials`` are repeated over seeds, and pruned by ``pruning``.
Both are plans, which ``launch`` runs in a ``pool`` of processes, each running the loop of
``worker``, or which a Hydra launcher runs ``elsewhere``. ``conclusion`` reports the results.
``nested`` runs a search in each fold. With ``sweep.workers``, a ``crew`` of workers takes trials
from one ``shared`` study, a ``journal`` on disk.
"""

import contextlib
import hashlib
from collections.abc import Sequence
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.plugins.launcher import Launcher
from omegaconf import DictConfig

from tinylab import data
from tinylab.config import own_metrics
from tinylab.config.identity import file_name, run_id
from tinylab.errors import UserError
from tinylab.store.folder import outdated
from tinylab.store.result import Result
from tinylab.store.sweep import SweepFolder, sweep_folder
from tinylab.sweeps import elsewhere, leaderboard, live
from tinylab.sweeps.cards import room_for
from tinylab.sweeps.conclusion import conclude
from tinylab.sweeps.grid import Grid, expand
from tinylab.sweeps.job import Composer, Job
from tinylab.sweeps.launch import launch
from tinylab.sweeps.space import Space, read
from tinylab.sweeps.standings import standings_of
from tinylab.ui.console import counted, say


def run(
    arguments: list[str], loader: ConfigLoader, master: DictConfig, launcher: Launcher | None
) -> list[Any]:
    """Run what is missing of a grid or a search; a failed job does not stop the others.

    ``launcher``: a Hydra plugin (SLURM, Ray, ...); None: tinylab's own, on this machine. Raises
    UserError before the first job if any job is invalid, and after the last one if any has failed.
    """
    composer = Composer(loader, master)
    space = read(arguments, composer)
    settings = space.settings
    if settings.workers is not None and not settings.nested:
        _run_shared(space, composer, arguments, launcher)
        return []
    if settings.search == "grid" and not settings.nested:
        return _run_grid(space, composer, arguments, launcher)
    if launcher is not None and settings.search != "grid" and settings.workers is None:
        raise UserError(
            f"sweep.search={settings.search} with hydra/launcher: Hydra's launchers cannot run "
            "jobs one at a time; expected workers too (sweep.workers=N), or sweep.search=grid"
        )
    if settings.nested:
        from tinylab.sweeps import nested

        nested.run(space, composer, arguments, launcher)
        return []
    _run_search(space, composer, arguments)
    return []


def _run_grid(
    space: Space, composer: Composer, arguments: list[str], launcher: Launcher | None
) -> list[Any]:
    jobs = expand(space, composer)
    folder = _folder(jobs)
    _refuse_other_sweep(folder, jobs, arguments)
    missing = _missing(jobs)
    finished = len(jobs) - len(missing)
    begun = sum(job.files.last_checkpoint.exists() for job in missing)
    resumed = f", {begun} to resume" if begun else ""
    say(f"sweep of {counted(len(jobs), 'job')} over {space}; {finished} already finished{resumed}")
    _write_state(folder, jobs, arguments)
    launched = [job for job in missing if job.config.sweep.retry_failed or not _has_failed(job)]
    returns: Sequence[Any] = []
    with live.report(folder, jobs[0].config) if launched else contextlib.nullcontext():
        if launched and launcher is not None:
            returns = elsewhere.launch(launcher, launched, len(jobs))
        elif launched:
            _make_data_ready(launched)
            room = room_for(jobs[0].config, len(jobs))
            launch(Grid(jobs, launched), room, len(jobs))
    if jobs[0].config.sweep.keep is not None:
        standings_of(jobs)  # deletes checkpoints that are not kept, wherever the jobs ran
    _write_state(folder, jobs, arguments)
    conclude(folder, jobs, leaderboard.rows(jobs))
    return [returns]


def _run_search(space: Space, composer: Composer, arguments: list[str]) -> None:
    from tinylab.sweeps import search  # imports optuna

    checked = search.check(space, composer)
    config = checked[0].config
    folder = search.folder_of(space, config)
    with folder.sole_writer():
        plan = search.Search(space, composer, folder, checked, arguments)
        done = plan.num_ended
        runs = " runs" if plan.num_jobs > plan.total else ""
        say(f"{plan}; {done}{runs} already ended")
        _make_data_ready(checked)
        with live.report(folder, config):
            launch(plan, room_for(config, plan.num_jobs), plan.num_jobs)
    importances = [f"{key} {fraction:.0%}" for key, fraction in plan.importances().items()]
    if importances:
        say(f"\nimportance  {', '.join(importances)}")
    conclude(folder, plan.jobs, leaderboard.rows_of_search(plan.trials))


def _run_shared(
    space: Space, composer: Composer, arguments: list[str], launcher: Launcher | None
) -> None:
    from tinylab.sweeps import crew, search  # imports optuna

    description = None
    if space.settings.search == "grid":
        jobs = expand(space, composer)
        folder = _folder(jobs)
    else:
        jobs = search.check(space, composer)
        folder = search.folder_of(space, jobs[0].config)
        description = search.describe(space, jobs[0].config)
    work = crew.Work(space, composer, folder, jobs, description)
    if space.settings.workers == 0:
        crew.work_here(work)
        return
    if description is None:
        _refuse_other_sweep(folder, jobs, arguments)
    _make_data_ready(jobs)
    crew.run(work, arguments, launcher)


def _make_data_ready(jobs: list[Job]) -> None:
    """Prepare data once for all jobs; if that fails, the jobs that need it fail."""
    for config in {repr(job.config.dataset): job.config for job in jobs}.values():
        with contextlib.suppress(UserError):
            data.make_ready(config.dataset, config.fresh)


def _folder(jobs: list[Job]) -> SweepFolder:
    """Return ``outputs/sweeps/<name>``, by default named after a hash of its runs."""
    config = jobs[0].config
    digest = hashlib.sha256(" ".join(sorted(run_id(job.config) for job in jobs)).encode())
    name = config.name or f"{file_name(config.dataset.name)}-{digest.hexdigest()[:10]}"
    return sweep_folder(config.outputs, name)


def _refuse_other_sweep(folder: SweepFolder, jobs: list[Job], arguments: list[str]) -> None:
    """Raise UserError if the name belongs to another sweep, whose tables would be lost.

    A grid that includes all of its jobs, or the same command with changed data, continues it.
    """
    state, config = folder.state(), jobs[0].config
    if state is None or config.fresh or state.get("arguments") == arguments:
        return
    before, now = folder.jobs() or {}, {run_id(job.config) for job in jobs}
    if "search" not in state and before.keys() <= now:
        return
    gone = len(before.keys() - now)
    less = counted(gone, "job")
    what = "a search" if "search" in state else f"a sweep with {less} missing from this one"
    raise UserError(
        f"name={config.name}: {folder.path} holds {what}\n  choose another name, extend the "
        "values of that sweep, or start over with fresh=true"
    )


def _missing(jobs: list[Job]) -> list[Job]:
    """Return the jobs whose result is missing or no longer valid (with a message), and those of
    which only the result exists, since a kill came right after it.
    """
    fingerprints: dict[str, str | None] = {}
    missing, reasons, notes = [], [], dict[str, None]()
    for job in jobs:
        files = job.files
        outcome = files.result_or_fault()
        why = None if outcome is None else outdated(outcome, job.config, fingerprints)
        if why and (earlier := files.bring_back(job.config)) is not None:
            outcome, why = earlier, None
        if job.config.fresh or outcome is None or why or not files.is_presented():
            missing.append(job)
        elif isinstance(outcome, Result):
            notes |= dict.fromkeys(own_metrics.notes(outcome.own_metrics or {}))
        if why:
            reasons.append(why)
    for why in dict.fromkeys(reasons):
        say(f"{why}; set aside and re-run: {reasons.count(why)} of {len(jobs)}")
    for note in notes:
        say(note)
    return missing


def _has_failed(job: Job) -> bool:
    return job.files.error() is not None


def _state(job: Job) -> str:
    if job.files.result() is not None:
        return "finished"
    return "failed" if _has_failed(job) else "missing"


def _write_state(folder: SweepFolder, jobs: list[Job], arguments: list[str]) -> None:
    listed = [
        {"run_id": run_id(job.config), "overrides": job.varied, "state": _state(job)}
        for job in jobs
    ]
    folder.write_state(arguments=arguments, jobs=listed)
