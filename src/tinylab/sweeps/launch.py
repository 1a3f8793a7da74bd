"""Runs the jobs of a plan in parallel processes, and shows the progress."""

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


def parallel_jobs(config: Config, num_jobs: int) -> int:
    """Return how many jobs run at once: ``jobs``, or one per GPU, or one per core.

    Two single-threaded processes do a third more steps of the baseline CNN per second than one
    process with two threads (two cores, batch size 32).
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
    """Run the jobs of the plan, ``size`` at a time. ``command``: None means the command line.

    Raises Stopped after a signal, UserError when the disk is full: all other jobs would fail. Each
    job gets at most its fraction of the cores, whether or not others run beside it: its bits depend
    on its number of threads, and must not depend on which job ends first.
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
