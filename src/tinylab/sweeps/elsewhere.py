"""A grid's jobs under one of Hydra's launchers, which are silent until the last job has ended."""

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
from tinylab.ui.console import say
from tinylab.ui.display import SweepDisplay

LOOK_SECONDS = 2.0  # between two looks at the folders of the runs

Stamps = tuple[tuple[int, int] | None, ...]


def launch(launcher: Launcher, jobs: Sequence[Job], total: int) -> Sequence[Any]:
    """Have the launcher run ``jobs``, of ``total`` in the sweep, and say which have ended.

    Where the launcher gives up, since a job was killed or its queue is out of reach, that is said,
    and the sweep ends with what there is.
    """
    outputs = jobs[0].config.outputs
    where = "" if outputs == default_outputs() else f" --outputs {shlex.quote(outputs)}"
    name = type(launcher).__name__
    count = f"{len(jobs)} job{'s' * (len(jobs) > 1)}"
    say(f"{name} runs {count}; tinylab list{where} shows their progress")
    with _ends_said(jobs, total):
        return hand_over(launcher, [job.overrides for job in jobs])


def hand_over(launcher: Launcher, overrides: Sequence[list[str]]) -> Sequence[Any]:
    """Have the launcher run a job for each of ``overrides``; where it gives up, that is said."""
    try:
        returns: Sequence[Any] = launcher.launch(overrides, initial_job_idx=0)
        return returns
    except Exception as error:
        what = next(iter(str(error).split("\n")), "")
        say(f"{type(launcher).__name__}: {type(error).__name__}: {what}")
    return []


@contextlib.contextmanager
def _ends_said(jobs: Sequence[Job], total: int) -> Iterator[None]:
    """In the block, and once at its end, say which of the jobs have ended since."""
    with looking(_Watch(jobs, total).look):
        yield


@contextlib.contextmanager
def looking(look: Callable[[], None]) -> Iterator[None]:
    """Call ``look`` again and again in the block, from a thread, and once at its end.

    What it raises in the block is no matter: what is only shown ends no sweep.
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
    """Which jobs have ended, by the files in their folders, whichever machine wrote them."""

    def __init__(self, jobs: Sequence[Job], total: int) -> None:
        # A job's folder is settled now: to ask for it again may read a whole dataset's stamps.
        self._waiting = {number: (job, job.files) for number, job in enumerate(jobs)}
        self._before = {number: _stamps(files) for number, (_, files) in self._waiting.items()}
        self._display = SweepDisplay(total, total - len(jobs), live=False)
        for number, job in enumerate(jobs):
            self._display.start(number, job.label)

    def look(self) -> None:
        """Say which have ended since the last look. What cannot be read is left for the next."""
        for number, (job, files) in list(self._waiting.items()):
            with contextlib.suppress(Exception):  # nothing that is only shown may end the sweep
                if (state := _state(files, self._before[number])) is not None:
                    say_end(job, End(state), self._display, number)
                    del self._waiting[number]


def _stamps(files: RunFolder) -> Stamps:
    """What changes when a run is finished, fails, or gets the figures that a kill left out."""
    watched = files.result_file, files.failure_file, files.confusion_file
    return tuple(stamp(file) for file in watched)


def _state(files: RunFolder, before: Stamps) -> str | None:
    """How a run has ended since; None where it has not."""
    has_result, has_failed, has_figures = (
        now != then for now, then in zip(_stamps(files), before, strict=True)
    )
    if (has_result or has_figures) and files.result() is not None:
        return "finished"
    return "failed" if has_failed and files.error() is not None else None
