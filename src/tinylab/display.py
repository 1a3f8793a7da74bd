"""How training looks on the screen while it goes on: one run, or the many of a sweep."""

import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Protocol, Self

from tinylab.console import is_terminal, say

REFRESH_SECONDS = 0.2
Progress = Callable[[], str]  # tells the figures so far; asked only when they are shown


class Display(Protocol):
    """Who is told how training goes."""

    def step(self, epoch: int, done: int, steps: int, progress: Progress) -> None:
        """After ``done`` of ``steps`` in epoch number ``epoch`` (from 0)."""

    def epoch(self, row: dict[str, Any]) -> None:
        """After an epoch, when its state is on the disk."""


class RunDisplay:
    """One line an epoch; on a terminal a live bar below the lines."""

    def __init__(self, epochs: int) -> None:
        self._epochs = epochs
        self._started = time.monotonic()
        self._epochs_before: int | None = None
        self._bar = _live_bar() if is_terminal() else None
        self._refreshed = 0.0

    def step(self, epoch: int, done: int, steps: int, progress: Progress) -> None:
        """After ``done`` of ``steps`` in epoch number ``epoch`` (from 0): move the bar."""
        if self._bar is None or time.monotonic() - self._refreshed < REFRESH_SECONDS:
            return
        self._refreshed = time.monotonic()
        self._bar.update(
            self._bar.task_ids[0],
            completed=epoch * steps + done,
            total=self._epochs * steps,
            epoch=f"{epoch + 1}/{self._epochs}",
            figures=progress(),
        )

    def epoch(self, row: dict[str, Any]) -> None:
        """After an epoch: say its figures."""
        if self._epochs_before is None:
            self._epochs_before = row["epoch"] - 1
        done = row["epoch"] - self._epochs_before
        seconds_left = (time.monotonic() - self._started) / done * (self._epochs - row["epoch"])
        say(epoch_line(row, self._epochs, seconds_left))

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()


def _live_bar() -> Any:
    from rich import progress
    from rich.progress import BarColumn, TextColumn, TimeRemainingColumn

    bar = progress.Progress(
        TextColumn("epoch {task.fields[epoch]}"),
        BarColumn(),
        TextColumn("{task.percentage:3.0f} %"),
        TextColumn("{task.fields[figures]}"),
        TimeRemainingColumn(),
        transient=True,
        refresh_per_second=1 / REFRESH_SECONDS,
    )
    bar.add_task("", total=None, epoch="1", figures="")
    return bar


def epoch_line(row: dict[str, Any], epochs: int, seconds_left: float) -> str:
    """One epoch's figures as a line of text."""
    line = (
        f"epoch {row['epoch']:>{len(str(epochs))}}/{epochs}  "
        f"train loss {row['train_loss']:.4f}  accuracy {row['train_accuracy']:7.2%}"
    )
    if row["val_loss"] is not None:
        line += f"  |  val loss {row['val_loss']:.4f}  accuracy {row['val_accuracy']:7.2%}"
    return f"{line}  |  {row['images_per_second']:,.0f} images/s  {duration(seconds_left)} left"


def duration(seconds: float) -> str:
    """``1:02:03`` or ``2:03``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class SweepDisplay:
    """One line an ended job; on a terminal live bars for the sweep and for each running job.

    ``total`` jobs in all, of which ``done`` were finished before.
    """

    def __init__(self, total: int, done: int) -> None:
        self._total, self._done = total, done
        self._ended = 0
        self._failed = 0
        self._fractions: dict[int, float] = {}
        self._best: tuple[float, str] | None = None
        self._started = time.monotonic()
        self._bars = _sweep_bars(total) if is_terminal() else None
        self._tasks: dict[int, Any] = {}

    def start(self, number: int, label: str) -> None:
        """Job ``number`` begins."""
        self._fractions[number] = 0.0
        if self._bars is not None:
            self._tasks[number] = self._bars.add_task(label, total=1.0, figures="")

    def progress(self, number: int, fraction: float) -> None:
        """Job ``number`` has done this share of its work."""
        self._fractions[number] = fraction
        if self._bars is not None:
            self._bars.update(self._tasks[number], completed=fraction)
            self._update_sum()

    def epoch(self, number: int, row: dict[str, Any]) -> None:
        """Job ``number`` has ended an epoch with these figures."""
        if self._bars is not None and row["val_accuracy"] is not None:
            words = f"epoch {row['epoch']}, val accuracy {row['val_accuracy']:.2%}"
            self._bars.update(self._tasks[number], figures=words)

    def end(self, number: int, label: str, state: str, words: str, value: float | None) -> None:
        """Job ``number`` has ended; the larger ``value``, the better."""
        del self._fractions[number]
        self._ended += 1
        self._failed += state == "failed"
        if value is not None and (self._best is None or value > self._best[0]):
            self._best = value, f"{words} ({label})"
        if self._bars is not None:
            self._bars.remove_task(self._tasks.pop(number))
            self._update_sum()
        count = self._done + self._ended
        line = f"{count:>{len(str(self._total))}} of {self._total}  {label}  {state}  {words}"
        left = f"  |  {duration(self._seconds_left())} left" if count < self._total else ""
        say(line.rstrip() + left)

    def _seconds_left(self) -> float:
        """From the work done so far, each job counted alike."""
        done = self._ended + sum(self._fractions.values())
        all_jobs = self._total - self._done
        return (time.monotonic() - self._started) * (all_jobs / max(done, 1e-3) - 1)

    def _update_sum(self) -> None:
        completed = self._done + self._ended + sum(self._fractions.values())
        words = [f"{self._done + self._ended - self._failed} done"]
        words += [f"{self._failed} failed"] if self._failed else []
        words += [f"{len(self._fractions)} running"]
        words += [f"{duration(self._seconds_left())} left"]
        words += [f"best {self._best[1]}"] if self._best is not None else []
        assert self._bars is not None
        sweep = self._bars.task_ids[0]
        self._bars.update(sweep, completed=completed, figures=", ".join(words))

    def __enter__(self) -> Self:
        if self._bars is not None:
            self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bars is not None:
            self._bars.stop()


def _sweep_bars(total: int) -> Any:
    from rich import progress
    from rich.progress import BarColumn, TextColumn

    bars = progress.Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        TextColumn("{task.percentage:3.0f} %  {task.fields[figures]}"),
        transient=True,
        refresh_per_second=1 / REFRESH_SECONDS,
    )
    bars.add_task("sweep", total=total, figures="")
    return bars
