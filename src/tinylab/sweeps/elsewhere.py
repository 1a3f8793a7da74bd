"""A grid's jobs under a Hydra launcher, which is silent until the last job has ended."""

import contextlib
import shlex
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from hydra.plugins.launcher import Launcher

from tinylab.store.folder import RunFolder, stamp
from tinylab.sweeps.job import Job
from tinylab.sweeps.launch import say_end
from tinylab.sweeps.worker import End
from tinylab.system.project import default_outputs
from tinylab.ui.console import counted, say
from tinylab.ui.display import SweepDisplay

LOOK_SECONDS = 2.0  # seconds between two checks of the runs' folders

Stamps = tuple[tuple[int, int] | None, ...]


def launch(launcher: Launcher, jobs: Sequence[Job], total: int) -> Sequence[Any]:
    """Let the launcher run ``jobs``, of ``total`` in the sweep, and report those that end.

    If the launcher fails, because a job was killed or its queue is unreachable, a message says so,
    and the sweep ends with the existing results.
    """
    outputs = jobs[0].config.outputs
    where = "" if outputs == default_outputs() else f" --outputs {shlex.quote(outputs)}"
    name = type(launcher).__name__
    say(f"{name} runs {counted(len(jobs), 'job')}; tinylab list{where} shows their progress")
    with _ends_said(jobs, total):
        return hand_over(launcher, [job.overrides for job in jobs])


def hand_over(launcher: Launcher, overrides: Sequence[list[str]]) -> Sequence[Any]:
    """Let the launcher run a job for each of ``overrides``; report it if the launcher fails."""
    try:
        returns: Sequence[Any] = launcher.launch(overrides, initial_job_idx=0)
        return returns
    except Exception as error:
        what = next(iter(str(error).split("\n")), "")
        say(f"{type(launcher).__name__}: {type(error).__name__}: {what}")
    return []


@contextlib.contextmanager
def _ends_said(jobs: Sequence[Job], total: int) -> Iterator[None]:
    """Inside the block, and once at its end, report the jobs that have ended."""
    with looking(_Watch(jobs, total).look):
        yield


@contextlib.contextmanager
def looking(look: Callable[[], None]) -> Iterator[None]:
    """Call ``look`` repeatedly inside the block, from a thread, and once at its end.

    Its exceptions inside the block are ignored: a display must not end a sweep.
    """
    is_over = threading.Event()

    def look_again() -> None:
        while not is_over.wait(LOOK_SECONDS):
            with contextlib.suppress(Exception):
                look()

    thread = threading.Thread(target=look_again, daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()
        look()


class _Watch:
    """Return which jobs have ended, from the files in their folders, on whichever machine."""

    def __init__(self, jobs: Sequence[Job], total: int) -> None:
        # A job's folder is resolved once: resolving it again may stat a whole dataset.
        self._waiting = {number: (job, job.files) for number, job in enumerate(jobs)}
        self._before = {number: _stamps(files) for number, (_, files) in self._waiting.items()}
        self._display = SweepDisplay(total, total - len(jobs), live=False)
        for number, job in enumerate(jobs):
            self._display.start(number, job.label)

    def look(self) -> None:
        """Report those that have ended since the last check; retries unreadable ones later."""
        for number, (job, files) in list(self._waiting.items()):
            with contextlib.suppress(Exception):  # a display must not end the sweep
                if (state := _state(files, self._before[number])) is not None:
                    say_end(job, End(state), self._display, number)
                    del self._waiting[number]


def _stamps(files: RunFolder) -> Stamps:
    """Return what changes when a run finishes, fails, or gets figures that a kill left out."""
    watched = files.result_file, files.failure_file, files.confusion_file
    return tuple(stamp(file) for file in watched)


def _state(files: RunFolder, before: Stamps) -> str | None:
    """Return how a run has ended since; None if it has not."""
    has_result, has_failed, has_pictures = (
        now != then for now, then in zip(_stamps(files), before, strict=True)
    )
    if (has_result or has_pictures) and files.result() is not None:
        return "finished"
    return "failed" if has_failed and files.error() is not None else None
