"""A search inside each fold of a cross-validation, and one unbiased estimate of the procedure.

Every fold's search is a separate sweep, ``<name>-fold<k>``; the nested sweep lists the runs that
each has selected.
"""

import contextlib
import dataclasses
from collections.abc import Sequence
from typing import Any

from hydra.plugins.launcher import Launcher

from tinylab import data
from tinylab.comparison import nested
from tinylab.config.identity import run_id
from tinylab.errors import UserError
from tinylab.store.sweep import SweepFolder, sweep_folder
from tinylab.sweeps import conclusion, crew, leaderboard, search
from tinylab.sweeps.cards import room_for
from tinylab.sweeps.job import Composer, Job, label
from tinylab.sweeps.launch import launch
from tinylab.sweeps.search import Search
from tinylab.sweeps.shared import Shared
from tinylab.sweeps.space import Space
from tinylab.ui.console import say
from tinylab.ui.tables import on_screen

ONE_DIVISION = ("split.fold", "split.seed")

Part = tuple[Space, SweepFolder, list[Job]]  # a fold's search space, folder and checked jobs


def refuse_wrong_space(space: Space, arguments: list[str]) -> None:
    """Raise UserError for what a nested search cannot vary."""
    if space.settings.search == "grid":
        raise UserError(
            "sweep.nested=true: expected a search in each fold, such as sweep.search=random "
            "sweep.trials=99, which tries every combination of lists once"
        )
    varied = {key for seeds in space.repeats for key in seeds}
    fixed = {argument.partition("=")[0] for argument in arguments}
    for key in ONE_DIVISION:
        if key in varied or (key in fixed and key == "split.fold"):
            raise UserError(
                f"sweep.nested=true with {key}: it uses each fold of one split once; leave "
                f"{key} out"
            )


def refuse_official_test(jobs: list[Job]) -> None:
    """Raise UserError for data with a fixed test set: its folds only hold out validation images."""
    for config in {repr(job.config.dataset): job.config for job in jobs}.values():
        if data.load_undivided(config.dataset).dataset.num_official_test:
            raise UserError(
                f"sweep.nested=true: {config.dataset.name} has an official test set, so folds "
                "hold out validation images only; leave sweep.nested out"
            )


class Folds:
    """The plan of all folds' searches."""

    def __init__(self, searches: list[Search]) -> None:
        self._searches = searches

    def next_job(self) -> Job | None:
        """Return the next job of the first fold that has one."""
        jobs = (each.next_job() for each in self._searches)
        return next((job for job in jobs if job is not None), None)

    def goes_on(self, job: Job, row: dict[str, float | None]) -> bool:
        """Ask the job's own search whether it should continue."""
        return self._searches[job.config.split.fold].goes_on(job, row)

    def ended(self, job: Job, state: str) -> None:
        """Tell the job's own search."""
        self._searches[job.config.split.fold].ended(job, state)

    @property
    def num_ended(self) -> int:
        """The number of runs in all folds that have ended."""
        return sum(each.num_ended for each in self._searches)

    @property
    def best(self) -> str:
        """Empty: each fold selects separately."""
        return ""


def run(space: Space, composer: Composer, arguments: list[str], launcher: Launcher | None) -> None:
    """Search in every fold, and report the estimate for the whole procedure."""
    refuse_wrong_space(space, arguments)
    checked = [search.check(space, composer)]
    config = checked[0][0].config
    folds = config.split.folds
    if folds is None:
        raise UserError("sweep.nested=true: expected folds to search in, such as split=crossval")
    refuse_official_test(checked[0])
    spaces = [
        dataclasses.replace(space, fixed=[*space.fixed, f"split.fold={fold}"])
        for fold in range(folds)
    ]
    checked += [search.check(each, composer) for each in spaces[1:]]
    name = config.name or f"{search.folder_of(space, config).path.name}-nested"
    folder = sweep_folder(config.outputs, name)
    description = search.describe(space, config)
    _refuse_other_sweep(folder, description, config.fresh)
    inner = [sweep_folder(config.outputs, f"{name}-fold{fold}") for fold in range(folds)]
    parts = list(zip(spaces, inner, checked, strict=True))
    plans: Sequence[Search | Shared]
    with folder.sole_writer():
        _write(folder, description, arguments, [])
        if space.settings.workers is None:
            plans = _searched_here(parts, composer, arguments)
        else:
            plans = _searched_by_workers(parts, composer, arguments, launcher)
    _write(folder, description, arguments, _choices(plans, inner))
    _say(folder, plans)


def _searched_here(parts: Sequence[Part], composer: Composer, arguments: list[str]) -> list[Search]:
    """Run the searches of all folds in one pool of processes."""
    with contextlib.ExitStack() as stack:
        for _, folder, _ in parts:
            stack.enter_context(folder.sole_writer())
        plans = [Search(own, composer, at, jobs, arguments) for own, at, jobs in parts]
        folds, total = Folds(plans), sum(plan.num_jobs for plan in plans)
        say(f"{len(parts)} folds, each with a {plans[0]}; {folds.num_ended} runs already ended")
        launch(folds, room_for(parts[0][2][0].config, total), total)
    return plans


def _searched_by_workers(
    parts: Sequence[Part], composer: Composer, arguments: list[str], launcher: Launcher | None
) -> list[Shared]:
    """Run the search of one fold after another, each as a study that workers share."""
    plans = []
    for fold, (own, folder, jobs) in enumerate(parts):
        say(f"\nfold {fold + 1} of {len(parts)}")
        kept = [each for each in arguments if not each.startswith(("sweep.nested=", "name="))]
        kept += ["sweep.nested=false", f"split.fold={fold}", f"name={folder.path.name}"]
        description = search.describe(own, jobs[0].config)
        work = crew.Work(own, composer, folder, jobs, description)
        plans.append(crew.serve(work, kept, launcher))
    return plans


def _refuse_other_sweep(folder: SweepFolder, description: dict[str, Any], fresh: bool) -> None:
    state = folder.state()
    if state is not None and not fresh and state.get("in_each_fold") != description:
        raise UserError(
            f"name={folder.path.name}: {folder.path} holds another sweep; choose another name, or "
            "start over with fresh=true"
        )


def _write(
    folder: SweepFolder,
    description: dict[str, Any],
    arguments: list[str],
    chosen: list[tuple[dict[str, Any], list[dict[str, Any]]]],
) -> None:
    folder.write_state(
        arguments=arguments,
        in_each_fold=description,
        nested=[fold for fold, _ in chosen],
        jobs=[job for _, jobs in chosen for job in jobs],
    )


def _choices(
    plans: Sequence[Search | Shared], inner: list[SweepFolder]
) -> list[tuple[dict[str, Any], list[dict[str, Any]]]]:
    """Write the results of each search, and select a setting. Raises UserError if one is
    unfinished.
    """
    tables = [leaderboard.rows_of_search(plan.trials) for plan in plans]
    for at, plan, table in zip(inner, plans, tables, strict=True):
        conclusion.write(at, {run_id(job.config): job.label for job in plan.jobs}, table)
    jobs = [job for plan in plans for job in plan.jobs]
    conclusion.refuse_unfinished([row for table in tables for row in table], jobs)
    return [_choice(fold, plan) for fold, plan in enumerate(plans)]


def _say(folder: SweepFolder, plans: Sequence[Search | Shared]) -> None:
    """Print the estimate, and write the page and curves."""
    estimate = nested.of_sweep(folder)
    assert estimate is not None
    say("")
    for line in on_screen(nested.sections([estimate])):
        say(line)
    labels = {
        run_id(job.config): f"fold{fold} {job.label}"
        for fold, plan in enumerate(plans)
        for job in plan.jobs
    }
    conclusion.write(folder, labels, [dataclasses.asdict(fold) for fold in estimate.folds])
    conclusion.say_files(folder)


def _choice(fold: int, plan: Search | Shared) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the best setting of a fold by validation, and its runs."""
    best = leaderboard.best(plan.trials)
    if best is None:
        raise UserError(f"split.fold={fold}: no setting finished, so none can be selected")
    jobs = [
        {"run_id": each.run_id, "overrides": each.job.varied, "state": each.state}
        for each in best.repeats
    ]
    facts = {
        "fold": fold, "setting": label(best.varied), "trials": len(plan.trials),
        "run_ids": [each.run_id for each in best.repeats],
    }  # fmt: skip
    return facts, jobs
