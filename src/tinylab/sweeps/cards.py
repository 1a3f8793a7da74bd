"""How many jobs run at once: one per core, or as many as fit on the GPUs that they share.

Each job on a GPU is a process of its own, whatever runs beside it, so its bits are those that it
has when it is trained alone.
"""

import sys
from dataclasses import dataclass

from tinylab.config.schema import Config
from tinylab.system import machine

MOST_ON_A_CARD = 16
# Multiply-adds of a step's forward pass, of all jobs on a card together, that keep it busy.
WORK_OF_A_CARD = 4_000_000_000
SPARE = 0.9  # of the memory that is free: evaluation and other configs may take more than the first
CONTEXT_BYTES = 600_000_000  # of a process, beside what PyTorch allocates


@dataclass(frozen=True)
class Footprint:
    """What a job takes of its GPU after its first step, and what it has left.

    num_bytes: 0 where it runs on no GPU, as by a PyTorch without CUDA. work: multiply-adds of a
    step's forward pass; None where they are not known.
    """

    num_bytes: int
    free_bytes: int
    work: int | None


class Room:
    """How many jobs may run at once. On GPUs one each, until the first has said what it takes."""

    def __init__(self, most: int, cards: int = 0, is_by_work: bool = False) -> None:
        """``cards``: GPUs that the jobs share, 0 for none; ``is_by_work``: nobody said how many."""
        self.most, self.cards, self._is_by_work = most, cards, is_by_work
        self.is_shared = 0 < cards < most
        self.is_waiting = self.is_shared  # for what the first job takes
        self.now = cards if self.is_shared else most

    @property
    def asked(self) -> int:
        """How many jobs the user wants at once; where nobody said it, one on each GPU."""
        return self.cards if self.cards and self._is_by_work else self.most

    def learn(self, took: Footprint) -> bool:
        """Let so many jobs run as fit; False where that was known already."""
        if not self.is_waiting:
            return False
        self.is_waiting = False
        if took.num_bytes == 0:
            self.now = self.most
            return True
        each = 1 + int(took.free_bytes * SPARE / took.num_bytes)
        if self._is_by_work and took.work is not None:
            each = min(each, max(1, WORK_OF_A_CARD // max(1, took.work)))
        self.now = min(self.most, each * self.cards)
        return True

    def shrink(self, at_once: int, running: int) -> bool:
        """After a job found no memory beside ``running`` others: so many at most from now on.

        ``at_once``: the most that were allowed while it ran. False where the job had its card to
        itself, and would find no more.
        """
        least = max(1, self.cards)  # GPUs may go unseen: machine.gpus looks for device files
        if at_once <= least:
            return False
        self.is_waiting = False
        self.now = max(least, min(self.now, running))
        return True


def room_for(config: Config, num_jobs: int) -> Room:
    """``jobs`` at once; or as many as keep each GPU busy, or one per core.

    Two processes of one thread each do a third more steps of the baseline CNN in a second than one
    process of two threads (two cores, batch 32). On a GPU a job needs a core to launch its work.
    """
    cores = max(1, machine.cores() // (config.threads or 1))
    cards = _cards(config)
    if config.jobs is not None:
        most = config.jobs
    elif config.device == "mps" or (config.device == "auto" and sys.platform == "darwin"):
        most = 1
    elif cards:
        most = max(cards, min(cards * MOST_ON_A_CARD, cores))
    else:
        most = cores
    return Room(max(1, min(most, num_jobs)), cards, config.jobs is None)


def _cards(config: Config) -> int:
    """The GPUs that jobs with this config are spread over."""
    if config.device.startswith("cuda:"):
        return min(1, machine.gpus())
    return machine.gpus() if config.device in ("auto", "cuda") else 0
