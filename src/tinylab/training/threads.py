"""CPU threads of a training step: as many as are fastest now, if their number changes no bits.

At the end of each kernel the threads wait for one another. Beside one busy process on two cores
the baseline CNN's step of 4 to 6 ms takes 20 to 110 ms with two threads, and 7 ms with one; alone,
two threads are 1.1 to 1.6 times as fast as one. What else a machine does changes within a training.
"""

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from tinylab.system.machine import contention
from tinylab.training.step import Batch
from tinylab.ui.console import say

CHECKS = 3  # batches of each form whose steps are compared, bit by bit
WINDOW = 16  # steps that are timed together
SHORTEST_PAUSE, LONGEST_PAUSE = 0.25, 4.0  # seconds until the slower number is timed again
CLEARLY = 0.9  # of the time with more threads must one thread take: a slow moment is not a reason
DISTURBED = 2  # times as slow as one thread: not a matter of the step's size


class AdaptiveThreads:
    """A step with torch's number of threads or with one, whichever is faster at the time.

    Kernels that divide a sum among threads give other bits with another number. So the first steps
    with batches of one form are taken with both numbers, from the same state, and the resulting
    states are compared: ``state`` returns the state, and ``snapshot`` a function that restores it.
    Unless all bits are equal, every step has torch's number of threads. It is never changed outside
    the steps.
    """

    def __init__(
        self,
        step: Callable[[Batch], None],
        state: Callable[[], dict[str, Any]],
        snapshot: Callable[[], Callable[[], None]],
    ) -> None:
        self._step, self._state, self._snapshot = step, state, snapshot
        self._most = torch.get_num_threads()
        self._pace = Pace(self._most)
        self._checks_left: dict[tuple[Any, ...], int] = {}  # by the form of a batch
        self._is_fixed = False  # other threads have been found to give other bits

    def __call__(self, batch: Batch) -> None:
        """Take the step with ``batch``."""
        if self._is_fixed or self._was_compared(batch):
            self._step(batch)
            return
        started = time.perf_counter()
        with _threads(self._pace.threads):
            self._step(batch)
        self._pace.took(time.perf_counter() - started)

    def _was_compared(self, batch: Batch) -> bool:
        """Compare the step with both numbers if the batch is one of the first of its form."""
        form = tuple(batch.shapes())
        left = self._checks_left.setdefault(form, CHECKS)
        if left:
            self._checks_left[form] = left - 1
            self._compare(batch)
        return left > 0

    def _compare(self, batch: Batch) -> None:
        states = []
        for threads in (self._most, 1):
            restore = self._snapshot()
            with _threads(threads):
                self._step(batch)
            states.append([tensor.clone() for tensor in _tensors(self._state())])
            restore()
        self._is_fixed = not all(map(torch.equal, *states))
        if self._is_fixed and (busy := contention()):
            say(f"        {busy}")


class Pace:
    """Chooses between ``most`` threads and one by the time that steps took lately."""

    def __init__(self, most: int) -> None:
        self.threads = most
        self._most = most
        self._seconds: dict[int, float] = {}  # a step's mean, by the number of threads
        self._window: list[float] = []  # the times of the last steps
        self._until_trial, self._pause = 0.0, SHORTEST_PAUSE
        self._is_trial = False
        self._said = False

    def took(self, seconds: float) -> None:
        """Take note of a step's time, and choose the threads of the next."""
        self._window.append(seconds)
        self._until_trial -= seconds
        # A trial that has lost ends early: beside a busy process a step takes 20 to 100 ms.
        has_lost = self._is_trial and sum(self._window) > WINDOW * self._seconds[self._other()]
        if len(self._window) == WINDOW or has_lost:
            self._seconds[self.threads] = fmean(self._window)
            self._window.clear()
            self._choose()

    def _choose(self) -> None:
        most, one = (self._seconds.get(threads, math.inf) for threads in (self._most, 1))
        fastest = 1 if one < CLEARLY * most else self._most
        if fastest == self.threads and not self._is_trial:
            if self._until_trial <= 0:
                self.threads, self._is_trial = self._other(), True
            return
        is_lost = self._is_trial and fastest != self.threads
        # After a change, which may be one slow moment, the other number is soon tried again.
        self._pause = min(2 * self._pause, LONGEST_PAUSE) if is_lost else SHORTEST_PAUSE
        self._until_trial = self._pause
        self.threads, self._is_trial = fastest, False
        self._say_once()

    def _other(self) -> int:
        return 1 if self.threads != 1 else self._most

    def _say_once(self) -> None:
        slower = self._seconds[self._most] / self._seconds[1]
        if slower > DISTURBED and not self._said:
            say(
                f"        other processes use the cores: steps take {slower:.0f} times as long "
                f"with {self._most} threads as with one, which is used meanwhile (the same bits)"
            )
            self._said = True


@contextlib.contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    if count == before:
        yield
        return
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _tensors(value: Any) -> Iterator[Tensor]:
    """Yield the tensors in nested dicts and lists, in their order."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        for each in value.values():
            yield from _tensors(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _tensors(each)
