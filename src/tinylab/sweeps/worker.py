"""The child's side of a parallel sweep: a process that trains one job after another."""

import contextlib
import dataclasses
import os
import signal
import sys
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from tinylab.config.schema import Config
from tinylab.errors import Pruned, Stopped
from tinylab.store.folder import run_folder
from tinylab.system.machine import forget_garbage, relaxed_gc

NEWS_SECONDS = 0.5  # seconds between two progress messages


@dataclass(frozen=True)
class Step:
    """The fraction of a job that is done."""

    fraction: float


@dataclass(frozen=True)
class Epoch:
    """A job has finished an epoch, and waits for the answer whether to continue."""

    row: dict[str, Any]


@dataclass(frozen=True)
class End:
    """A job has ended: finished, failed, pruned or stopped. ``error``: if not recorded yet."""

    state: str
    error: str = ""


@dataclass
class Link:
    """The worker's end of the pipe: sends progress to the parent, and receives stop requests."""

    connection: Connection
    epochs: int
    told: float = 0.0

    def step(self, epoch: int, done: int, steps: int) -> None:
        """Send the progress, twice a second. An orphaned worker stops itself."""
        if time.monotonic() - self.told < NEWS_SECONDS:
            return
        self.told = time.monotonic()
        try:
            self.connection.send(Step((epoch + done / steps) / self.epochs))
        except OSError:  # the parent was killed; the loop saves a checkpoint and raises Stopped
            os.kill(os.getpid(), signal.SIGTERM)

    def epoch(self, row: dict[str, Any]) -> None:
        """Send the metrics of an epoch; raises Pruned if they are not promising."""
        try:
            self.connection.send(Epoch(row))
            go_on = self.connection.recv()
        except (OSError, EOFError):
            raise Stopped(signal.SIGTERM) from None
        if not go_on:
            raise Pruned


def main(connection: Connection, slot: int, threads: int) -> None:
    """Train the configs received through ``connection`` until it closes or a signal arrives.

    ``threads``: the maximum per job, unless its config sets the number.
    """
    os.environ["OMP_NUM_THREADS"] = str(threads)
    sys.stdout = open(os.devnull, "w")  # noqa: SIM115 (the parent says how it goes)
    # Ctrl-C reaches the whole group, but the parent stops its workers. During training it is noted.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with relaxed_gc():
        with contextlib.suppress(EOFError, OSError, Stopped):
            while True:
                config, command = connection.recv()
                connection.send(train(_on_gpu(config, slot), command, connection))
        forget_garbage()


def train(config: Config, command: str, connection: Connection) -> End:
    """Train a job; return how it ended. Raises Stopped after a signal or if the parent has gone."""
    with run_folder(config).failure_recorded() as unrecorded:
        try:
            _train(config, command, Link(connection, config.train.epochs))
        except Pruned:
            return End("pruned")
        return End("finished")
    return End("failed", *unrecorded)


def _train(config: Config, command: str, link: Link) -> None:
    from tinylab.experiment import run as experiment
    from tinylab.training.loop import EpochDone, StepDone

    with contextlib.closing(experiment.events(config, command)) as events:
        for event in events:
            try:
                if isinstance(event, StepDone):
                    link.step(event.epoch, event.step, event.steps)
                elif isinstance(event, EpochDone):
                    link.epoch(event.row)
            except Stopped as stop:  # thrown into the run, so that its log records the outcome
                events.throw(stop)


def _on_gpu(config: Config, slot: int) -> Config:
    """Assign one of several GPUs to the config, round robin over the workers."""
    import torch

    count = torch.cuda.device_count()
    if count < 2 or config.device not in ("auto", "cuda"):
        return config
    return dataclasses.replace(config, device=f"cuda:{slot % count}")
