"""The parent's side of a parallel sweep: worker processes that share the cores."""

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
from tinylab.sweeps.worker import End, Message

POLL_SECONDS = 0.2
# Exit codes of a worker that was asked to stop: 0 if it saved a checkpoint on the way, 255 if the
# server that forked it was asked too, and cannot tell.
STOPPED = {0, 255, *(-getattr(signal, f"SIG{name}", 0) for name in ("HUP", "INT", "TERM", "USR1"))}
# What a training imports: 2 s of processor time, once for all workers.
IMPORTED = [
    "tinylab.sweeps.worker", "tinylab.experiment.run", "tinylab.training.loop",
    "matplotlib.backends.backend_agg", "torch.utils.tensorboard.writer",
]  # fmt: skip


@dataclass
class Worker:
    """A process and the number of the job that it trains (None: idle)."""

    slot: int
    process: BaseProcess
    connection: Connection
    job: int | None = None


class Pool:
    """At most ``size`` worker processes, started on demand.

    Not forked from this process: a fork of one in which CUDA or OpenMP has run may hang. On Linux
    they are forked from a server that has imported what they need and runs nothing.
    """

    def __init__(self, size: int, threads: int = 1) -> None:
        self.size, self._threads = size, threads
        self._workers: dict[int, Worker] = {}

    def has_room(self) -> bool:
        """Whether a job can start now."""
        return len(self.running()) < self.size

    def running(self) -> list[int]:
        """The numbers of the running jobs."""
        return [worker.job for worker in self._workers.values() if worker.job is not None]

    def start(self, number: int, config: Config, command: str) -> None:
        """Give job ``number`` to an idle worker."""
        free = [worker for worker in self._workers.values() if worker.job is None]
        chosen = free[0] if free else self._spawn(self.size)
        chosen.job = number
        with contextlib.suppress(OSError):  # killed while idle; messages will report it
            chosen.connection.send((config, command))

    def warm(self, size: int) -> None:
        """Start processes for the jobs to come, up to ``size`` in all: a start takes seconds."""
        while len(self._workers) < size:
            self._spawn(size)

    def resize(self, size: int) -> None:
        """Run so many jobs at once from now on, and end the processes that wait in vain."""
        self.size = size
        for idle in [each for each in self._workers.values() if each.job is None]:
            if len(self._workers) > size:
                self._dismiss(idle)

    def _dismiss(self, idle: Worker) -> None:
        """End a process that trains nothing, with all that it has on its GPU."""
        del self._workers[idle.slot]
        idle.connection.close()
        idle.process.join()

    def _spawn(self, size: int) -> Worker:
        slot = min(set(range(size)) - set(self._workers))
        linux = sys.platform == "linux"
        context: Any = multiprocessing.get_context("forkserver" if linux else "spawn")
        if linux:
            context.set_forkserver_preload(IMPORTED)
        ours, theirs = context.Pipe()
        given = theirs, slot, self._threads, dict(os.environ)
        process = context.Process(target=worker.main, args=given)
        process.start()
        theirs.close()  # the pipe closes when the process ends
        self._workers[slot] = Worker(slot, process, ours)
        return self._workers[slot]

    def messages(self) -> Iterator[tuple[int, Message]]:
        """Return the messages received since the last call, with job numbers; waits briefly.

        Each Epoch must be answered. If a worker dies, its job ends as failed, or as stopped if a
        signal asked for it; other jobs are unaffected.
        """
        busy = {each.connection: each for each in self._workers.values() if each.job is not None}
        for connection in wait(list(busy), POLL_SECONDS):
            sender = busy[connection]  # type: ignore[index]
            number = sender.job
            assert number is not None
            try:
                message = sender.connection.recv()
            except (EOFError, OSError):
                message = self._bury(sender)
            if isinstance(message, End):
                sender.job = None
                if message.is_crowded:
                    self._dismiss(sender)
            yield number, message

    def _bury(self, dead: Worker) -> End:
        """Remove a worker whose process has ended; return how its job ended."""
        del self._workers[dead.slot]
        dead.connection.close()
        dead.process.join()
        code = dead.process.exitcode or 0
        if code in STOPPED:
            return End("stopped")
        how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        return End("failed", f"its process {how}" + (" (out of memory?)" if code == -9 else ""))

    def answer(self, number: int, go_on: bool) -> None:
        """Tell job ``number`` after an epoch whether to continue."""
        [asker] = [each for each in self._workers.values() if each.job == number]
        with contextlib.suppress(OSError):  # it has died since; messages will report it
            asker.connection.send(go_on)

    def __enter__(self) -> "Pool":
        return self

    def __exit__(self, *_: object) -> None:
        """Stop the running jobs with their state saved, and wait for them."""
        for each in self._workers.values():
            if each.job is not None:
                each.process.terminate()
            each.connection.close()
        for each in self._workers.values():
            each.process.join()
