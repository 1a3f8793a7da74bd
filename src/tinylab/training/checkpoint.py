"""Checkpoints: the full training state on disk, written atomically.

A file is what ``torch.save`` writes, a zip archive whose CRC-32 sums are checked before use. The
previous checkpoint is kept until the next one is safe.
"""

import hashlib
import io
import pickle
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tinylab.system.files import disk_errors, write_bytes
from tinylab.ui.console import say

FORMAT = "tinylab checkpoint"
VERSION = 1

State = dict[str, Any]


class CheckpointError(Exception):
    """A file is not a complete checkpoint of this run; the message says why."""


def save(path: Path, state: State) -> None:
    """Write ``state`` (tensors, numbers, strings, lists, dicts) durably and atomically.

    Raises UserError if the disk is full; the previous file is then intact.
    """
    buffer = io.BytesIO()
    torch.save({"format": FORMAT, "version": VERSION, **state}, buffer)
    write_bytes(path, buffer.getvalue())


def load(path: Path) -> State:
    """Read a checkpoint to the CPU. Raises CheckpointError unless it is complete."""
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
        if damaged is not None:
            raise CheckpointError(f"checksum of {damaged} is wrong")
        state = torch.load(path, map_location="cpu", weights_only=True)
    except CheckpointError:
        raise
    except OSError as error:
        raise CheckpointError(error.strerror or str(error)) from error
    except pickle.UnpicklingError as error:  # torch's own message suggests to load it anyway
        raise CheckpointError(
            "it is damaged or asks to run code; only tensors and plain values are read"
        ) from error
    except Exception as error:  # a damaged archive can fail anywhere in the reader
        raise CheckpointError(
            f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
        ) from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise CheckpointError("not a tinylab checkpoint")
    version = state.get("version")
    if version != VERSION:
        raise CheckpointError(f"written in format {version}; this tinylab reads {VERSION}")
    return state


@dataclass
class Checkpoints:
    """The checkpoints of a run: its resume points, and its tested weights.

    ``next`` becomes ``last`` once it is complete. ``stamp``: facts that go into every resume point.
    """

    last: Path
    next: Path
    previous: Path
    best: Path
    run_id: str
    stamp: State = field(default_factory=dict)

    def save_last(self, state: State) -> None:
        """Save a resume point; at every moment this one or the previous one is complete."""
        save(self.next, {"run_id": self.run_id, **self.stamp, **state})
        with disk_errors(self.last):
            if self.last.exists():
                self.last.replace(self.previous)
            self.next.replace(self.last)

    def save_best(self, weights: State) -> None:
        """Save the tested weights, when training is finished."""
        save(self.best, {"run_id": self.run_id, "model": weights})

    def load_last(self) -> State | None:
        """Return the newest complete resume point of this run, or None. Reports damaged ones."""
        for path in (self.next, self.last, self.previous):
            if not path.exists():
                continue
            try:
                state = load(path)
                if state.get("run_id") != self.run_id:
                    raise CheckpointError(f"belongs to run {state.get('run_id')}")
            except CheckpointError as error:
                say(f"{path.name} is not usable ({error}); looking for an older one")
                continue
            return state
        return None


def weights_sha256(model: nn.Module) -> str:
    """Return SHA-256 over weights and buffers in name order, whatever their memory format."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(f"{name}\0".encode())
        digest.update(value.detach().cpu().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
