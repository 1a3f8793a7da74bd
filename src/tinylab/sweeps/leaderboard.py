"""What a sweep found: one row a job, best validation first, on the screen and as files."""

import csv
import io
from collections.abc import Collection, Sequence
from typing import Any

from tinylab.config.metrics import CHOOSABLE, goodness
from tinylab.config.schema import run_id
from tinylab.store.run import result_row
from tinylab.store.sweep import SweepFolder
from tinylab.sweeps.job import Job
from tinylab.system.files import write_text
from tinylab.ui import console
from tinylab.ui.console import say

Row = dict[str, Any]


def rows(jobs: Sequence[Job], pruned: Collection[str] = ()) -> list[Row]:
    """The jobs' figures, the finished ones first, by the sweep's metric, then as listed.

    ``pruned``: the run ids of those that a search has given up.
    """
    metric = jobs[0].config.sweep.metric
    found = [_row(job, run_id(job.config) in pruned) for job in jobs]
    return sorted(found, key=lambda row: _rank(row, metric))


def _row(job: Job, pruned: bool) -> Row:
    files = job.files
    result = files.result()
    row: Row = {**job.varied, "run": files.name}
    if result is None and pruned:
        last = (files.history() or [{"epoch": 0}])[-1]
        val = {key: last.get(key) for key in CHOOSABLE}
        return {**row, "state": "pruned", **val, "epochs": last["epoch"]}
    if result is None:
        error = files.error()
        state = "not run" if error is None else "failed"
        return {**row, "state": state, "error": (error or "").partition("\n")[0]}
    return {**row, "state": "finished", **result_row(result)}


def _rank(row: Row, metric: str) -> tuple[bool, bool, float, float]:
    is_unknown = row.get(metric) is None
    first, second = (0.0, 0.0) if is_unknown else goodness(row, metric)
    return row["state"] != "finished", is_unknown, -first, -second


def write(folder: SweepFolder, table: list[Row]) -> None:
    """Write the rows as Markdown and CSV, with every column that any of them has."""
    columns = _columns(table)
    lines = [columns, ["---"] * len(columns)]
    lines += [[_markdown(row.get(key)) for key in columns] for row in table]
    write_text(folder.markdown_file, "".join(f"| {' | '.join(line)} |\n" for line in lines))
    write_text(folder.table_file, _csv(table))


def is_written(folder: SweepFolder, table: list[Row]) -> bool:
    """Whether these very rows have been written, which is the last that a sweep does."""
    try:
        return folder.table_file.read_text(encoding="utf-8") == _csv(table)
    except (OSError, ValueError):
        return False


def _columns(table: list[Row]) -> list[str]:
    return list(dict.fromkeys(key for row in table for key in row))


def _csv(table: list[Row]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, _columns(table), lineterminator="\n")
    writer.writeheader()
    writer.writerows(table)
    return text.getvalue()


def _markdown(value: Any) -> str:
    text = f"{value:.4f}" if isinstance(value, float) else "" if value is None else str(value)
    return text.replace("|", "\\|").replace("\n", " ")


def show(table: list[Row], varied: Sequence[str]) -> None:
    """Show the rows on the screen."""
    head = [*varied, "state", "val acc", "test acc", "95 % interval", "seconds", "run"]
    say("")
    console.table([head, *([row[key] for key in varied] + _cells(row) for row in table)])
    finished = [row for row in table if row["state"] == "finished"]
    if finished and all(row["val_accuracy"] is None for row in finished):
        say("no validation set (split.val=0): do not choose a setting by its test accuracy")


def _cells(row: Row) -> list[str]:
    val = "-" if row.get("val_accuracy") is None else f"{row['val_accuracy']:.2%}"
    if row["state"] == "pruned":
        return [row["state"], val, "", f"after epoch {row['epochs']}", "", row["run"]]
    if row["state"] != "finished":
        return [row["state"], "", "", "", "", f"{row['run']}  {row['error']}".rstrip()]
    interval = f"{row['test_low']:.2%} to {row['test_high']:.2%}"
    seconds = f"{row['train_seconds']:.1f}"
    return [row["state"], val, f"{row['test_accuracy']:.2%}", interval, seconds, row["run"]]
