"""The workers of a shared study: starting them, their loop, and the conclusion."""

import contextlib
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.plugins.launcher import Launcher

from tinylab.config import code
from tinylab.config.overrides import typed
from tinylab.errors import Stopped, UserError
from tinylab.store.lease import Heartbeat
from tinylab.store.sweep import SweepFolder
from tinylab.sweeps import elsewhere, leaderboard, live
from tinylab.sweeps.cards import Room, room_for
from tinylab.sweeps.conclusion import conclude
from tinylab.sweeps.job import Composer, Job
from tinylab.sweeps.launch import launch, say_end
from tinylab.sweeps.shared import LOOK_SECONDS, Shared
from tinylab.sweeps.space import Space
from tinylab.sweeps.standings import standings_of
from tinylab.sweeps.trials import Repeat
from tinylab.sweeps.worker import End
from tinylab.system import machine, mps, signals
from tinylab.ui.console import counted, say
from tinylab.ui.display import SweepDisplay

OPEN = ("waiting", "running")


@dataclass(frozen=True)
class Work:
    """What all workers of a study must agree on."""

    space: Space
    composer: Composer
    folder: SweepFolder
    jobs: Sequence[Job]  # all jobs of a grid; the checked ones of a search
    description: dict[str, Any] | None  # of a search

    def plan(self, heartbeat: Heartbeat | None = None) -> Shared:
        """The study as seen by one worker."""
        return Shared(self.space, self.composer, self.folder, self.jobs, heartbeat)

    def conclude(self, plan: Shared) -> None:
        """Show and write the results, one process at a time."""
        importances = [f"{key} {fraction:.0%}" for key, fraction in plan.importances().items()]
        if importances:
            say(f"\nimportance  {', '.join(importances)}")
        with self.folder.sole_writer():
            plan.write_state()
            jobs, table = self._table(plan)
            if jobs[0].config.sweep.keep is not None and self.description is None:
                standings_of(jobs)  # deletes checkpoints that are not kept
            conclude(self.folder, jobs, table)

    def _table(self, plan: Shared) -> tuple[Sequence[Job], list[leaderboard.Row]]:
        if self.description is None:
            return self.jobs, leaderboard.rows(self.jobs)
        return plan.jobs, leaderboard.rows_of_search(plan.trials)


# ---------------------------------------------------------------- starting workers


def run(work: Work, arguments: list[str], launcher: Launcher | None) -> None:
    """Start workers for what is missing, show the progress, and conclude."""
    work.conclude(serve(work, arguments, launcher))


def serve(work: Work, arguments: list[str], launcher: Launcher | None) -> Shared:
    """Start workers for what is missing, show the progress, and return the study.

    ``arguments``: those with which a worker opens it. Raises UserError if no trial has started.
    """
    config = work.jobs[0].config
    _refuse_unsuitable(work)
    plan = work.plan()
    _agree(work, plan)
    if config.sweep.retry_failed:
        plan.run_again_what_failed()
    with plan.journal.locked():
        plan.write_state(arguments=arguments, shared=_begun(work), **_searched(work))
    say(
        f"study of {counted(plan.num_jobs, 'run')} over {work.space}; {plan.num_ended} already "
        "ended\n"
        f"  more workers: tinylab work {work.folder.path}"
    )
    if not plan.is_over:
        with live.report(work.folder, config), _Watch(plan).looking():
            if launcher is None:
                room = room_for(config, plan.num_jobs)
                _run_here(work.folder, config.sweep.workers or 1, room)
            else:
                _run_elsewhere(work, launcher)
        plan.look()
    if not plan.trials and work.description is not None:
        logs = work.folder.workers_folder
        raise UserError(f"no trial has started: see the workers' logs in\n  {logs}")
    return plan


def _begun(work: Work) -> dict[str, Any]:
    """Return what a worker elsewhere needs to parse the arguments as they are parsed here."""
    folders = [str(folder.absolute()) for folder in work.composer.folders]
    return {"started_in": os.getcwd(), "config_folders": folders}


def _searched(work: Work) -> dict[str, Any]:
    return {} if work.description is None else {"search": work.description}


def _refuse_unsuitable(work: Work) -> None:
    """Raise UserError if the folder's sweep cannot be shared."""
    folder, config = work.folder, work.jobs[0].config
    if config.fresh:
        raise UserError(
            "fresh=true with sweep.workers: a study that others may share is not started over\n"
            f"  expected another name=, or remove {folder.path}"
        )
    state = folder.state()
    if state is not None and work.description is not None:
        if "shared" not in state:
            raise UserError(
                f"{folder.path}: this search was started without workers and cannot be shared\n"
                "  leave sweep.workers out, or choose another name="
            )
        refuse_other_space(work)


def refuse_other_space(work: Work) -> None:
    """Raise UserError if the folder contains another search."""
    state = work.folder.state() or {}
    if work.description is not None and state.get("search") != work.description:
        raise UserError(
            f"{work.folder.path} holds a study with another search space or other settings\n"
            "  choose another name="
        )


def _agree(work: Work, plan: Shared) -> None:
    """Return the code of the study. Raises UserError if it differs from the code here."""
    today = code.of_result(work.jobs[0].config)
    with plan.journal.locked():
        before = plan.journal.facts().get("code")
        if before is None:
            plan.journal.note_fact("code", today)
    if before not in (None, today):
        raise UserError(
            f"{work.folder.path}: the study was started with different code (tinylab's or your "
            "own), so its trials are not comparable\n  use that code, or choose another name="
        )


def _run_here(folder: SweepFolder, count: int, room: Room) -> None:
    """Run workers as local processes until they end. Raises Stopped after a signal."""
    jobs = max(1, room.asked // count)
    threads = max(1, machine.thread_limit() // (count * jobs))
    say(f"{counted(count, 'worker')}, logging to {folder.workers_folder}")
    is_shared = 0 < room.cards < count * jobs
    with (
        signals.watch() as stop_signal,
        mps.served() if is_shared else contextlib.nullcontext(),
    ):
        processes = [_start(folder, number, jobs, threads) for number in range(count)]
        while any(each.poll() is None for each in processes):
            time.sleep(0.2)
            if (signum := stop_signal()) is not None:
                say("stopping; running jobs save a checkpoint, and the same command resumes them")
                _end_all(processes)
                raise Stopped(signum)
    for each in processes:
        if each.returncode < 0:
            say(f"a worker was killed by signal {-each.returncode}")
    if all(each.returncode for each in processes):
        say(f"no workers are left; their logs are in {folder.workers_folder}")


def _run_elsewhere(work: Work, launcher: Launcher) -> None:
    """Run workers as identical jobs of a launcher until they end."""
    job = work.jobs[0]
    own = {"name": typed(work.folder.path.name), "sweep.workers": job.config.sweep.workers}
    rest = [each for each in job.overrides if each.partition("=")[0] not in own]
    overrides = [*rest, *(f"{key}={value}" for key, value in own.items())]
    elsewhere.hand_over(launcher, [overrides] * (job.config.sweep.workers or 1))


def _start(folder: SweepFolder, number: int, jobs: int, threads: int) -> "subprocess.Popen[bytes]":
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    if machine.gpus() > 1:
        environment.setdefault("CUDA_VISIBLE_DEVICES", str(number % machine.gpus()))
    folder.workers_folder.mkdir(parents=True, exist_ok=True)
    with (folder.workers_folder / f"{number}.log").open("ab") as log:
        return subprocess.Popen(
            [*command(folder.path), f"jobs={jobs}"], stdin=subprocess.DEVNULL, stdout=log,
            stderr=subprocess.STDOUT, env=environment,
        )  # fmt: skip


def command(folder: Path) -> list[str]:
    """Return the command that starts a worker."""
    return [sys.executable, "-m", "tinylab", "work", str(folder.absolute())]


def run_one_here(folder: Path) -> None:
    """Run one worker as a child process, as a job of a launcher. It receives signals too."""
    process = subprocess.Popen(command(folder), stdin=subprocess.DEVNULL)
    with signals.watch() as stop_signal:
        while process.poll() is None:
            time.sleep(0.2)
            if (signum := stop_signal()) is not None:
                _end_all([process])
                raise Stopped(signum)
    if process.returncode and SweepFolder(folder).ended_jobs() is not None:
        raise UserError(f"the worker ended with exit code {process.returncode}")


def _end_all(processes: "Sequence[subprocess.Popen[bytes]]") -> None:
    for each in processes:
        each.terminate()
    for each in processes:
        each.wait()


class _Watch:
    """Show the progress of the runs from the journal, whichever machine wrote it."""

    def __init__(self, plan: Shared) -> None:
        self._plan = plan
        self._display = SweepDisplay(plan.num_jobs, plan.num_ended)
        self._ended = {run for run, repeat in self._runs() if repeat.state not in OPEN}
        self._begun = set(self._ended)

    def _runs(self) -> Iterator[tuple[int, Repeat]]:
        for trial in self._plan.trials:
            size = len(trial.repeats)
            yield from ((trial.number * size + i, each) for i, each in enumerate(trial.repeats))

    def _look(self) -> None:
        self._plan.look()
        for run, repeat in self._runs():
            if run not in self._begun and repeat.state != "waiting":
                self._begun.add(run)
                self._display.start(run, repeat.job.label)
            if run not in self._ended and repeat.state not in OPEN:
                self._ended.add(run)
                is_begun = repeat.state != "pruned" or repeat.job.files.history()
                if is_begun:  # otherwise its trial was pruned earlier
                    say_end(repeat.job, End(repeat.state), self._display, run)
        if self._display.is_live:
            self._display.show_best(self._plan.best)

    @contextlib.contextmanager
    def looking(self) -> Iterator[None]:
        """Update the display inside the block, and once at its end."""
        with self._display, elsewhere.looking(self._look):
            yield


# ---------------------------------------------------------------- a worker


def work_here(work: Work) -> None:
    """Work on the study until it is finished; the last worker concludes it."""
    folder, config = work.folder, work.jobs[0].config
    refuse_other_space(work)
    with Heartbeat(folder.workers_folder, config.sweep.lease) as heartbeat:
        plan = work.plan(heartbeat)
        _agree(work, plan)
        if plan.is_over:
            raise UserError(
                f"{folder.path}: the study has ended, so no worker is needed\n"
                "  the command that started it shows its table; raise sweep.trials to continue"
            )
        begun_by = shlex.join(["tinylab", "train", "-m", *(folder.arguments() or [])])
        room = room_for(config, plan.num_jobs)
        while not plan.is_over:
            launch(plan, room, plan.num_jobs, plan.num_ended, begun_by)
            _wait(plan)
        if plan.has_ended_it:
            try:
                work.conclude(plan)
            except UserError as error:  # some jobs failed, which is not this worker's error
                say(str(error))


def _wait(plan: Shared) -> None:
    """Wait while others run the rest of the study, in case they die."""
    with signals.watch() as stop_signal:
        until = time.monotonic() + LOOK_SECONDS
        while time.monotonic() < until and not plan.is_over:
            time.sleep(0.1)
            if (signum := stop_signal()) is not None:
                raise Stopped(signum)
        plan.look()
