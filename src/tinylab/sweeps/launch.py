"""Runs the jobs of a plan in parallel processes, and shows the progress."""

import contextlib
import errno
import os
import shlex
import sys
from typing import Protocol

from tinylab.config.metrics import METRICS
from tinylab.errors import Stopped, UserError
from tinylab.sweeps.cards import Footprint, Room
from tinylab.sweeps.job import Job
from tinylab.sweeps.pool import Pool
from tinylab.sweeps.worker import End, Epoch, Message, Step
from tinylab.system import machine, mps, signals
from tinylab.system.files import IN_OUTPUTS
from tinylab.ui.console import counted, say
from tinylab.ui.display import SweepDisplay


class Plan(Protocol):
    """Decides which jobs to run, and which to prune."""

    def next_job(self) -> Job | None:
        """Return the next job to start; None if there is none, or none until others have ended."""

    def goes_on(self, job: Job, row: dict[str, float | None]) -> bool:
        """Return whether a job that just finished an epoch, with these metrics, should continue."""

    def ended(self, job: Job, state: str) -> None:
        """Note that a job is finished, failed, pruned or stopped."""

    @property
    def best(self) -> str:
        """Return the best setting so far in words; empty if unknown."""


def launch(plan: Plan, room: Room, total: int, done: int, command: str | None = None) -> None:
    """Run the jobs of the plan, as many at a time as there is room for.

    ``command``: None means the command line. Raises Stopped after a signal, UserError when the disk
    is full: all other jobs would fail. Each job gets at most its fraction of the cores, whether or
    not others run beside it: its bits depend on its number of threads, and must not depend on which
    job ends first.
    """
    threads = max(1, machine.thread_limit() // room.most)
    with (
        signals.watch() as stop_signal,
        mps.served() if room.is_shared else contextlib.nullcontext(False) as by_mps,
        Pool(room.now, threads) as pool,
        SweepDisplay(total, done) as display,
    ):
        going = _Going(plan, room, pool, display, command, by_mps)
        while going.start_jobs():
            for number, message in pool.messages():
                going.hear(number, message)
            if (signum := stop_signal()) is not None:
                say("stopping; running jobs save a checkpoint, and the same command resumes them")
                raise Stopped(signum)


class _Going:
    """The jobs of a plan while they run in a pool."""

    def __init__(
        self,
        plan: Plan,
        room: Room,
        pool: Pool,
        display: SweepDisplay,
        command: str | None,
        by_mps: bool,
    ) -> None:
        self._plan, self._room, self._pool, self._display = plan, room, pool, display
        self._command = command or shlex.join(["tinylab", "train", *sys.argv[1:]])
        self._by_mps = by_mps
        self._jobs: list[Job] = []  # by number
        self._at_once: dict[int, int] = {}  # the most that were allowed while a job ran
        self._crowded_out: list[int] = []  # numbers of jobs to run again

    def start_jobs(self) -> bool:
        """Start jobs while there is room; whether any runs."""
        while self._pool.has_room() and (number := self._next()) is not None:
            job = self._jobs[number]
            self._at_once[number] = self._room.now
            self._pool.start(number, job.config, self._command)
            self._display.start(number, job.label)
        if self._room.is_waiting and self._pool.running():
            self._pool.warm(self._room.most)
        return bool(self._pool.running())

    def _next(self) -> int | None:
        if self._crowded_out:
            return self._crowded_out.pop()
        job = self._plan.next_job()
        if job is None:
            return None
        self._jobs.append(job)
        return len(self._jobs) - 1

    def hear(self, number: int, message: Message) -> None:
        """Act on the message of a job."""
        job = self._jobs[number]
        if isinstance(message, Step):
            self._display.progress(number, message.fraction)
        elif isinstance(message, Epoch):
            self._pool.answer(number, self._plan.goes_on(job, message.row))
            self._display.epoch(number, message.row)
        elif isinstance(message, Footprint):
            self._share_device(message)
        elif message.is_crowded and self._shrink(number):
            self._run_again(number)
        else:
            words = say_end(job, message, self._display, number)
            self._plan.ended(job, message.state)
            _stop_on_full_disk(words)
            if self._display.is_live:  # the interval needs SciPy, a second of imports
                self._display.show_best(self._plan.best)

    def _share_device(self, took: Footprint) -> None:
        if not self._room.learn(took):
            return
        room = self._room
        self._pool.resize(room.now)
        self._at_once |= dict.fromkeys(self._pool.running(), room.now)
        if took.num_bytes == 0:
            return
        how = (
            "by NVIDIA's MPS" if self._by_mps else "by time slicing: NVIDIA's MPS is not available"
        )
        jobs, where = counted(room.now, "job"), counted(room.cards, "GPU")
        say(f"gpu     {jobs} at once on {where}, {took.num_bytes / 1e9:.1f} GB each, {how}")

    def _shrink(self, number: int) -> bool:
        return self._room.shrink(self._at_once[number], len(self._pool.running()))

    def _run_again(self, number: int) -> None:
        job = self._jobs[number]
        job.files.forget_failure()
        self._pool.resize(self._room.now)
        self._crowded_out.append(number)
        jobs = counted(self._room.now, "job")
        say(f"{job.label}: the GPU's memory is full; again with {jobs} at once")


def _stop_on_full_disk(words: str) -> None:
    if any(os.strerror(code) in words for code in (errno.ENOSPC, errno.EDQUOT)):
        raise UserError(f"the sweep stops because the disk is full: {IN_OUTPUTS}")


def say_end(job: Job, end: End, display: SweepDisplay, number: int) -> str:
    """Show how a job has ended, and return it in words; record what its process could not."""
    files = job.files
    if end.error:
        files.record_failure(UserError(end.error))
    result, words = files.result(), ""
    if end.state == "failed":
        words = (files.error() or "").partition("\n")[0]
    elif end.state == "finished" and result is not None:
        name = job.config.sweep.metric
        value = result.metric(name)
        shown = "" if value is None else METRICS[name].format.format(value)
        words = f"{name.replace('_', ' ')} {shown}" if shown else ""
    elif end.state == "pruned":
        words = f"after epoch {files.history()[-1]['epoch']}"
    display.end(number, job.label, end.state, words)
    return words
