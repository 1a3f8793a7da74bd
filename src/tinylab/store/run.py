"""A run's folder in its current state, as given to every command that reads runs.

Each run is one row of plain values, so that filters, sorting and the output of ``tinylab list``
share one set of names: config keys as typed, and metrics. Does not import torch.
"""

import contextlib
import hashlib
import math
import os
import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from tinylab.config.identity import flatten
from tinylab.config.keys import completed, without_effect
from tinylab.config.metrics import METRICS
from tinylab.errors import UserError
from tinylab.store.folder import ARCHIVED, RunFolder
from tinylab.store.lock import is_being_written
from tinylab.store.predictions import Predictions
from tinylab.store.result import Fault, Result

Row = dict[str, Any]

SET_ASIDE = "set aside"
NOT_THERE = "not there"
STATES = ("finished", "running", "stopped", "failed", "damaged", SET_ASIDE)
# Columns of a finished run besides its config and metrics.
OTHERS = ("test_low", "test_high", "best_epoch", "epochs", "train_seconds")


@dataclass(frozen=True)
class Run:
    """A run in any state; ``result_or_fault`` is its result if it is finished."""

    files: RunFolder
    result_or_fault: Result | Fault | None

    @property
    def folder(self) -> Path:
        """The folder."""
        return self.files.path

    @property
    def name(self) -> str:
        """The folder's name, which is the run's id unless it was archived."""
        return self.files.name

    @property
    def result(self) -> Result:
        """The result of a finished run. Raises UserError if it is not finished."""
        if not isinstance(self.result_or_fault, Result):
            raise UserError(f"{self.folder}: expected a finished run, but: {self.why_not()}")
        return self.result_or_fault

    def metric(self, name: str) -> float | None:
        """Return one of METRICS of a finished run; None if it has no value."""
        return self.result.metric(name)

    @cached_property
    def values(self) -> dict[str, Any]:
        """The config values that can change a result, by their typed keys.

        Keys that are newer than the run have their neutral value.
        """
        flat = completed(flatten(self.result.config))
        return {key: value for key, value in flat.items() if key not in without_effect()}

    @cached_property
    def predictions(self) -> Predictions | None:
        """The predictions for the test images; None if they cannot be read."""
        predictions = self.files.predictions()
        is_whole = (
            predictions is not None and len(predictions.index) == self.result.dataset.num_test
        )
        return predictions if is_whole else None

    @cached_property
    def test_set(self) -> str:
        """Equal for two runs of one dataset that were tested on the same images."""
        if self.predictions is None:
            return self.result.split_sha256
        digest = hashlib.sha256(self.predictions.index.tobytes())
        digest.update(self.predictions.label.tobytes())
        return digest.hexdigest()

    # ------------------------------------------------------------ any state

    @property
    def is_archived(self) -> bool:
        """Whether a newer run, or changed code, has replaced it."""
        return ARCHIVED.search(self.name) is not None

    @cached_property
    def state(self) -> str:
        """One of STATES, ignoring whether it is archived."""
        if self.result_or_fault is not None:
            return "finished" if isinstance(self.result_or_fault, Result) else "damaged"
        if is_being_written(self.folder):
            return "running"
        return "stopped" if self.files.error() is None else "failed"

    @cached_property
    def row(self) -> Row:
        """Plain values by name.

        ``run`` (its name), ``state`` (one of STATES), ``when`` (local time), ``size`` (bytes),
        ``error``, the values of ``result_row`` (None if unknown), and its config: ``optim.lr``, and
        ``optim`` for the choice of a group.
        """
        if isinstance(self.result_or_fault, Result):
            details = {
                **result_row(self.result_or_fault),
                **completed(flatten(self.result_or_fault.config)),
            }
        elif isinstance(self.result_or_fault, Fault):
            details = {"error": self.result_or_fault.reason}
        else:
            details = {"epochs": len(self.files.history())}
            details |= {"error": self.files.error()} if self.state == "failed" else {}
            with contextlib.suppress(UserError):
                details |= completed(flatten(self.files.config()))
        return {
            "run": self.name,
            "state": SET_ASIDE if self.is_archived else self.state,
            "when": time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self._moment())),
            "size": bytes_in(self.folder),
            "error": None,
            **dict.fromkeys([*_listed(), *OTHERS]),
            **details,
        }

    def why_not(self) -> str:
        """Return why there is no result."""
        if isinstance(self.result_or_fault, Fault):
            return self.result_or_fault.reason
        if (error := self.files.error()) is not None:
            return f"failed: {error.partition(chr(10))[0]}"
        if self.files.has_unreadable_result():
            return "its result.json cannot be read"
        if self.files.is_run():
            return "unfinished"
        return "no run" if self.folder.exists() else NOT_THERE

    def _moment(self) -> float:
        """Return when it reached its state, in seconds since 1970."""
        witnesses = {"finished": self.files.result_file, "failed": self.files.failure_file}
        witness = witnesses.get(self.state, self.files.last_checkpoint)
        return (witness if witness.exists() else self.folder).stat().st_mtime


def bytes_in(folder: Path) -> int:
    """Return the bytes of all files in a folder and below."""
    total = 0
    for inner, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(FileNotFoundError):  # training replaces its files
                total += os.lstat(os.path.join(inner, name)).st_size
    return total


def best_first(run: Run) -> tuple[float, float]:
    """Return the sort key of finished runs, the best validation accuracy first."""
    val = run.result.val
    return (math.inf, 0.0) if val is None else (-val.accuracy, val.loss)


def open_run(folder: Path) -> Run:
    """Return the run in ``folder``."""
    files = RunFolder(folder)
    return Run(files, files.result_or_fault())


def _listed() -> list[str]:
    """Return the metrics in a row; the training time has another name there."""
    return [name for name in METRICS if name != "seconds"]


def result_row(result: Result) -> Row:
    """Return the values of a finished run for listings; training time to a tenth of a second."""
    low, high = result.test.accuracy_ci95
    others = low, high, result.best_epoch, result.epochs, round(result.seconds.train, 1)
    metrics = {name: result.metric(name) for name in _listed()}
    return {**metrics, **dict(zip(OTHERS, others, strict=True))}
