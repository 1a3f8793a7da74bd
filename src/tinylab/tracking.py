"""Curves for TensorBoard and ``metrics.jsonl``, both made from the run's history.

The history travels in the checkpoint, and both files are written anew from it when a run is
resumed: no gap, no doubled and no stale point, and a lost file is rebuilt.
"""

import json
import time
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tinylab.files import disk_errors, write_text

Row = dict[str, Any]

# Column of the history -> tag of the curve.
TAGS = {
    "train_loss": "loss/train",
    "val_loss": "loss/val",
    "train_accuracy": "accuracy/train",
    "val_accuracy": "accuracy/val",
    "lr": "optim/lr",
    "grad_norm": "optim/grad_norm",
    "images_per_second": "speed/images_per_second",
}
CHARTS = {
    "training and validation": {
        "loss": ["Multiline", ["loss/train", "loss/val"]],
        "accuracy": ["Multiline", ["accuracy/train", "accuracy/val"]],
    }
}
# Figure of the result -> tag of its column in the HParams tab.
METRICS = {
    "val_accuracy": "final/val_accuracy",
    "val_loss": "final/val_loss",
    "test_accuracy": "final/test_accuracy",
    "test_loss": "final/test_loss",
}


class Tracker(Protocol):
    """Where the loop sends what it measured."""

    def log(self, row: Row) -> None:
        """Take one epoch's figures."""


class NullTracker:
    """Keeps nothing."""

    def log(self, row: Row) -> None:
        """Forget the row."""


class RunTracker:
    """Writes one run's curves, pictures and final figures into its folder."""

    def __init__(self, folder: Path, history: list[Row], hparams: dict[str, Any]) -> None:
        # torch's writer, which needs tensorboard; imported here, because it takes a while.
        from torch.utils.tensorboard.writer import SummaryWriter

        for stale in folder.glob("events.out.tfevents.*"):
            stale.unlink()
        self._metrics = folder / "metrics.jsonl"
        with disk_errors(folder):
            self._writer = SummaryWriter(str(folder), flush_secs=10)
        self._hparams = hparams
        self._writer.add_custom_scalars(CHARTS)
        self._start_hparams()
        write_text(self._metrics, "".join(_line(row) for row in history))
        for row in history:
            self._curves(row)

    def log(self, row: Row) -> None:
        """Write one epoch's figures."""
        with disk_errors(self._metrics), self._metrics.open("a", encoding="utf-8") as file:
            file.write(_line(row))
        self._curves(row)

    def text(self, tag: str, markdown: str) -> None:
        """Show a text."""
        self._writer.add_text(tag, markdown)

    def picture(self, tag: str, pixels_HWC: NDArray[np.uint8]) -> None:
        """Show a picture, uint8 (H, W, 3)."""
        self._writer.add_image(tag, pixels_HWC, dataformats="HWC")

    def finish(self, figures: dict[str, float | None], step: int) -> None:
        """Write the final figures, which fill the HParams tab, and mark the run as finished."""
        for name, value in figures.items():
            if value is not None:
                self._writer.add_scalar(METRICS[name], value, step)
        self._end_hparams()

    def close(self) -> None:
        """Put everything on the disk."""
        self._writer.close()

    def _curves(self, row: Row) -> None:
        for name, tag in TAGS.items():
            if row[name] is not None:
                self._writer.add_scalar(tag, row[name], row["step"], row["time"])

    def _start_hparams(self) -> None:
        # SummaryWriter.add_hparams would open a second run folder; its parts go into this one.
        from torch.utils.tensorboard.summary import hparams

        metrics = dict.fromkeys(METRICS.values(), 0.0)
        parts = hparams(self._hparams, metrics)  # type: ignore[no-untyped-call]
        experiment, start, self._end = parts
        writer = self._writer._get_file_writer()  # type: ignore[no-untyped-call]
        writer.add_summary(experiment)
        writer.add_summary(start)

    def _end_hparams(self) -> None:
        writer = self._writer._get_file_writer()  # type: ignore[no-untyped-call]
        writer.add_summary(self._end)


def now() -> float:
    """Seconds since 1970, for the history's ``time`` column."""
    return time.time()


def _line(row: Row) -> str:
    return json.dumps(row) + "\n"
