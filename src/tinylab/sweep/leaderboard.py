"""What a sweep found: one row a job, best validation first, on the screen and as files."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tinylab import console, runs
from tinylab.console import say
from tinylab.files import write_text
from tinylab.shelf import figures
from tinylab.sweep.grid import Job

Row = dict[str, Any]


def rows(jobs: Sequence[Job]) -> list[Row]:
    """The jobs' figures; finished ones by validation accuracy, then loss, then as listed."""
    found = [_row(job) for job in jobs]
    return sorted(found, key=_rank)


def _row(job: Job) -> Row:
    result = runs.read_result(job.folder)
    row: Row = {**job.varied, "run": job.folder.name}
    if result is None:
        failure = runs.read_json(job.folder / "failure.json")
        error = failure["error"].splitlines()[0] if failure is not None else ""
        return {**row, "state": "failed" if failure is not None else "not run", "error": error}
    return {**row, "state": "finished", **figures(result)}


def _rank(row: Row) -> tuple[bool, float, float]:
    accuracy, loss = row.get("val_accuracy"), row.get("val_loss")
    return row["state"] != "finished", -(accuracy or 0.0), loss or 0.0


def write(folder: Path, table: list[Row]) -> None:
    """Write ``leaderboard.csv`` and ``.md``, with every column that any of the rows has."""
    columns = list(dict.fromkeys(key for row in table for key in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(table)
    write_text(folder / "leaderboard.csv", text.getvalue())
    lines = [columns, ["---"] * len(columns)]
    lines += [[_markdown(row.get(key)) for key in columns] for row in table]
    write_text(folder / "leaderboard.md", "".join(f"| {' | '.join(line)} |\n" for line in lines))


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
    if row["state"] != "finished":
        return [row["state"], "", "", "", "", f"{row['run']}  {row['error']}".rstrip()]
    val = "-" if row["val_accuracy"] is None else f"{row['val_accuracy']:.2%}"
    interval = f"{row['test_low']:.2%} to {row['test_high']:.2%}"
    seconds = f"{row['train_seconds']:.1f}"
    return [row["state"], val, f"{row['test_accuracy']:.2%}", interval, seconds, row["run"]]
