"""What a sweep found: one row a job, best validation first, on the screen and as files."""

from collections.abc import Collection, Sequence
from typing import Any

from tinylab.config.metrics import CHOOSABLE, METRICS, goodness
from tinylab.config.schema import run_id
from tinylab.store.run import result_row
from tinylab.store.sweep import SweepFolder
from tinylab.sweeps.job import Job
from tinylab.system.files import write_text
from tinylab.ui.console import say
from tinylab.ui.tables import Section, aligned, as_csv, as_markdown, columns_of, names_of

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
        state = "failed" if error is not None else "stopped" if files.is_run() else "not run"
        return {**row, "state": state, "error": (error or "").partition("\n")[0]}
    return {**row, "state": "finished", **result_row(result)}


def _rank(row: Row, metric: str) -> tuple[bool, bool, float, float]:
    is_unknown = row.get(metric) is None
    first, second = (0.0, 0.0) if is_unknown else goodness(row, metric)
    return row["state"] != "finished", is_unknown, -first, -second


def write(folder: SweepFolder, table: list[Row]) -> None:
    """Write the rows as Markdown and CSV, with every column that any of them has."""
    names = names_of(table)
    columns = columns_of(names, [[_text(row.get(name)) for name in names] for row in table])
    lines = as_markdown([Section(table=columns)])
    write_text(folder.markdown_file, "".join(f"{line}\n" for line in lines))
    write_text(folder.table_file, as_csv(table))


def is_written(folder: SweepFolder, table: list[Row]) -> bool:
    """Whether these very rows have been written, which is the last that a sweep does."""
    try:
        return folder.table_file.read_text(encoding="utf-8") == as_csv(table)
    except (OSError, ValueError):
        return False


def _text(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, float) else "" if value is None else str(value)


def show(table: list[Row], first: Job) -> None:
    """Show the rows on the screen, with the metric of the sweep, whose ``first`` job is given."""
    varied, metric = list(first.varied), first.config.sweep.metric
    ranked = [] if metric == "val_accuracy" else [metric]  # which has a column in any case
    head = [
        *varied, "state", *(name.replace("_", " ") for name in ranked), "val acc", "test acc",
        "95 % interval", "seconds", "run",
    ]  # fmt: skip
    rows = [[row[key] for key in varied] + _cells(row, ranked) for row in table]
    say("\n" + "\n".join(aligned(columns_of(head, rows), width=None)))
    finished = [row for row in table if row["state"] == "finished"]
    if finished and all(row["val_accuracy"] is None for row in finished):
        say("no validation set (split.val=0): do not choose a setting by its test accuracy")


def _cells(row: Row, ranked: Sequence[str]) -> list[str]:
    if row["state"] not in ("finished", "pruned"):
        empty = [""] * (len(ranked) + 4)
        return [row["state"], *empty, f"{row['run']}  {row['error']}".rstrip()]
    val = [_value(row, name) for name in (*ranked, "val_accuracy")]
    if row["state"] == "pruned":
        return [row["state"], *val, "", f"after epoch {row['epochs']}", "", row["run"]]
    interval = f"{row['test_low']:.2%} to {row['test_high']:.2%}"
    seconds = f"{row['train_seconds']:.1f}"
    return [row["state"], *val, _value(row, "test_accuracy"), interval, seconds, row["run"]]


def _value(row: Row, name: str) -> str:
    return "-" if row.get(name) is None else METRICS[name].format.format(row[name])
