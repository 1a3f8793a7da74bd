"""A run's folder as it is now: what every command that looks at runs is given.

Each run is one row of plain values, so that filters, sorting and the files that ``tinylab list``
writes know one set of names: config keys as they are typed, and metrics. No torch in here.
"""

import contextlib
import hashlib
import os
import re
import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from tinylab.config.identity import flatten
from tinylab.config.keys import completed, without_effect
from tinylab.config.metrics import METRICS
from tinylab.errors import UserError
from tinylab.store.folder import RunFolder
from tinylab.store.lock import is_being_written
from tinylab.store.predictions import Predictions
from tinylab.store.result import Fault, Result

Row = dict[str, Any]

ARCHIVED = re.compile(r"\.\d{8}-\d{6}(-\d+)?$")  # the end of the name that RunFolder.archive gives
SET_ASIDE = "set aside"
STATES = ("finished", "running", "stopped", "failed", "damaged", SET_ASIDE)
# What the row of a finished run has beside its config and its metrics.
OTHERS = ("test_low", "test_high", "best_epoch", "epochs", "train_seconds")


@dataclass(frozen=True)
class Run:
    """A run in whatever state; ``found`` is its result if it is finished."""

    files: RunFolder
    found: Result | Fault | None

    @property
    def folder(self) -> Path:
        """Where it lies."""
        return self.files.path

    @property
    def name(self) -> str:
        """The folder's name, which is the run's id unless it was archived."""
        return self.files.name

    @property
    def result(self) -> Result:
        """The result of a finished run. Raises UserError where it is not finished."""
        if not isinstance(self.found, Result):
            raise UserError(f"{self.folder}: expected a finished run, but: {self.why_not()}")
        return self.found

    def metric(self, name: str) -> float | None:
        """One of METRICS of a finished run; None where it has no such value."""
        return self.result.metric(name)

    @cached_property
    def values(self) -> dict[str, Any]:
        """The config values that can change a result, by the keys that a user types.

        A run of before a key existed has its neutral value.
        """
        flat = completed(flatten(self.result.config))
        return {key: value for key, value in flat.items() if key not in without_effect()}

    @cached_property
    def predictions(self) -> Predictions | None:
        """Those on the test images; None where they cannot be read."""
        found = self.files.predictions()
        is_whole = found is not None and len(found.index) == self.result.dataset.num_test
        return found if is_whole else None

    @cached_property
    def test_set(self) -> str:
        """Equal for two runs of one dataset if they were tested on the same images."""
        if self.predictions is None:
            return self.result.split_sha256
        digest = hashlib.sha256(self.predictions.index.tobytes())
        digest.update(self.predictions.label.tobytes())
        return digest.hexdigest()

    # ------------------------------------------------------------ in any state

    @property
    def is_archived(self) -> bool:
        """Whether a newer run, or a changed program, has taken its place."""
        return ARCHIVED.search(self.name) is not None

    @cached_property
    def state(self) -> str:
        """One of STATES, those of archived runs as if they were not."""
        if self.found is not None:
            return "finished" if isinstance(self.found, Result) else "damaged"
        if is_being_written(self.folder):
            return "running"
        return "stopped" if self.files.error() is None else "failed"

    @cached_property
    def row(self) -> Row:
        """Plain values by name.

        ``run`` (its name), ``state`` (one of STATES), ``when`` (local time), ``size`` (bytes),
        ``error``, what ``result_row`` has (None where it is not known), and its config:
        ``optim.lr``, and ``optim`` for the group's choice.
        """
        if isinstance(self.found, Result):
            details = {**result_row(self.found), **completed(flatten(self.found.config))}
        elif isinstance(self.found, Fault):
            details = {"error": self.found.reason}
        else:
            details = {"epochs": len(self.files.history())}
            details |= {"error": self.files.error()} if self.state == "failed" else {}
            with contextlib.suppress(UserError):
                details |= completed(flatten(self.files.config()))
        return {
            "run": self.name,
            "state": SET_ASIDE if self.is_archived else self.state,
            "when": time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self._moment())),
            "size": self._size(),
            "error": None,
            **dict.fromkeys([*_listed(), *OTHERS]),
            **details,
        }

    def why_not(self) -> str:
        """Why there is no result."""
        if isinstance(self.found, Fault):
            return self.found.reason
        if (error := self.files.error()) is not None:
            return f"failed: {error.partition(chr(10))[0]}"
        if self.files.has_unreadable_result():
            return "its result.json cannot be read"
        if self.files.is_run():
            return "unfinished"
        return "no run" if self.folder.exists() else "not there"

    def _moment(self) -> float:
        """When it came to be what it is, in seconds since 1970."""
        witnesses = {"finished": self.files.result_file, "failed": self.files.failure_file}
        witness = witnesses.get(self.state, self.files.last_checkpoint)
        return (witness if witness.exists() else self.folder).stat().st_mtime

    def _size(self) -> int:
        """Bytes of all files in the folder and below."""
        total = 0
        for place, _, names in os.walk(self.folder):
            for name in names:
                with contextlib.suppress(FileNotFoundError):  # a training replaces its files
                    total += os.lstat(os.path.join(place, name)).st_size
        return total


def open_run(folder: Path) -> Run:
    """The run in ``folder``."""
    files = RunFolder(folder)
    return Run(files, files.result_or_fault())


def _listed() -> list[str]:
    """The metrics in a row; the training time has a name of its own there."""
    return [name for name in METRICS if name != "seconds"]


def result_row(result: Result) -> Row:
    """The values of a finished run that listings show; training time to a tenth of a second."""
    low, high = result.test.accuracy_ci95
    others = low, high, result.best_epoch, result.epochs, round(result.seconds.train, 1)
    metrics = {name: result.metric(name) for name in _listed()}
    return {**metrics, **dict(zip(OTHERS, others, strict=True))}
