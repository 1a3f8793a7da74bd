"""The live display of a training, or of a sweep."""

import contextlib
import re
import time
from collections.abc import Callable
from statistics import fmean
from types import TracebackType
from typing import Any, Self

from tinylab.ui.console import is_terminal, say

REFRESH_SECONDS = 0.2
IRREGULAR = 4  # ratio to the fast steps: 1.2 to 2 alone, 8 to 30 next to one busy process
LEAST_FRACTION = 0.1  # of a sweep's job, before which the time left is a guess of hours
LEAST_STEPS = 20
BESIDE_LABEL = 42  # columns for a job's bar and metrics
Progress = Callable[[], str]  # returns the metrics so far; called only when they are shown


class Paces:
    """Measures steps, to detect threads that wait for each other.

    A barrier waits for the thread whose core another process has taken: then most steps are as fast
    as before, and some take ten and a hundred times as long.
    """

    def __init__(self) -> None:
        self._last = 0.0
        self._seconds: list[float] = []

    def step(self) -> None:
        """A step has ended."""
        now = time.perf_counter()
        if self._last:
            self._seconds.append(now - self._last)
        self._last = now

    def slower(self) -> float:
        """Return the ratio of the mean step to the fastest tenth; 0 with few steps."""
        if len(self._seconds) < LEAST_STEPS:
            return 0.0
        ranked = sorted(self._seconds)
        return fmean(ranked) / max(fmean(ranked[: len(ranked) // 10]), 1e-9)


class RunDisplay:
    """One line per epoch; on a terminal a live bar below the lines.

    ``is_threaded`` tells whether a step has threads that may wait for each other. ``monitor``: the
    validation metric that chooses the epoch.
    """

    def __init__(
        self, epochs: int, is_threaded: Callable[[], bool] = bool, monitor: str = "accuracy"
    ) -> None:
        self._epochs = epochs
        self._monitor = monitor
        self._started = 0.0
        self._epochs_before: int | None = None  # until the first event: loading takes time
        self._bar = _live_bar() if is_terminal() else None
        self._refreshed = 0.0
        self._paces: Paces | None = Paces()
        self._is_threaded = is_threaded

    def step(self, epoch: int, done: int, steps: int, progress: Progress) -> None:
        """After ``done`` of ``steps`` in epoch number ``epoch`` (from 0): move the bar."""
        if self._epochs_before is None:
            self._epochs_before = self._start(epoch)
        if self._paces is not None:
            self._paces.step()
        if self._bar is None or time.monotonic() - self._refreshed < REFRESH_SECONDS:
            return
        self._refreshed = time.monotonic()
        self._bar.update(
            self._bar.task_ids[0],
            completed=epoch * steps + done,
            total=self._epochs * steps,
            epoch=f"{epoch + 1}/{self._epochs}",
            details=progress(),
        )

    def epoch(self, row: dict[str, Any]) -> None:
        """After an epoch: show its metrics, and a single warning if the steps are irregular."""
        if self._epochs_before is None:  # resumed after the epoch's last step
            self._epochs_before = self._start(row["epoch"] - 1)
        done = row["epoch"] - self._epochs_before
        seconds_left = (time.monotonic() - self._started) / done * (self._epochs - row["epoch"])
        say(epoch_line(row, self._epochs, seconds_left, self._monitor))
        if self._paces is None or not self._is_threaded():
            return
        if (slower := self._paces.slower()) > IRREGULAR:
            say(
                f"        steps take {slower:.0f} times as long as the fastest ones: "
                "other processes use the cores; threads=1 is faster next to them"
            )
            self._paces = None

    def _start(self, epochs_before: int) -> int:
        self._started = time.monotonic()
        if self._bar is not None:
            with contextlib.suppress(OSError):  # a closed terminal must not stop the training
                self._bar.start()
        return epochs_before

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            with contextlib.suppress(OSError):
                self._bar.stop()


def _live_bar() -> Any:
    from rich import progress
    from rich.progress import BarColumn, TextColumn, TimeRemainingColumn

    bar = progress.Progress(
        TextColumn("epoch {task.fields[epoch]}"),
        BarColumn(),
        TextColumn("{task.percentage:3.0f}%"),
        TextColumn("{task.fields[details]}"),
        TimeRemainingColumn(),
        transient=True,
        refresh_per_second=1 / REFRESH_SECONDS,
    )
    bar.add_task("", total=None, epoch="1", details="")
    return bar


def epoch_line(row: dict[str, Any], epochs: int, seconds_left: float, monitor: str) -> str:
    """Return one epoch's metrics as a line of text."""
    line = (
        f"epoch {row['epoch']:>{len(str(epochs))}}/{epochs}  "
        f"train loss {row['train_loss']:.4f}  accuracy {row['train_accuracy']:7.2%}"
    )
    if row["val_loss"] is not None:
        line += f"  |  val loss {row['val_loss']:.4f}  accuracy {row['val_accuracy']:7.2%}"
        if monitor not in ("loss", "accuracy"):
            value = row[f"val_{monitor}"]
            line += f"  {monitor} {'-' if value is None else f'{value:.4f}'}"
    return f"{line}  |  {row['images_per_second']:,.0f} images/s  {duration(seconds_left)} left"


def duration(seconds: float) -> str:
    """As in ``1:02:03`` or ``2:03``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def short_duration(seconds: float) -> str:
    """As ``duration``; below ten seconds as in ``0.3 s``."""
    return f"{seconds:.1f} s" if seconds < 10 else duration(seconds)


class SweepDisplay:
    """One line per ended job; on a terminal live bars for the sweep and each running job.

    ``total`` jobs, of which ``done`` were already finished. ``live``: show bars if the screen
    supports them.
    """

    def __init__(self, total: int, done: int, live: bool = True) -> None:
        self._total, self._done = total, done
        self._ended = 0
        self._failed = 0
        self._fractions: dict[int, float] = {}
        self._best = ""
        self._started = time.monotonic()
        self._screen = _SweepScreen(total) if live and is_terminal() else None

    def start(self, number: int, label: str) -> None:
        """Job ``number`` has started."""
        self._fractions[number] = 0.0
        if self._screen is not None:
            self._screen.start(number, label)

    def progress(self, number: int, fraction: float) -> None:
        """Job ``number`` has done this fraction of its work."""
        self._fractions[number] = fraction
        if self._screen is not None:
            self._screen.move(number, completed=fraction)
            self._update_sum()

    def epoch(self, number: int, row: dict[str, Any]) -> None:
        """Job ``number`` has finished an epoch with these metrics."""
        if self._screen is not None:
            val = row["val_accuracy"]
            details = f"epoch {row['epoch']}" + ("" if val is None else f", val {val:.2%}")
            self._screen.move(number, details=details)

    @property
    def is_live(self) -> bool:
        """Whether bars and the best setting are shown."""
        return self._screen is not None

    def show_best(self, words: str) -> None:
        """Show the best setting so far, if there are bars."""
        self._best = words
        self._update_sum()

    def catch_up(self, num_ended: int) -> None:
        """Count jobs that have ended elsewhere too: so many of all."""
        self._done = max(self._done, num_ended - self._ended)

    def end(self, number: int, label: str, state: str, words: str) -> None:
        """Job ``number`` has ended."""
        del self._fractions[number]
        self._ended += state != "stopped"  # the same command resumes it
        self._failed += state == "failed"
        if self._screen is not None:
            self._screen.end(number)
            self._update_sum()
        count = self._done + self._ended
        line = f"{count:>{len(str(self._total))}} of {self._total}  {label}  {state}  {words}"
        left = f"  |  {duration(self._seconds_left())} left" if count < self._total else ""
        say(line.rstrip() + left)

    def _seconds_left(self) -> float:
        """Estimate from the work done so far, weighting all jobs equally."""
        done = self._ended + sum(self._fractions.values())
        all_jobs = self._total - self._done
        return (time.monotonic() - self._started) * max(0.0, all_jobs / max(done, 1e-3) - 1)

    def _update_sum(self) -> None:
        completed = self._done + self._ended + sum(self._fractions.values())
        words = [f"{self._done + self._ended - self._failed} of {self._total} done"]
        words += [f"{self._failed} failed"] if self._failed else []
        words += [f"{len(self._fractions)} running"]
        if self._ended + sum(self._fractions.values()) > LEAST_FRACTION:
            words += [f"{duration(self._seconds_left())} left"]
        assert self._screen is not None
        self._screen.show(completed, ", ".join(words), self._best)

    def __enter__(self) -> Self:
        if self._screen is not None:
            with contextlib.suppress(OSError):
                self._screen.live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._screen is not None:
            with contextlib.suppress(OSError):
                self._screen.live.stop()


class _SweepScreen:
    """The live part: a bar for the sweep, the best setting so far, a bar per running job."""

    def __init__(self, total: int) -> None:
        from rich.console import Group
        from rich.live import Live
        from rich.text import Text

        self._sweep, self._jobs = _bars(20), _bars(10)
        self._best = Text(no_wrap=True, overflow="ellipsis")
        self._all = self._sweep.add_task("sweep", total=total, details="")
        self._tasks: dict[int, Any] = {}
        everything = Group(self._sweep, self._best, self._jobs)
        self.live = Live(everything, transient=True, refresh_per_second=1 / REFRESH_SECONDS)

    def start(self, number: int, label: str) -> None:
        """Add a bar for job ``number``."""
        name = _shortened(label, self.live.console.width - BESIDE_LABEL)
        self._tasks[number] = self._jobs.add_task(name, total=1.0, details="")

    def move(self, number: int, **fields: Any) -> None:
        """Update the bar of job ``number``."""
        self._jobs.update(self._tasks[number], **fields)

    def end(self, number: int) -> None:
        """Remove the bar of job ``number``."""
        self._jobs.remove_task(self._tasks.pop(number))

    def show(self, completed: float, words: str, best: str) -> None:
        """Update the summary of all jobs."""
        self._sweep.update(self._all, completed=completed, details=words)
        self._best.plain = f"best  {best}" if best else ""


def _shortened(label: str, room: int) -> str:
    """Fit a job's label to so many columns: without the sections of its keys, then truncated."""
    if len(label) > room:
        label = re.sub(r"(?<!\S)[\w./]+\.(?=\w+=)", "", label)
    return label if len(label) <= room else f"{label[: max(room - 1, 0)]}…"


def _bars(width: int) -> Any:
    from rich.progress import BarColumn, Progress, TextColumn

    # Labels are not markup: a value may be a list in brackets.
    label, details = "{task.description}", "{task.percentage:3.0f}%  {task.fields[details]}"
    columns = TextColumn(label, markup=False), BarColumn(width), TextColumn(details, markup=False)
    return Progress(*columns)
