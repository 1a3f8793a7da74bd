"""A search: trials proposed one by one, each with one run, or one run per seed.

What must survive a kill is which values were proposed and which trials were pruned: ``sweep.json``,
written atomically before a trial starts and after it has ended. Everything else is in the runs'
folders: values in ``result.json``, the metrics of each epoch in ``metrics.jsonl``.
"""

import dataclasses
import hashlib
import itertools
import json
import math
from collections.abc import Callable, Iterable
from typing import Any

from tinylab.config.identity import file_name, run_id
from tinylab.config.metrics import is_own
from tinylab.config.schema import Config
from tinylab.errors import UserError
from tinylab.store.folder import outdated
from tinylab.store.sweep import SweepFolder, sweep_folder
from tinylab.sweeps.grid import combinations_of
from tinylab.sweeps.job import Composer, Job, label, refuse_duplicates
from tinylab.sweeps.proposals import Study
from tinylab.sweeps.space import Axis, Space
from tinylab.sweeps.standings import Standings
from tinylab.sweeps.trials import Repeat, Rules, Trial, end_repeat, next_repeat, tell_epoch
from tinylab.ui.console import counted, say

MOST_CHECKED = 100  # combinations composed before the first job starts, 5 ms each
ATTEMPTS = 10  # at a proposal that was not made before


def check(space: Space, composer: Composer) -> list[Job]:
    """Check jobs at the listed values and at the ends of intervals, to refuse errors early.

    All combinations of them if few, otherwise each value combined with the first of the others.
    Raises UserError.
    """
    if not space.axes:
        seeds = "; seeds alone repeat one setting" if len(space.repeats) > 1 else ""
        raise UserError(
            f"sweep.search={space.settings.search}: nothing to search over{seeds}; give a key "
            "several values, such as\n"
            "  model.hidden=32,64,128 'optim.lr=tag(log,interval(1e-4,1e-1))'"
        )
    settings = _ends(space)
    if not settings:
        raise UserError(
            "sweep.exclude: every combination is excluded; expected at least one to run"
        )
    jobs = [_checked(space, composer, {**varied, **space.repeats[0]}) for varied in settings]
    first = settings[0]
    repeats = [_checked(space, composer, {**first, **seeds}) for seeds in space.repeats[1:]]
    refuse_duplicates([*jobs, *repeats])
    return jobs


def _ends(space: Space) -> list[dict[str, str]]:
    """Return settings at the listed values and the ends of intervals."""
    if math.prod(len(axis.values) for axis in space.axes) <= MOST_CHECKED:
        return combinations_of(space)
    first = {axis.key: axis.values[0] for axis in space.axes}
    others = ((axis.key, value) for axis in space.axes for value in axis.values[1:])
    settings = [space.varied({**first, **dict([other])}) for other in others]
    return [each for each in [space.varied(first), *settings] if not space.is_excluded(each)]


def _checked(space: Space, composer: Composer, varied: dict[str, str]) -> Job:
    try:
        return composer.job(space.fixed, varied)
    except UserError as error:
        where = f"{label(varied)}: " if len(varied) > 1 else ""
        whole = (
            "\n  for integers: int(interval(1,9))" if "expected an integer" in str(error) else ""
        )
        raise UserError(f"{where}{error}{whole}") from error


def describe(space: Space, config: Config) -> dict[str, Any]:
    """Return everything that determines a search's proposals, except their number."""
    settings = dataclasses.asdict(space.settings)
    kept = {key: settings[key] for key in ("search", "seed", "metric", "prune")}
    axes = [_described(axis) for axis in sorted(space.axes, key=lambda axis: axis.key)]
    if space.settings.exclude:
        kept["exclude"] = space.settings.exclude
    if len(space.repeats) > 1:
        kept["repeats"] = space.repeats
    # As JSON reads it back: lists instead of tuples.
    return {"base": run_id(config), **json.loads(json.dumps({**kept, "space": axes}))}


def _described(axis: Axis) -> dict[str, Any]:
    """Describe an axis; single keys as before ``sweep.zip`` existed."""
    values = dataclasses.asdict(axis)
    return values if axis.together else {k: v for k, v in values.items() if k != "together"}


def folder_of(space: Space, config: Config) -> SweepFolder:
    """Return ``outputs/sweeps/<name>``, by default named after the search space; more trials use
    the same folder.
    """
    canonical = json.dumps(describe(space, config), sort_keys=True)
    digest = hashlib.sha256(canonical.encode()).hexdigest()[:10]
    name = config.name or f"{file_name(config.dataset.name)}-{digest}"
    return sweep_folder(config.outputs, name)


class Proposer:
    """Creates the jobs of combinations that are new and valid."""

    def __init__(self, space: Space, composer: Composer, study: Study) -> None:
        self._space, self._composer, self._study = space, composer, study
        self._tried: set[str] = set()  # labels of combinations
        self._run_ids: set[str] = set()

    def know(self, tried: str, run_ids: Iterable[str]) -> None:
        """Record that a combination, by its label, is a trial with these runs."""
        self._tried.add(tried)
        self._run_ids.update(run_ids)

    def propose(self, number: int) -> tuple[dict[str, str], list[Job]] | None:
        """Return the next new combination for trial ``number``; None, with a message, if none is
        left.

        Raises UserError if not even the first one is valid.
        """
        proposals = (self._study.propose(number, attempt) for attempt in range(ATTEMPTS))
        for point in itertools.chain(proposals, self._study.others(number)):
            if (jobs := self._new_jobs(point)) is not None:
                return point, jobs
        if number == 0:
            raise UserError(f"none of {ATTEMPTS} proposals is valid; narrow the search space")
        say(f"no combinations are left: {counted(number, 'trial')} in total")
        return None

    def _new_jobs(self, point: dict[str, str]) -> list[Job] | None:
        """Return the runs of a combination; None if it was tried before, or is invalid."""
        varied = self._space.varied(point)
        if label(varied) in self._tried:
            return None
        self._tried.add(label(varied))
        if self._space.is_excluded(varied):
            return None
        try:
            jobs = self.jobs(varied)
        except UserError as error:
            say(f"{label(varied)} is skipped: {error}")
            return None
        return None if any(run_id(job.config) in self._run_ids for job in jobs) else jobs

    def jobs(self, varied: dict[str, str]) -> list[Job]:
        """Return the job of each repeat of a combination. Raises UserError."""
        fixed, repeats = self._space.fixed, self._space.repeats
        return [self._composer.job(fixed, {**varied, **seeds}) for seeds in repeats]


class Search:
    """The plan of a search. Trials left running by a killed process come first."""

    def __init__(
        self,
        space: Space,
        composer: Composer,
        folder: SweepFolder,
        checked: list[Job],
        arguments: list[str],
    ) -> None:
        self._space = space
        self._folder = folder
        self._arguments = arguments
        base = checked[0].config
        self._description = describe(space, base)
        stride = max(job.config.train.epochs for job in checked)
        self._rules = Rules(space.settings.metric, space.settings.prune, stride)
        self._study = Study(space.axes, space.settings)
        self._proposer = Proposer(space, composer, self._study)
        self._trials: list[Trial] = []  # ordered by number
        self._trial_of: dict[str, tuple[Trial, Repeat]] = {}  # by run id
        assert space.settings.trials is not None
        self.total = int(min(space.settings.trials, self._study.size))
        self._standings = Standings(space.settings)
        if not base.fresh:
            self._recall(base)
        self._write()
        for trial in self._trials:
            self._rank(trial)

    def __str__(self) -> str:
        settings = self._space.settings
        assert settings.trials is not None
        trials = counted(self.total, "trial")
        if self.total < settings.trials:
            between = f"; {meant} searches between" if (meant := self._space.meant()) else ""
            trials += f", all settings of the space (sweep.trials={settings.trials}{between}),"
        pruned = f", pruned by {settings.prune}" if settings.prune != "none" else ""
        return f"search of {trials} by {settings.search}{pruned} over {self._space}"

    @property
    def trials(self) -> list[Trial]:
        """All trials, in the order of their proposal."""
        return self._trials

    @property
    def jobs(self) -> list[Job]:
        """The jobs of all trials, in the order of their proposal."""
        return [repeat.job for repeat, _ in self._rows()]

    @property
    def num_jobs(self) -> int:
        """The total number of runs if no trial is pruned."""
        return self.total * len(self._space.repeats)

    @property
    def num_ended(self) -> int:
        """The number of runs that are finished, failed or pruned."""
        return sum(repeat.state not in ("waiting", "running") for repeat, _ in self._rows())

    @property
    def pruned(self) -> set[str]:
        """The ids of the runs that were pruned, or not started because their trial was."""
        return {repeat.run_id for repeat, _ in self._rows() if repeat.state == "pruned"}

    def importances(self) -> dict[str, float]:
        """The importance of each key in the trials' results, largest first."""
        return self._study.importances()

    def _rows(self) -> list[tuple[Repeat, Trial]]:
        return [(repeat, trial) for trial in self._trials for repeat in trial.repeats]

    # ------------------------------------------------------------ the plan

    def next_job(self) -> Job | None:
        """Return the next run of a started trial, otherwise of a new one; None if there is none.

        Trials left by a killed process come first.
        """
        for trial in self._trials:
            if (repeat := next_repeat(trial, self._rules)) is not None:
                return self._start(repeat)
        if len(self._trials) >= self.total:
            return None
        proposed = self._proposer.propose(len(self._trials))
        if proposed is None:
            self.total = len(self._trials)
            return None
        return self._start(self._begin(*proposed).repeats[0])

    def _start(self, repeat: Repeat) -> Job:
        repeat.state = "running"
        self._write()
        return repeat.job

    def goes_on(self, job: Job, row: dict[str, float | None]) -> bool:
        """Return whether a run that just finished an epoch, with these metrics, should continue."""
        trial, repeat = self._trial_of[run_id(job.config)]
        # A resumed run may have finished epochs that were not reported.
        return self._tell(trial, repeat, [*job.files.history(), row])

    def ended(self, job: Job, state: str) -> None:
        """Note that a run is finished, failed or pruned; a stopped one is still to be run."""
        if state == "stopped":
            return
        trial, repeat = self._trial_of[run_id(job.config)]
        was_running = trial.state == "running"
        self._end(trial, repeat, state)
        self._write()
        if was_running:
            self._rank(trial)

    def _rank(self, trial: Trial) -> None:
        self._standings.ended(trial.state, [repeat.job for repeat in trial.repeats])

    @property
    def best(self) -> str:
        """The best setting so far."""
        return self._standings.best

    # ------------------------------------------------------------ proposals

    def _begin(self, point: dict[str, str], jobs: list[Job]) -> Trial:
        varied = self._space.varied(point)
        repeats = tuple(Repeat(_given(job)) for job in jobs)
        trial = Trial(len(self._trials), varied, repeats, self._study.begin(point))
        self._trials.append(trial)
        self._trial_of |= {repeat.run_id: (trial, repeat) for repeat in repeats}
        self._proposer.know(label(varied), [repeat.run_id for repeat in repeats])
        return trial

    # ------------------------------------------------------------ metrics

    def _tell(self, trial: Trial, repeat: Repeat, rows: list[dict[str, Any]]) -> bool:
        """Report new epochs; False at the first after which the trial is hopeless."""
        return all(tell_epoch(trial, repeat, row, self._rules, self._trials) for row in rows)

    def _end(self, trial: Trial, repeat: Repeat, state: str, judge: bool = True) -> None:
        value = value_of(repeat.job, self._rules.metric) if state == "finished" else None
        before = trial.state
        end_repeat(trial, repeat, state, value, self._rules, self._trials, judge)
        if trial.state == before:
            return
        if trial.value is None:
            self._study.give_up(trial.asked)
        else:
            self._study.finish(trial.asked, trial.value)

    # ------------------------------------------------------------ across processes

    def _write(self) -> None:
        is_repeated = len(self._space.repeats) > 1
        listed = [
            {
                "number": trial.number,
                "run_id": repeat.run_id,
                "overrides": repeat.job.varied,
                "state": repeat.state,
                "value": repeat.value,
                "epochs": repeat.epochs,
                **({"setting": trial.state} if is_repeated else {}),
            }
            for repeat, trial in self._rows()
        ]
        self._folder.write_state(arguments=self._arguments, search=self._description, jobs=listed)

    def _recall(self, config: Config) -> None:
        """Replay to Optuna the trials that the sweep's folder lists."""
        state = self._folder.state()
        if state is None:
            return
        if "shared" in state:
            raise UserError(
                f"{self._folder.path}: this study is shared by workers; expected sweep.workers=N\n"
                f"  or, to join: tinylab work {self._folder.path}"
            )
        if state.get("search") != self._description:
            raise UserError(
                f"name={config.name}: {self._folder.path} holds another sweep; choose another "
                "name, or start over with fresh=true"
            )
        rows = self._listed(state)
        points = [self._point(each[0]["overrides"]) for each in rows]
        of_trials = [self._proposer.jobs(self._space.varied(point)) for point in points]
        if any(
            job.varied != row["overrides"]
            for jobs, listed in zip(of_trials, rows, strict=True)
            for job, row in zip(jobs, listed, strict=True)
        ):
            raise self._unreadable()
        if (why := _outdated([job for jobs in of_trials for job in jobs])) is not None:
            say(f"{why}: the search starts over")
            return
        pairs = zip(points, of_trials, strict=True)
        trials = [self._begin(point, jobs) for point, jobs in pairs]
        for trial, listed in zip(trials, rows, strict=True):
            self._replay(trial, listed)
        for trial in trials:
            self._judge_again(trial)

    def _listed(self, state: dict[str, Any]) -> list[list[dict[str, Any]]]:
        """Return the rows of the sweep's file, trial by trial. Raises UserError if they are
        invalid.
        """
        size = len(self._space.repeats)
        if self._folder.jobs() is None or len(state["jobs"]) % size:
            raise self._unreadable()
        rows = state["jobs"]
        return [rows[start : start + size] for start in range(0, len(rows), size)]

    def _point(self, overrides: dict[str, str]) -> dict[str, str]:
        values = {axis.key: axis.value_in(overrides) for axis in self._space.axes}
        point = {key: value for key, value in values.items() if value is not None}
        if len(point) < len(values):
            raise self._unreadable()
        return point

    def _unreadable(self) -> UserError:
        return UserError(
            f"{self._folder.state_file}: not written by tinylab; choose another name, or "
            "start over with fresh=true"
        )

    def _replay(self, trial: Trial, listed: list[dict[str, Any]]) -> None:
        """Restore a trial to the state of an earlier process, except for runs to resume."""
        for index, (repeat, row) in enumerate(zip(trial.repeats, listed, strict=True)):
            files, state = repeat.job.files, row["state"]
            rows = files.history()
            if state != "pruned" and files.result() is not None:
                state = "finished"
            elif state == "pruned" or (state == "failed" and not self._space.settings.retry_failed):
                rows = [each for each in rows if each["epoch"] <= row["epochs"]]
            else:
                continue
            while not self._tell(trial, repeat, rows):
                pass  # its outcome is known
            went_on = any(each["state"] != "waiting" for each in listed[index + 1 :])
            self._end(trial, repeat, state, judge=not went_on)

    def _judge_again(self, trial: Trial) -> None:
        """Report the epochs that a run had finished before a kill and that were not reported."""
        for repeat in trial.repeats:
            is_open = trial.state == "running" and repeat.state == "waiting"
            if is_open and not self._tell(trial, repeat, repeat.job.files.history()):
                self._end(trial, repeat, "pruned")


def _given(job: Job) -> Callable[[], Job]:
    return lambda: job


def value_of(job: Job, metric: str) -> float | None:
    """Return the value that a search maximizes; None if the user's own metric failed, which was
    reported.
    """
    result = job.files.result()
    value = None if result is None else result.metric(metric)
    if value is None and result is not None and is_own(metric.removeprefix("val_")):
        return None
    if value is None:  # results of earlier versions have only accuracy and loss
        raise UserError(
            f"{job.label}: its result has no {metric} to search by; re-run it with fresh=true"
        )
    return value


def _outdated(jobs: list[Job]) -> str | None:
    """Return why the result of one of the jobs is outdated; None if all are valid."""
    fingerprints: dict[str, str | None] = {}
    for job in jobs:
        outcome = job.files.result_or_fault()
        if outcome is not None and (why := outdated(outcome, job.config, fingerprints)):
            return why
    return None
