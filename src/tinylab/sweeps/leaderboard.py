"""What a sweep found: one row a job, best validation first, on the screen and as files."""

import csv
import io
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from tinylab.config.metrics import CHOOSABLE, METRICS, goodness
from tinylab.config.schema import run_id
from tinylab.store import folder as runs
from tinylab.store.query import figures
from tinylab.store.result import lookup
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
    result = runs.read_result(job.folder)
    row: Row = {**job.varied, "run": job.folder.name}
    if result is None and pruned:
        last = (runs.read_metrics(job.folder) or [{"epoch": 0}])[-1]
        val = {key: last.get(key) for key in CHOOSABLE}
        return {**row, "state": "pruned", **val, "epochs": last["epoch"]}
    if result is None:
        failure = runs.read_json(job.folder / "failure.json")
        error = failure["error"].splitlines()[0] if failure is not None else ""
        return {**row, "state": "failed" if failure is not None else "not run", "error": error}
    val = {key: lookup(result, METRICS[key].path) for key in CHOOSABLE}
    return {**row, "state": "finished", **val, **figures(result)}


def _rank(row: Row, metric: str) -> tuple[bool, bool, float, float]:
    is_unknown = row.get(metric) is None
    first, second = (0.0, 0.0) if is_unknown else goodness(row, metric)
    return row["state"] != "finished", is_unknown, -first, -second


def write(folder: Path, table: list[Row]) -> None:
    """Write ``leaderboard.md`` and ``.csv``, with every column that any of the rows has."""
    columns = _columns(table)
    lines = [columns, ["---"] * len(columns)]
    lines += [[_markdown(row.get(key)) for key in columns] for row in table]
    write_text(folder / "leaderboard.md", "".join(f"| {' | '.join(line)} |\n" for line in lines))
    write_text(folder / "leaderboard.csv", _csv(table))


def is_written(folder: Path, table: list[Row]) -> bool:
    """Whether these very rows have been written, which is the last that a sweep does."""
    try:
        return (folder / "leaderboard.csv").read_text(encoding="utf-8") == _csv(table)
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
