"""Runs the jobs of a plan in parallel processes, and shows how it goes."""

import errno
import os
import shlex
import sys
from typing import Protocol

from tinylab.config.metrics import METRICS
from tinylab.config.schema import Config
from tinylab.errors import Stopped, UserError
from tinylab.sweeps.job import Job
from tinylab.sweeps.pool import Pool
from tinylab.sweeps.worker import End, Epoch, Step
from tinylab.system import machine, signals
from tinylab.system.files import IN_OUTPUTS
from tinylab.ui.console import say
from tinylab.ui.display import SweepDisplay


class Plan(Protocol):
    """Which jobs there are, and which of them are given up."""

    def next_job(self) -> Job | None:
        """The next job to start; None where there is none, or none before others have ended."""

    def goes_on(self, job: Job, row: dict[str, float | None]) -> bool:
        """Whether a job that has just ended an epoch, with these figures, is worth its time."""

    def ended(self, job: Job, state: str) -> None:
        """A job is finished, failed, pruned or stopped."""

    @property
    def best(self) -> str:
        """The best setting so far in words; empty where none is known."""


def parallel_jobs(config: Config, num_jobs: int) -> int:
    """How many jobs run at once: ``jobs``, or one a GPU, or one a core.

    Two processes of one thread each do a third more steps of the baseline CNN in a second than one
    process of two threads (two cores, batch 32).
    """
    on_gpu = config.device.startswith("cuda") or config.device == "auto"
    if config.jobs is not None:
        most = config.jobs
    elif config.device == "mps" or (config.device == "auto" and sys.platform == "darwin"):
        most = 1
    elif on_gpu and machine.gpus():
        most = machine.gpus()
    else:
        most = machine.cores() // (config.threads or 1)
    return max(1, min(most, num_jobs))


def launch(plan: Plan, size: int, total: int, done: int, command: str | None = None) -> None:
    """Run what the plan asks for, ``size`` jobs at a time. ``command``: None is what was typed.

    Raises Stopped when a signal came, UserError when the disk is full: all other jobs would fail.

    Each job has at most its share of the cores, whether or not others run beside it: its bits
    depend on the number of its threads, and must not depend on who ends first.
    """
    share = max(1, machine.thread_limit() // size)
    command = command or shlex.join(["tinylab", "train", *sys.argv[1:]])
    jobs: dict[int, Job] = {}
    with (
        signals.watch() as stop_signal,
        Pool(size, share) as pool,
        SweepDisplay(total, done) as display,
    ):
        while True:
            while pool.has_room() and (job := plan.next_job()) is not None:
                number = len(jobs)
                jobs[number] = job
                pool.start(number, job.config, command)
                display.start(number, job.label)
            if not pool.running():
                return
            for number, told in pool.news():
                job = jobs[number]
                if isinstance(told, Step):
                    display.progress(number, told.fraction)
                elif isinstance(told, Epoch):
                    pool.answer(number, plan.goes_on(job, told.row))
                    display.epoch(number, told.row)
                else:
                    words = say_end(job, told, display, number)
                    plan.ended(job, told.state)
                    _stop_on_full_disk(words)
                    if display.is_live:  # the interval needs SciPy, a second of imports
                        display.show_best(plan.best)
            if (signum := stop_signal()) is not None:
                say("stopping; running jobs save a checkpoint, and the same command resumes them")
                raise Stopped(signum)


def _stop_on_full_disk(words: str) -> None:
    if any(os.strerror(code) in words for code in (errno.ENOSPC, errno.EDQUOT)):
        raise UserError(f"the sweep stops because the disk is full: {IN_OUTPUTS}")


def say_end(job: Job, end: End, display: SweepDisplay, number: int) -> str:
    """Show how a job has ended, in words that are returned; record what its process could not."""
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
