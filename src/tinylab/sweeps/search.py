"""A search: trials that are proposed one by one, each of them a run.

What must survive a kill is which values were proposed and which trials were given up:
``sweep.json``, written whole before a trial starts and when it has ended. All else is in the
folders of the runs: values in ``result.json``, the figures of each epoch in ``metrics.jsonl``.
"""

import dataclasses
import hashlib
import itertools
import json
import math
from dataclasses import dataclass
from typing import Any

from optuna.trial import Trial as Asked

from tinylab.config.metrics import is_own
from tinylab.config.schema import Config, run_id
from tinylab.errors import UserError
from tinylab.store.folder import outdated
from tinylab.store.sweep import SweepFolder, sweep_folder
from tinylab.sweeps.job import Composer, Job, label, refuse_twins
from tinylab.sweeps.proposals import Study
from tinylab.sweeps.space import Space
from tinylab.ui.console import say

MOST_CHECKED = 100  # combinations, 5 ms each, that are composed before the first job starts
ATTEMPTS = 10  # at a proposal that was not made before


def check(space: Space, composer: Composer) -> list[Job]:
    """Jobs at the listed values and at the ends of intervals: what is wrong is refused early.

    All combinations of them where they are few, else each value beside the first of the others.
    Raises UserError.
    """
    if not space.axes:
        raise UserError(
            f"sweep.search={space.settings.search}: nothing to search over; give a key several "
            "values, such as\n  model.hidden=32,64,128 'optim.lr=tag(log,interval(1e-4,1e-1))'"
        )
    first = {axis.key: axis.values[0] for axis in space.axes}
    if math.prod(len(axis.values) for axis in space.axes) <= MOST_CHECKED:
        combinations = itertools.product(*(axis.values for axis in space.axes))
        checked = [dict(zip(first, values, strict=True)) for values in combinations]
    else:
        others = ((axis.key, value) for axis in space.axes for value in axis.values[1:])
        checked = [first, *({**first, key: value} for key, value in others)]
    jobs = [_checked(space, composer, varied) for varied in checked]
    refuse_twins(jobs)
    return jobs


def _checked(space: Space, composer: Composer, varied: dict[str, str]) -> Job:
    try:
        return composer.job(space.fixed, varied)
    except UserError as error:
        where = f"{label(varied)}: " if len(varied) > 1 else ""
        whole = (
            "\n  whole numbers are int(interval(1,9))"
            if "expected a whole number" in str(error)
            else ""
        )
        raise UserError(f"{where}{error}{whole}") from error


def describe(space: Space, config: Config) -> dict[str, Any]:
    """All that a search's proposals follow from, but how many they are."""
    settings = dataclasses.asdict(space.settings)
    kept = {key: settings[key] for key in ("search", "seed", "metric", "prune")}
    axes = [dataclasses.asdict(axis) for axis in sorted(space.axes, key=lambda axis: axis.key)]
    # As JSON reads it back: lists for tuples.
    return {**kept, "base": run_id(config), "space": json.loads(json.dumps(axes))}


def folder_of(space: Space, config: Config) -> SweepFolder:
    """``outputs/sweeps/<name>``, or named by what is searched: more trials, the same folder."""
    canonical = json.dumps(describe(space, config), sort_keys=True)
    digest = hashlib.sha256(canonical.encode()).hexdigest()[:10]
    name = config.name or f"{config.dataset.name}-{digest}"
    return sweep_folder(config.outputs, name)


@dataclass
class Trial:
    """One proposal and its run."""

    job: Job
    asked: Asked  # for Optuna
    state: str = "running"  # finished, failed, pruned
    value: float | None = None
    epochs: int = 0  # of which Optuna was told


class Search:
    """The plan of a search. Trials that a killed process left running come first."""

    def __init__(
        self, space: Space, composer: Composer, folder: SweepFolder, base: Job, arguments: list[str]
    ) -> None:
        self._space = space
        self._composer = composer
        self._folder = folder
        self._arguments = arguments
        self._description = describe(space, base.config)
        self._metric = space.settings.metric
        self._study = Study(space.axes, space.settings)
        self._trials: dict[str, Trial] = {}  # by run id, in the order of their numbers
        self._tried: set[str] = set()  # labels of proposals
        assert space.settings.trials is not None
        self.total = int(min(space.settings.trials, self._study.size))
        if not base.config.fresh:
            self._recall(base.config)
        self._waiting = [trial for trial in self._trials.values() if trial.state == "running"]
        self._write()

    def __str__(self) -> str:
        settings = self._space.settings
        pruned = f", pruned by {settings.prune}" if settings.prune != "none" else ""
        return f"search of {self.total} trials by {settings.search}{pruned} over {self._space}"

    @property
    def jobs(self) -> list[Job]:
        """The jobs of all trials, in the order in which they were proposed."""
        return [trial.job for trial in self._trials.values()]

    @property
    def num_ended(self) -> int:
        """How many trials are finished, failed or pruned."""
        return sum(trial.state != "running" for trial in self._trials.values())

    @property
    def pruned(self) -> set[str]:
        """The run ids of the trials that were given up."""
        return {name for name, trial in self._trials.items() if trial.state == "pruned"}

    def importances(self) -> dict[str, float]:
        """The share of each key in what the trials found, largest first."""
        return self._study.importances()

    # ------------------------------------------------------------ the plan

    def next_job(self) -> Job | None:
        """The next trial's; None when all have been proposed."""
        if self._waiting:
            return self._waiting.pop(0).job
        if len(self._trials) >= self.total:
            return None
        job = self._propose()
        if job is None:
            self.total = len(self._trials)
            say(f"no other combination is left: {self.total} trials in all")
            return None
        self._begin(job)
        self._write()
        return job

    def goes_on(self, job: Job, row: dict[str, float | None]) -> bool:
        """Whether a trial that has just ended an epoch, with these figures, is worth its time."""
        # A resumed run may have ended epochs before, of which nobody was told.
        rows = [*job.files.history(), row]
        return self._judge(self._trials[run_id(job.config)], rows)

    def ended(self, job: Job, state: str) -> None:
        """A trial is finished, failed or pruned; one that was stopped counts as running still."""
        if state == "stopped":
            return
        self._end(self._trials[run_id(job.config)], state)
        self._write()

    # ------------------------------------------------------------ proposals

    def _propose(self) -> Job | None:
        """The next new combination; None where there is none."""
        number = len(self._trials)
        proposals = (self._study.propose(number, attempt) for attempt in range(ATTEMPTS))
        for varied in itertools.chain(proposals, self._study.others(number)):
            if (job := self._new_job(varied)) is not None:
                return job
        if number == 0:
            raise UserError(f"none of {ATTEMPTS} proposals can be run; narrow the search space")
        return None

    def _new_job(self, varied: dict[str, str]) -> Job | None:
        """The job of a combination; None where it was tried before, or cannot be."""
        if label(varied) in self._tried:
            return None
        self._tried.add(label(varied))
        try:
            job = self._composer.job(self._space.fixed, varied)
        except UserError as error:
            say(f"{label(varied)} is passed over: {error}")
            return None
        return None if run_id(job.config) in self._trials else job

    def _begin(self, job: Job) -> Trial:
        trial = Trial(job, self._study.begin(job.varied))
        self._trials[run_id(job.config)] = trial
        self._tried.add(label(job.varied))
        return trial

    # ------------------------------------------------------------ figures

    def _judge(self, trial: Trial, rows: list[dict[str, Any]]) -> bool:
        """Tell of epochs that are new; False at the first after which the trial is hopeless."""
        for row in rows:
            epoch, value = row["epoch"], row.get(self._metric)
            if epoch <= trial.epochs or value is None:
                continue
            trial.epochs = epoch
            trial.asked.report(value, epoch)
            last = epoch >= trial.job.config.train.epochs  # nothing is saved by stopping there
            if trial.asked.should_prune() and not last:
                return False
        return True

    def _end(self, trial: Trial, state: str) -> None:
        trial.state = state
        if state != "finished":
            self._study.give_up(trial.asked)
            return
        result = trial.job.files.result()
        value = None if result is None else result.metric(self._metric)
        if value is None and result is not None and is_own(self._metric.removeprefix("val_")):
            self._study.give_up(trial.asked)  # the metric has failed, and said so
            return
        if value is None:  # an earlier version's result has accuracy and loss alone
            raise UserError(
                f"{trial.job.label}: its result has no {self._metric} to search by; fresh=true "
                "runs it again"
            )
        trial.value = value
        self._study.finish(trial.asked, value)

    # ------------------------------------------------------------ across processes

    def _write(self) -> None:
        listed = [
            {
                "number": number,
                "run_id": name,
                "overrides": trial.job.varied,
                "state": trial.state,
                "value": trial.value,
                "epochs": trial.epochs,
            }
            for number, (name, trial) in enumerate(self._trials.items())
        ]
        self._folder.write_state(arguments=self._arguments, search=self._description, jobs=listed)

    def _recall(self, config: Config) -> None:
        """Tell Optuna again of the trials that the sweep's folder lists."""
        state = self._folder.state()
        if state is None:
            return
        if state.get("search") != self._description:
            raise UserError(
                f"name={config.name}: {self._folder.path} holds another sweep; choose another "
                "name, or begin again with fresh=true"
            )
        if self._folder.jobs() is None or any(
            set(row["overrides"]) != {axis.key for axis in self._space.axes}
            for row in state["jobs"]
        ):
            raise UserError(
                f"{self._folder.state_file}: not what tinylab writes; choose another name, or "
                "begin again with fresh=true"
            )
        jobs = [self._composer.job(self._space.fixed, row["overrides"]) for row in state["jobs"]]
        if (why := _outdated(jobs)) is not None:
            say(f"{why}: the search begins again")
            return
        trials = [self._begin(job) for job in jobs]
        for trial, row in zip(trials, state["jobs"], strict=True):
            self._settle(trial, row["state"], row["epochs"])
        for trial in trials:
            running = trial.state == "running"
            if running and not self._judge(trial, trial.job.files.history()):
                self._end(trial, "pruned")

    def _settle(self, trial: Trial, state: str, epochs: int) -> None:
        """Bring a trial to the state that an earlier process left, unless it is to be run on."""
        files = trial.job.files
        rows = files.history()
        if state != "pruned" and files.result() is not None:
            state = "finished"
        elif state == "pruned" or (state == "failed" and not self._space.settings.retry_failed):
            rows = [row for row in rows if row["epoch"] <= epochs]
        else:
            return
        while not self._judge(trial, rows):
            pass  # how it ended is known
        self._end(trial, state)


def _outdated(jobs: list[Job]) -> str | None:
    """Why the result of one of the jobs is not today's any more; None where all still stand."""
    fingerprints: dict[str, str | None] = {}
    for job in jobs:
        found = job.files.result_or_fault()
        if found is not None and (why := outdated(found, job.config, fingerprints)):
            return why
    return None
