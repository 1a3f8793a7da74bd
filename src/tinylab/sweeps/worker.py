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

NEWS_SECONDS = 0.5  # between two words on how far a job is


@dataclass(frozen=True)
class Step:
    """A job is this share done."""

    fraction: float


@dataclass(frozen=True)
class Epoch:
    """A job has ended an epoch, and waits to be told whether to go on."""

    row: dict[str, Any]


@dataclass(frozen=True)
class End:
    """A job has ended: finished, failed, pruned or stopped. ``error``: why, if not recorded yet."""

    state: str
    error: str = ""


@dataclass
class Link:
    """The worker's end of the pipe: it tells the parent how a job goes, and hears when to stop."""

    connection: Connection
    epochs: int
    told: float = 0.0

    def step(self, epoch: int, done: int, steps: int) -> None:
        """Tell how far the job is, twice a second. An orphan asks itself to stop."""
        if time.monotonic() - self.told < NEWS_SECONDS:
            return
        self.told = time.monotonic()
        try:
            self.connection.send(Step((epoch + done / steps) / self.epochs))
        except OSError:  # the parent was killed; the loop saves its state and raises Stopped
            os.kill(os.getpid(), signal.SIGTERM)

    def epoch(self, row: dict[str, Any]) -> None:
        """Tell the epoch's figures; raises Pruned where they do not promise enough."""
        try:
            self.connection.send(Epoch(row))
            go_on = self.connection.recv()
        except (OSError, EOFError):
            raise Stopped(signal.SIGTERM) from None
        if not go_on:
            raise Pruned


def main(connection: Connection, slot: int, threads: int, environment: dict[str, str]) -> None:
    """Train the configs that come through ``connection`` until it closes or a signal comes.

    ``threads``: at most so many for each, unless its config says how many. ``environment``: that
    of the sweep; the process that starts its workers may have an older one.
    """
    import numpy as np

    os.environ.clear()
    os.environ.update(environment, OMP_NUM_THREADS=str(threads))
    np.random.seed()  # else code of the user's that draws from it draws the same in all workers
    sys.stdout = open(os.devnull, "w")  # noqa: SIM115 (the parent says how it goes)
    # Ctrl-C reaches the whole group; the parent tells its workers. While training, it is noted.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with relaxed_gc():
        with contextlib.suppress(EOFError, OSError, Stopped):
            while True:
                config, command = connection.recv()
                connection.send(train(_on_gpu(config, slot), command, connection))
        forget_garbage()


def train(config: Config, command: str, connection: Connection) -> End:
    """Train one job; how it ended. Raises Stopped when a signal came or the parent has gone."""
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
            except Stopped as stop:  # thrown into the run, so that its log says how it ended
                events.throw(stop)


def _on_gpu(config: Config, slot: int) -> Config:
    """The config with one of several GPUs, round robin over the workers."""
    import torch

    count = torch.cuda.device_count()
    if count < 2 or config.device not in ("auto", "cuda"):
        return config
    return dataclasses.replace(config, device=f"cuda:{slot % count}")
