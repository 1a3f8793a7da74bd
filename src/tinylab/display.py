"""How training looks on the screen while it goes on."""

import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from tinylab.console import is_terminal, say

REFRESH_SECONDS = 0.2
Progress = Callable[[], str]  # tells the figures so far; asked only when they are shown


class Display:
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
