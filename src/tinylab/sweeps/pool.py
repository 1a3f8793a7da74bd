"""The parent's side of a parallel sweep: worker processes, each with its share of the cores."""

import contextlib
import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from tinylab.config.schema import Config
from tinylab.sweeps import worker
from tinylab.sweeps.worker import End, Epoch, Step

POLL_SECONDS = 0.2
# Exit codes of a worker that was asked to end: 0 where its state was saved on the way, 255 where
# the process that started it was asked too, and cannot tell.
STOPPED = {0, 255, *(-getattr(signal, f"SIG{name}", 0) for name in ("HUP", "INT", "TERM", "USR1"))}
# What a training imports: 2 s of the processor, once for all workers.
IMPORTED = [
    "tinylab.sweeps.worker", "tinylab.experiment.run", "tinylab.training.loop",
    "matplotlib.backends.backend_agg", "torch.utils.tensorboard.writer",
]  # fmt: skip


@dataclass
class Worker:
    """One process and the number of the job that it trains, None while it waits for one."""

    slot: int
    process: BaseProcess
    connection: Connection
    job: int | None = None


class Pool:
    """At most ``size`` worker processes, started as they are needed.

    Not forked from this process: a fork of one in which CUDA or OpenMP has run may hang. On Linux
    they are forked from a server, which has imported what they need and runs nothing.
    """

    def __init__(self, size: int, threads: int = 1) -> None:
        self._size, self._threads = size, threads
        self._workers: dict[int, Worker] = {}

    def has_room(self) -> bool:
        """Whether a job can start at once."""
        return len(self.running()) < self._size

    def running(self) -> list[int]:
        """The numbers of the jobs that are being trained."""
        return [worker.job for worker in self._workers.values() if worker.job is not None]

    def start(self, number: int, config: Config, command: str) -> None:
        """Give job ``number`` to a free worker."""
        free = [worker for worker in self._workers.values() if worker.job is None]
        chosen = free[0] if free else self._spawn()
        chosen.job = number
        with contextlib.suppress(OSError):  # killed while it waited; news will tell
            chosen.connection.send((config, command))

    def _spawn(self) -> Worker:
        slot = min(set(range(self._size)) - set(self._workers))
        linux = sys.platform == "linux"
        context: Any = multiprocessing.get_context("forkserver" if linux else "spawn")
        if linux:
            context.set_forkserver_preload(IMPORTED)
        ours, theirs = context.Pipe()
        given = theirs, slot, self._threads, dict(os.environ)
        process = context.Process(target=worker.main, args=given)
        process.start()
        theirs.close()  # so that the end of the process is the end of the pipe
        self._workers[slot] = Worker(slot, process, ours)
        return self._workers[slot]

    def news(self) -> Iterator[tuple[int, Step | Epoch | End]]:
        """What the jobs have told since, with their numbers; returns after a short while.

        Each Epoch must be answered. A worker that dies ends its job as failed, or as
        stopped where a signal asked for it, and no other.
        """
        busy = {each.connection: each for each in self._workers.values() if each.job is not None}
        for connection in wait(list(busy), POLL_SECONDS):
            teller = busy[connection]  # type: ignore[index]
            number = teller.job
            assert number is not None
            try:
                told = teller.connection.recv()
            except (EOFError, OSError):
                told = self._bury(teller)
            if isinstance(told, End):
                teller.job = None
            yield number, told

    def _bury(self, dead: Worker) -> End:
        """Forget a worker whose process has ended; how its job ended."""
        del self._workers[dead.slot]
        dead.connection.close()
        dead.process.join()
        code = dead.process.exitcode or 0
        if code in STOPPED:
            return End("stopped")
        how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        return End("failed", f"its process {how}" + (" (out of memory?)" if code == -9 else ""))

    def answer(self, number: int, go_on: bool) -> None:
        """Tell job ``number`` after an epoch whether to go on."""
        [asker] = [each for each in self._workers.values() if each.job == number]
        with contextlib.suppress(OSError):  # it has died since; news will tell
            asker.connection.send(go_on)

    def __enter__(self) -> "Pool":
        return self

    def __exit__(self, *_: object) -> None:
        """Stop what is still running, its state saved, and wait for its end."""
        for each in self._workers.values():
            if each.job is not None:
                each.process.terminate()
            each.connection.close()
        for each in self._workers.values():
            each.process.join()
