"""A study shared by many workers: which run each takes next, recorded in a journal.

Every change is one line of the journal, written under its lock: a kill leaves it done or not done.
A run taken by a worker belongs to it until the worker's lease expires; then another worker takes
it, with a higher token, and resumes it from its checkpoint. A worker that wakes up later finds the
other's token, and drops the run.
"""

import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, cast

from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.trial import FrozenTrial

from tinylab.config.identity import run_id
from tinylab.config.metrics import METRICS
from tinylab.store.lease import Heartbeat
from tinylab.store.sweep import SweepFolder
from tinylab.sweeps.job import Composer, Job, label
from tinylab.sweeps.journal import Journal
from tinylab.sweeps.proposals import Study, dimension
from tinylab.sweeps.search import Proposer, value_of
from tinylab.sweeps.space import Axis, Space
from tinylab.sweeps.standings import Standings
from tinylab.sweeps.trials import Repeat, Rules, Trial, end_repeat, next_repeat, tell_epoch

LOOK_SECONDS = 2.0  # seconds before asking again for a run when there was none
WRITE_SECONDS = 5.0  # minimum seconds between writing sweep.json while the study runs
WRITE_RATIO = 50.0  # multiples of the time it took to write


class Source(Protocol):
    """The source of new trials."""

    def know(self, tried: str, run_ids: Sequence[str]) -> None:
        """Record that a combination, by its label, is a trial with these runs."""

    def propose(self, number: int) -> tuple[dict[str, str], list[Job]] | None:
        """Return the next combination, by axis, and its repeats' jobs; None if none is left."""


class Listed:
    """The combinations of a grid, one after another."""

    def __init__(self, space: Space, jobs: Sequence[Job]) -> None:
        self._axes = space.axes
        # Not by what varies: a sweep that is extended may have begun with fewer axes.
        self._waiting = {run_id(job.config): job for job in jobs}

    def know(self, tried: str, run_ids: Sequence[str]) -> None:
        """Record that a combination is a trial."""
        for each in run_ids:
            self._waiting.pop(each, None)

    def propose(self, number: int) -> tuple[dict[str, str], list[Job]] | None:
        """Return the first combination that is not a trial yet."""
        if not self._waiting:
            return None
        job = next(iter(self._waiting.values()))
        return {axis.key: cast("str", axis.value_in(job.varied)) for axis in self._axes}, [job]


@dataclass
class Held:
    """A run taken by this worker."""

    number: int  # of its trial
    index: int  # among the repeats
    token: int


@dataclass
class Reports:
    """The reports of pruning for a trial, written to the journal, each step once."""

    journal: Journal
    trial: FrozenTrial

    def report(self, value: float, step: int) -> None:
        """Write a value, unless a worker that was killed has written it."""
        if step not in self.trial.intermediate_values:
            self.journal.report(self.trial, step, value)


class Shared:
    """The plan of one worker or, without a heartbeat, of a process that only watches."""

    def __init__(
        self,
        space: Space,
        composer: Composer,
        folder: SweepFolder,
        jobs: Sequence[Job],
        heartbeat: Heartbeat | None = None,
    ) -> None:
        """``jobs``: all jobs of a grid; those of a search that were checked."""
        settings = space.settings
        self._space, self._composer, self._folder = space, composer, folder
        self._heartbeat = heartbeat
        self.journal = Journal(
            folder.journal_file, folder.path.name, METRICS[settings.metric].better, settings.storage
        )
        stride = max(job.config.train.epochs for job in jobs)
        self._rules = Rules(settings.metric, settings.prune, stride)
        self._study: Study | None = None
        if settings.search == "grid":
            self._source: Source = Listed(space, jobs)
            self._wanted = len(jobs)
        else:
            self._study = Study(space.axes, settings)
            self._source = Proposer(space, composer, self._study)
            self._wanted = int(min(cast("int", settings.trials), self._study.size))
        self._standings = Standings(settings)
        self._frozen: list[FrozenTrial] = []  # as in the journal, by number
        self._trials: list[Trial] = []
        self._learned: set[int] = set()  # numbers of trials whose outcome is known
        self._replaced: set[int] = set()  # numbers of failed trials that are re-run as new ones
        self._held: dict[str, Held] = {}  # by run id
        self._ask_after = self._write_after = self._checked = 0.0
        self.has_ended_it = False  # whether this worker wrote the last line
        self.look()

    # ------------------------------------------------------------ reading the journal

    def look(self) -> None:
        """Read what has changed in the journal."""
        facts = self.journal.facts()
        self._replaced = set(facts.get("replaced", ()))
        self._wanted = min(self._wanted, facts.get("most", self._wanted))
        for number, frozen in enumerate(self.journal.trials()):
            if number == len(self._frozen):
                self._frozen.append(frozen)
                self._trials.append(self._trial(number, frozen))
            elif self._frozen[number] is frozen:
                continue
            self._frozen[number] = frozen
            self._learn(self._trials[number], frozen)

    def _trial(self, number: int, frozen: FrozenTrial) -> Trial:
        varied = frozen.user_attrs["varied"]
        fixed = self._space.fixed
        settings = ({**varied, **seeds} for seeds in self._space.repeats)
        repeats = tuple(Repeat(partial(self._composer.job, fixed, each)) for each in settings)
        run_ids = frozen.user_attrs["run_ids"]
        for repeat, each in zip(repeats, run_ids, strict=True):
            repeat.__dict__["run_id"] = each  # known without its job
        self._source.know(label(varied), run_ids)
        return Trial(number, varied, repeats, cast("Any", Reports(self.journal, frozen)))

    def _learn(self, trial: Trial, frozen: FrozenTrial) -> None:
        """Update a trial from the journal."""
        trial.asked = cast("Any", Reports(self.journal, frozen))
        trial.reported = dict(frozen.intermediate_values)
        records = [self._record(frozen, index) for index in range(len(trial.repeats))]
        for repeat, record in zip(trial.repeats, records, strict=True):
            repeat.state, repeat.value = record["state"], record["value"]
        ended = (record["trial"] for record in records if record["trial"] != "running")
        trial.state = next(ended, "running")
        if trial.state == "pruned":
            for repeat in trial.repeats:
                repeat.state = "pruned" if repeat.state == "waiting" else repeat.state
        if trial.state != "running" and trial.number not in self._learned:
            self._learned.add(trial.number)
            self._rank(trial)
            if self._study is not None:
                self._study.add(self._point(trial.varied), trial.value, trial.reported)

    def _record(self, frozen: FrozenTrial, index: int) -> dict[str, Any]:
        nothing = {"state": "waiting", "value": None, "epochs": 0, "trial": "running", "token": 0}
        record: dict[str, Any] = frozen.user_attrs.get(f"repeat {index}", nothing)
        return record

    def _point(self, varied: Mapping[str, str]) -> dict[str, str]:
        return {axis.key: cast("str", axis.value_in(dict(varied))) for axis in self._space.axes}

    def _rank(self, trial: Trial) -> None:
        """Note the end of a search's trial, if that is shown or decides which checkpoints stay.

        It reads all results. A grid's trials are not settings: each has one seed.
        """
        is_wanted = self._space.settings.keep is not None or self._heartbeat is None
        if self._study is None or not is_wanted:
            return
        self._standings.ended(trial.state, [repeat.job for repeat in trial.repeats])

    # ------------------------------------------------------------ summaries

    @property
    def trials(self) -> list[Trial]:
        """The trials that count, ordered by number."""
        return [trial for trial in self._trials if trial.number not in self._replaced]

    @property
    def jobs(self) -> list[Job]:
        """Their jobs."""
        return [repeat.job for trial in self.trials for repeat in trial.repeats]

    @property
    def total(self) -> int:
        """The total number of trials."""
        return max(self._wanted, len(self.trials))

    @property
    def num_jobs(self) -> int:
        """The total number of runs if no trial is pruned."""
        return self.total * len(self._space.repeats)

    @property
    def num_ended(self) -> int:
        """The number of runs that are finished, failed or pruned."""
        states = [repeat.state for trial in self.trials for repeat in trial.repeats]
        return sum(state not in ("waiting", "running") for state in states)

    @property
    def best(self) -> str:
        """The best setting so far, for a process that watches."""
        return self._standings.best

    @property
    def is_over(self) -> bool:
        """Whether all trials have ended."""
        trials = self.trials
        return len(trials) >= self._wanted and all(trial.state != "running" for trial in trials)

    def importances(self) -> dict[str, float]:
        """The importance of each key in the trials' results, largest first."""
        return {} if self._study is None else self._study.importances()

    def run_again_what_failed(self) -> None:
        """Replace failed trials by new ones with the same values."""
        with self.journal.locked():
            self.look()
            failed = [trial.number for trial in self.trials if trial.state == "failed"]
            if failed:
                self.journal.note_fact("replaced", [*sorted(self._replaced), *failed])
                self.look()

    # ------------------------------------------------------------ the plan

    def next_job(self) -> Job | None:
        """Return a run for this worker; None if there is none, or none now."""
        if time.monotonic() < self._ask_after:
            return None
        self.look()  # most of the reading happens without the lock
        with self.journal.locked():
            self.look()
            self._free_what_the_dead_hold()
            job = self._take()
            self._write_state()
        if job is None:  # not all workers at once
            self._ask_after = time.monotonic() + LOOK_SECONDS * random.uniform(0.5, 1.5)
        return job

    def _free_what_the_dead_hold(self) -> None:
        holders = {
            repeat: self._record(self._frozen[trial.number], index)["by"]
            for trial in self.trials
            if trial.state == "running"
            for index, repeat in enumerate(trial.repeats)
            if repeat.state == "running"
        }
        if holders and self._heartbeat is not None:
            dead = self._heartbeat.dead(holders.values())
            for repeat, name in holders.items():
                repeat.state = "waiting" if name in dead else "running"

    def _take(self) -> Job | None:
        for trial in self.trials:
            if (repeat := next_repeat(trial, self._rules)) is not None:
                return self._start(trial, repeat)
        begun = self._begin()
        return None if begun is None else self._start(begun, begun.repeats[0])

    def _begin(self) -> Trial | None:
        """Create a new trial: one to re-run, otherwise a proposed one."""
        if len(self.trials) >= self._wanted:
            return None
        if (old := self._to_run_again()) is not None:
            return self._written_trial(old.varied, [each.run_id for each in old.repeats])
        proposed = self._source.propose(len(self.trials))
        if proposed is None:
            self.journal.note_fact("most", len(self.trials))
            self.look()
            self.has_ended_it = self.is_over
            return None
        point, jobs = proposed
        return self._written_trial(self._space.varied(point), [run_id(job.config) for job in jobs])

    def _to_run_again(self) -> Trial | None:
        if not self._replaced:
            return None
        begun = {label(trial.varied) for trial in self.trials}
        failed = (self._trials[number] for number in sorted(self._replaced))
        return next((trial for trial in failed if label(trial.varied) not in begun), None)

    def _written_trial(self, varied: dict[str, str], run_ids: list[str]) -> Trial:
        point = self._point(varied)
        params = {axis.key: _shown(axis, point[axis.key]) for axis in self._space.axes}
        distributions = {axis.key: _distribution(axis) for axis in self._space.axes}
        self.journal.begin(params, distributions, {"varied": varied, "run_ids": run_ids})
        self.look()
        return self._trials[-1]

    def _start(self, trial: Trial, repeat: Repeat) -> Job:
        assert self._heartbeat is not None
        job = repeat.job
        index = trial.repeats.index(repeat)
        token = self._record(self._frozen[trial.number], index)["token"] + 1
        self._held[repeat.run_id] = held = Held(trial.number, index, token)
        repeat.state, repeat.epochs = "running", 0
        self._note(held)
        return job

    def _note(self, held: Held) -> None:
        """Write the outcome of a run, and perhaps of its trial."""
        trial, frozen = self._trials[held.number], self._frozen[held.number]
        repeat = trial.repeats[held.index]
        assert self._heartbeat is not None
        record = {
            "state": repeat.state, "value": repeat.value, "epochs": repeat.epochs,
            "trial": trial.state, "by": self._heartbeat.name, "token": held.token,
        }  # fmt: skip
        self.journal.note(frozen, f"repeat {held.index}", record)
        if trial.state != "running" and not frozen.state.is_finished():
            self.journal.end(frozen, trial.state, trial.value)
        self.look()

    def _is_held(self, held: Held | None) -> bool:
        """Return whether the run still belongs to this worker, by the journal."""
        if held is None or self._heartbeat is None:
            return False
        record = self._record(self._frozen[held.number], held.index)
        holder = record["state"], record.get("by"), record["token"]
        return holder == ("running", self._heartbeat.name, held.token)

    def goes_on(self, job: Job, row: dict[str, float | None]) -> bool:
        """Return whether a run that just finished an epoch should continue, and is still ours."""
        held = self._held.get(run_id(job.config))
        if self._rules.prune == "none":
            return self._is_held_by_now(held)
        with self.journal.locked():
            self.look()
            if held is None or not self._is_held(held):
                return False
            trial = self._trials[held.number]
            repeat = trial.repeats[held.index]
            rows = [*job.files.history(), row]
            if all(tell_epoch(trial, repeat, each, self._rules, self.trials) for each in rows):
                return True
            self._end(held, "pruned")
        return False

    def _is_held_by_now(self, held: Held | None) -> bool:
        # By wall-clock time, which continues while the machine sleeps.
        assert self._heartbeat is not None
        if abs(time.time() - self._checked) > self._heartbeat.seconds / 4:
            self._checked = time.time()
            self.look()
        return self._is_held(held)

    def ended(self, job: Job, state: str) -> None:
        """Record the outcome of a run: finished, failed, pruned or stopped; ignores lost ones."""
        held = self._held.pop(run_id(job.config), None)
        self._ask_after = 0.0
        self.look()
        with self.journal.locked():
            self.look()
            if held is not None and self._is_held(held):
                self._end(held, state)
            self._write_state()

    def _end(self, held: Held, state: str) -> None:
        trial = self._trials[held.number]
        repeat = trial.repeats[held.index]
        if state == "stopped":
            repeat.state = "waiting"
        else:
            value = value_of(repeat.job, self._rules.metric) if state == "finished" else None
            end_repeat(trial, repeat, state, value, self._rules, self.trials)
        self._note(held)
        self.has_ended_it = self.is_over

    # ------------------------------------------------------------ for other commands

    def _write_state(self) -> None:
        """Rewrite sweep.json, rarely while the study runs: it has a row for each run."""
        now = time.monotonic()
        if now >= self._write_after or (self.is_over and self.has_ended_it):
            self.write_state()
            took = time.monotonic() - now
            self._write_after = now + max(WRITE_SECONDS, WRITE_RATIO * took)

    def write_state(self, **changed: Any) -> None:
        """Write sweep.json, which other commands read."""
        state = {**(self._folder.state() or {}), **changed}
        state["to_come"] = self.total - len(self.trials)
        state["jobs"] = [row for trial in self.trials for row in self._rows(trial)]
        self._folder.write_state(**state)

    def _rows(self, trial: Trial) -> list[dict[str, Any]]:
        is_search, rows = self._study is not None, []
        for index, (repeat, seeds) in enumerate(
            zip(trial.repeats, self._space.repeats, strict=True)
        ):
            row: dict[str, Any] = {
                "run_id": repeat.run_id, "overrides": {**trial.varied, **seeds},
                "state": repeat.state,
            }  # fmt: skip
            if is_search:
                epochs = self._record(self._frozen[trial.number], index)["epochs"]
                row |= {"number": trial.number, "value": repeat.value, "epochs": epochs}
            if len(trial.repeats) > 1:
                row["setting"] = trial.state
            rows.append(row)
        return rows


def _shown(axis: Axis, text: str) -> Any:
    """Return a value for optuna-dashboard: a number for an interval, otherwise as typed."""
    return text if axis.interval is None else dimension(axis).value(text)


def _distribution(axis: Axis) -> BaseDistribution:
    if axis.interval is None:
        return CategoricalDistribution(axis.values)
    return dimension(axis).distribution
