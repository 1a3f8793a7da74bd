"""Curves for TensorBoard and the file of the metrics, both made from the run's history.

Training and validation are two event streams, ``train`` and ``val`` in the run's folder, whose tags
are equal: TensorBoard draws them into one chart, as it does for Keras. Hyperparameters, final
metrics and pictures are in the folder itself, which is the run of the HParams tab.

The history travels in the checkpoint, and both files are rewritten from it when a run is
resumed: no gap, no doubled and no stale point, and a lost file is rebuilt.
"""

import contextlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinylab.errors import UserError
from tinylab.system.files import disk_errors, write_text
from tinylab.ui.console import say

Row = dict[str, Any]

# Column of the history -> name of the curve. What ends in a stream's name is a tag of this stream.
TAGS = {
    "train_loss": "loss/train",
    "val_loss": "loss/val",
    "train_accuracy": "accuracy/train",
    "val_accuracy": "accuracy/val",
    "val_balanced_accuracy": "balanced_accuracy/val",
    "val_macro_f1": "macro_f1/val",
    "lr": "optim/lr",
    "grad_norm": "optim/grad_norm",
    "images_per_second": "speed/images_per_second",
}
STREAMS = ("train", "val")


@dataclass(frozen=True)
class Point:
    """A mean over runs, and the band around it."""

    step: int
    time: float
    mean: float
    low: float
    high: float


class RunTracker:
    """Writes a run's curves, pictures and final metrics to its folder.

    ``metrics`` is the file of the history, one line per epoch. Failures of TensorBoard are reported
    once, and do not stop the training; ``is_whole`` is then false.
    """

    def __init__(
        self, folder: Path, metrics: Path, history: list[Row], hparams: dict[str, Any]
    ) -> None:
        self._metrics = metrics
        self._hparams = {key: _worded(value) for key, value in hparams.items()}
        self._folder = folder
        self._writer: Any = None
        self._streams: dict[str, Any] = {}
        self.is_whole = True
        with self._spared():
            _quiet_thread()
            self._writer = _open_writer(folder)
            self._start_hparams()
        write_text(self._metrics, "".join(_line(row) for row in history))
        for row in history:
            self._curves(row)

    def log(self, row: Row) -> None:
        """Write one epoch's metrics."""
        with disk_errors(self._metrics), self._metrics.open("a", encoding="utf-8") as file:
            file.write(_line(row))
        self._curves(row)

    def text(self, tag: str, markdown: str) -> None:
        """Write a text."""
        with self._spared():
            self._writer.add_text(tag, markdown)

    def picture(self, tag: str, pixels_HWC: NDArray[np.uint8]) -> None:
        """Write a picture, uint8 (H, W, 3)."""
        with self._spared():
            self._writer.add_image(tag, pixels_HWC, dataformats="HWC")

    def finish(self, finals: Mapping[str, float | None], step: int) -> None:
        """Write the final metrics by tag, for the HParams tab, and flush everything to disk.

        Raises UserError if something before was not written.
        """
        if not self.is_whole:
            raise UserError("TensorBoard's event files are incomplete")
        for tag, value in finals.items():
            if value is not None:
                self._writer.add_scalar(tag, value, step)
        self._end_hparams()
        for writer in (*self._streams.values(), self._writer):
            writer.close()

    def close(self) -> None:
        """Flush everything to disk, as far as possible."""
        for writer in (*self._streams.values(), self._writer):
            with self._spared():
                writer.close()

    def _curves(self, row: Row) -> None:
        with self._spared():
            for name, value in row.items():
                if value is not None and (curve := tag_of(name)) is not None:
                    stream, tag = stream_and_tag(curve)
                    if stream not in self._streams:  # without validation there is none of it
                        self._streams[stream] = _open_writer(self._folder / stream)
                    self._streams[stream].add_scalar(tag, value, row["step"], row["time"])

    @contextlib.contextmanager
    def _spared(self) -> Iterator[None]:
        """Report the first failure inside the block."""
        try:
            yield
        except Exception as error:
            if self.is_whole:
                say(f"TensorBoard logging has stopped: {error}".partition("\n")[0])
            self.is_whole = False

    def _start_hparams(self) -> None:
        # SummaryWriter.add_hparams would open a second run folder; its parts go into this one. All
        # but the first: that names the columns, and TensorBoard would take those of one run for
        # all. Without it, it shows the columns of every run.
        from torch.utils.tensorboard.summary import hparams

        _, start, self._end = hparams(self._hparams, {})  # type: ignore[no-untyped-call]
        writer = self._writer._get_file_writer()
        writer.add_summary(start)

    def _end_hparams(self) -> None:
        writer = self._writer._get_file_writer()
        writer.add_summary(self._end)


def _open_writer(folder: Path) -> Any:
    # torch's writer, which needs tensorboard; imported here, because it takes a while.
    from torch.utils.tensorboard.writer import SummaryWriter

    return SummaryWriter(str(folder), flush_secs=10)


def tag_of(column: str) -> str | None:
    """The name of a column's curve; of a metric of the user's own ``NAME/val``. None: no curve."""
    is_own = column not in TAGS and column.startswith("val_")
    return f"{column.removeprefix('val_')}/val" if is_own else TAGS.get(column)


def stream_and_tag(curve: str) -> tuple[str, str]:
    """``loss/val``: the tag ``loss`` of the stream ``val``. All else is of ``train``, as it is."""
    tag, _, stream = curve.rpartition("/")
    return (stream, tag) if stream in STREAMS else ("train", curve)


def write_columns(folder: Path, values: Mapping[str, Sequence[Any]], tags: Sequence[str]) -> None:
    """Say in ``folder``, above those of its runs, which columns the HParams tab has.

    ``values`` has for each hyperparameter those that it takes in the runs; ``tags`` are those of
    the final metrics that they have.
    """
    from tensorboard.plugins.hparams import summary_v2 as hp

    def column(key: str, taken: Sequence[Any]) -> Any:
        values = [_worded(value) for value in taken]
        if len({isinstance(value, str) for value in values}) > 1:
            return hp.HParam(key)
        # Of one type: TensorBoard offers a checkbox for each.
        is_word = isinstance(values[0], str)
        return hp.HParam(key, hp.Discrete(sorted(set(values if is_word else map(float, values)))))

    columns = [column(key, taken) for key, taken in values.items()]
    metrics = [hp.Metric(tag) for tag in tags]
    _write_events(folder, [(0, now(), hp.hparams_config_pb(columns, metrics))])


def write_band(folder: Path, bands: Mapping[str, list[Point]]) -> None:
    """Write one run that is the mean of others: for each column of the history its points.

    The scalars page shows the mean as a curve, in the charts of the single runs; the custom scalars
    page shows the band, too. It complains about a run that has one of a band's three tags and not
    the others, so the mean there has a tag that no single run has.
    """
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.compat.proto.tensor_pb2 import TensorProto
    from tensorboard.plugins.custom_scalar import layout_pb2, metadata

    events: dict[str, list[tuple[int, float, Any]]] = {}
    charts = {}
    for column, points in bands.items():
        curve = tag_of(column)
        assert curve is not None
        stream, tag = stream_and_tag(curve)
        low, mean, high = (f"band/{tag}/{each}" for each in ("low", "mean", "high"))
        series = layout_pb2.MarginChartContent.Series(value=mean, lower=low, upper=high)
        margin = layout_pb2.MarginChartContent(series=[series])
        charts[tag] = layout_pb2.Chart(title=tag, margin=margin)
        for point in points:
            by_tag = {tag: point.mean, mean: point.mean, low: point.low, high: point.high}
            values = [Summary.Value(tag=tag, simple_value=value) for tag, value in by_tag.items()]
            events.setdefault(stream, []).append((point.step, point.time, Summary(value=values)))
    category = layout_pb2.Category(title="mean and band over seeds", chart=charts.values())
    layout = layout_pb2.Layout(category=[category]).SerializeToString()
    shown = Summary.Value(
        tag=metadata.CONFIG_SUMMARY_TAG,
        metadata=metadata.create_summary_metadata(),
        tensor=TensorProto(dtype="DT_STRING", string_val=[layout]),
    )
    for stream, written in events.items():
        _write_events(folder / stream, [(0, now(), Summary(value=[shown])), *written])


def _write_events(folder: Path, events: list[tuple[int, float, Any]]) -> None:
    """Step, time and summary of each, without torch: this is for the end of a sweep."""
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    _quiet_thread()
    with disk_errors(folder):
        writer = EventFileWriter(str(folder))
        for step, moment, summary in events:
            writer.add_event(Event(step=step, wall_time=moment, summary=summary))
        writer.close()


def _quiet_thread() -> None:
    """Make the thread that writes events keep its errors for the next call, and not print them."""
    from tensorboard.summary.writer import event_file_writer

    class Quiet(event_file_writer._AsyncWriterThread):  # type: ignore[misc]
        def run(self) -> None:
            with contextlib.suppress(OSError):
                super().run()

    if event_file_writer._AsyncWriterThread.__name__ != Quiet.__name__:
        event_file_writer._AsyncWriterThread = Quiet


def _worded(value: Any) -> Any:
    """Convert values that TensorBoard cannot store: null, true, false, lists, undecodable bytes."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    is_plain = isinstance(value, int | float) and not isinstance(value, bool)
    return value if is_plain else json.dumps(value)


def now() -> float:
    """Seconds since 1970, for the history's ``time`` column."""
    return time.time()


def _line(row: Row) -> str:
    return json.dumps(row) + "\n"
