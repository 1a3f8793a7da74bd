"""The child's side of a parallel sweep: a process that trains one job after another."""

import contextlib
import copy
import dataclasses
import os
import signal
import sys
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

from tinylab.config.schema import Config
from tinylab.errors import Pruned, Stopped
from tinylab.store.folder import run_folder
from tinylab.sweeps.cards import CONTEXT_BYTES, Footprint
from tinylab.system.machine import forget_garbage, relaxed_gc

if TYPE_CHECKING:
    from tinylab.experiment.prepare import Prepared

# What CUDA, cuBLAS and cuDNN say where PyTorch's allocator is not the one that found no memory.
OUT_OF_MEMORY = ("CUDA error: out of memory", "ALLOC_FAILED", "CUDNN_STATUS_INTERNAL_ERROR")
MESSAGE_SECONDS = 0.5  # seconds between two progress messages


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
    """A job has ended: finished, failed, pruned or stopped. ``error``: if not recorded yet.

    ``is_crowded``: whether it failed because the memory of its GPU was full.
    """

    state: str
    error: str = ""
    is_crowded: bool = False


Message = Step | Epoch | Footprint | End


@dataclass
class Link:
    """The worker's end of the pipe: sends progress to the parent, and receives stop requests."""

    connection: Connection
    epochs: int
    sent: float = 0.0

    def step(self, epoch: int, done: int, steps: int) -> None:
        """Send the progress, twice a second. An orphaned worker stops itself."""
        if time.monotonic() - self.sent < MESSAGE_SECONDS:
            return
        self.sent = time.monotonic()
        try:
            self.connection.send(Step((epoch + done / steps) / self.epochs))
        except OSError:  # the parent was killed; the loop saves a checkpoint and raises Stopped
            os.kill(os.getpid(), signal.SIGTERM)

    def footprint(self, prepared: "Prepared") -> None:
        """Tell, after the first step, what the job takes of its GPU."""
        with contextlib.suppress(OSError):  # the next step tells why
            self.connection.send(_footprint(prepared))

    def epoch(self, row: dict[str, Any]) -> None:
        """Send the metrics of an epoch; raises Pruned if they are not promising."""
        try:
            self.connection.send(Epoch(row))
            go_on = self.connection.recv()
        except (OSError, EOFError):
            raise Stopped(signal.SIGTERM) from None
        if not go_on:
            raise Pruned


def main(connection: Connection, slot: int, threads: int, environment: dict[str, str]) -> None:
    """Train the configs received through ``connection`` until it closes or a signal arrives.

    ``threads``: the maximum per job, unless its config sets the number. ``environment``: that of
    the sweep; the server that forks its workers may have an older one.
    """
    import numpy as np

    os.environ.clear()
    os.environ.update(environment, OMP_NUM_THREADS=str(threads))
    np.random.seed()  # else code of the user's that draws from it draws the same in all workers
    sys.stdout = open(os.devnull, "w")  # noqa: SIM115 (the parent says how it goes)
    # Ctrl-C reaches the whole group, but the parent stops its workers. During training it is noted.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with relaxed_gc():
        from tinylab.experiment import run as _  # noqa: F401 (seconds, for one who waits for a job)

        with contextlib.suppress(EOFError, OSError, Stopped):
            while True:
                config, command = connection.recv()
                connection.send(train(_on_gpu(config, slot), command, connection))
        forget_garbage()


def train(config: Config, command: str, connection: Connection) -> End:
    """Train a job; return how it ended. Raises Stopped after a signal or if the parent has gone."""
    is_crowded = False
    with run_folder(config).failure_recorded() as unrecorded:
        try:
            _train(config, command, Link(connection, config.train.epochs))
        except Pruned:
            return End("pruned")
        except Exception as error:
            is_crowded = _is_out_of_memory(error)
            raise
        return End("finished")
    return End("failed", *unrecorded, is_crowded=is_crowded)


def _train(config: Config, command: str, link: Link) -> None:
    from tinylab.experiment import run as experiment
    from tinylab.training.loop import EpochDone, StepDone

    prepared: Prepared | None = None
    with contextlib.closing(experiment.events(config, command)) as events:
        for event in events:
            try:
                if isinstance(event, experiment.RunStarted):
                    prepared = event.prepared
                elif isinstance(event, StepDone):
                    if prepared is not None:
                        link.footprint(prepared)
                        prepared = None
                    link.step(event.epoch, event.step, event.steps)
                elif isinstance(event, EpochDone):
                    link.epoch(event.row)
            except Stopped as stop:  # thrown into the run, so that its log records the outcome
                events.throw(stop)


def _footprint(prepared: "Prepared") -> Footprint:
    import torch

    device = prepared.recipe.device
    if device.type != "cuda":
        return Footprint(0, 0, None)
    free, _ = torch.cuda.mem_get_info(device)
    own = torch.cuda.max_memory_reserved(device) + CONTEXT_BYTES
    return Footprint(own, free, _work(prepared))


def _work(prepared: "Prepared") -> int | None:
    """Multiply-adds of a step's forward pass, counted on the CPU."""
    from tinylab import models

    _, C, H, W = prepared.splits.data.pixels.shape
    try:
        one = models.multiply_adds(copy.deepcopy(prepared.model).cpu(), (C, H, W))
    except Exception:  # a network of the user's own may need its device
        return None
    return one * prepared.config.train.batch_size


def _is_out_of_memory(error: BaseException | None) -> bool:
    """Whether an error is, or comes from, a GPU whose memory is full; libraries say it each."""
    while error is not None:
        if type(error).__name__ == "OutOfMemoryError" or any(
            words in str(error) for words in OUT_OF_MEMORY
        ):
            return True
        error = error.__cause__
    return False


def _on_gpu(config: Config, slot: int) -> Config:
    """Assign one of several GPUs to the config, round robin over the workers."""
    import torch

    count = torch.cuda.device_count()
    if count < 2 or config.device not in ("auto", "cuda"):
        return config
    return dataclasses.replace(config, device=f"cuda:{slot % count}")
