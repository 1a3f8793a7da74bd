"""The leaderboard of a sweep: one row per job, best validation first, on screen and as files."""

from collections.abc import Collection, Mapping, Sequence
from itertools import takewhile
from statistics import fmean
from typing import Any

from tinylab.config.identity import run_id
from tinylab.config.keys import SEEDS, unit
from tinylab.config.metrics import CHOOSABLE, METRICS, NOT_FOR_SELECTION, between, goodness
from tinylab.config.values import is_number
from tinylab.store.run import result_row
from tinylab.store.sweep import SweepFolder
from tinylab.sweeps.job import Job
from tinylab.sweeps.standings import cell_of, summary_of
from tinylab.sweeps.trials import Trial
from tinylab.system.files import write_text
from tinylab.ui.console import say
from tinylab.ui.tables import Section, aligned, as_csv, as_markdown, columns_of, names_of

Row = dict[str, Any]
TEST = "test acc *"  # as in NOT_FOR_SELECTION
NO_MEAN = ("test_low", "test_high")  # of one test set


def rows(jobs: Sequence[Job], pruned: Collection[str] = ()) -> list[Row]:
    """Return the jobs' metrics, finished ones first, by the sweep's metric, then as listed.

    ``pruned``: the ids of the runs that a search has pruned.
    """
    metric = jobs[0].config.sweep.metric
    table = [_row(job, run_id(job.config) in pruned) for job in jobs]
    return sorted(table, key=lambda row: _rank(row, metric))


def rows_of_search(trials: Sequence[Trial]) -> list[Row]:
    """Return one row per trial: its run, or the mean over its repeats. Pruned or unfinished trials
    have no mean: over fewer seeds it would not be comparable.
    """
    if len(trials[0].repeats) == 1:
        repeats = [trial.repeats[0] for trial in trials]
        return rows([e.job for e in repeats], {e.run_id for e in repeats if e.state == "pruned"})
    metric = trials[0].repeats[0].job.config.sweep.metric
    return sorted((_mean_row(trial, metric) for trial in trials), key=lambda r: _rank(r, metric))


def best(trials: Sequence[Trial]) -> Trial | None:
    """Return the best finished trial; None if none is finished."""
    finished = [trial for trial in trials if trial.state == "finished"]
    if not finished:
        return None
    metric = finished[0].repeats[0].job.config.sweep.metric
    return min(finished, key=lambda trial: _rank(_mean_row(trial, metric), metric))


def _mean_row(trial: Trial, metric: str) -> Row:
    """Return the means over a trial's repeats, and the CI of the sweep's metric (Student's t)."""
    repeats = [_row(each.job, each.state == "pruned") for each in trial.repeats]
    finished = [row for row in repeats if row["state"] == "finished"]
    row: Row = {**trial.varied, "state": trial.state, "runs": len(finished)}
    if trial.state != "finished":
        errors = [error for each in repeats if (error := each.get("error"))]
        state = "stopped" if trial.state == "running" else trial.state
        return {**row, "state": state, "error": next(iter(errors), "")}
    means = {
        key: _mean([each[key] for each in finished])
        for key in finished[0]
        if key not in NO_MEAN and all(is_number(each.get(key)) for each in finished)
    }
    values = {cell_of(e.job): e.value for e in trial.repeats if e.value is not None}
    spread = summary_of(values, metric)
    interval = {f"{metric}_low": spread.low, f"{metric}_high": spread.high}
    return {**row, metric: spread.mean, **interval, **means}


def _mean(values: Sequence[float]) -> float:
    """Return the mean; that of integers, such as numbers of parameters, stays one if possible."""
    mean = fmean(values)
    are_integers = all(isinstance(value, int) for value in values)
    return int(mean) if are_integers and mean.is_integer() else mean


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
    """Write the rows as Markdown and CSV, with the columns of all of them."""
    names = names_of(table)
    columns = columns_of(names, [[_text(row.get(name)) for name in names] for row in table])
    lines = as_markdown([Section(table=columns)])
    write_text(folder.markdown_file, "".join(f"{line}\n" for line in lines))
    write_text(folder.table_file, as_csv(table))


def is_written(folder: SweepFolder, table: list[Row]) -> bool:
    """Return whether exactly these rows have been written, the last step of a sweep."""
    try:
        return folder.table_file.read_text(encoding="utf-8") == as_csv(table)
    except (OSError, ValueError):
        return False


def _text(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, float) else "" if value is None else str(value)


def show(table: list[Row], first: Job, letters: Mapping[str, str] | None = None) -> None:
    """Show the rows on the screen, with the sweep's metric, taken from the ``first`` job.

    ``letters``: of the settings in the verdicts below the table, by the names of their runs.
    """
    metric = first.config.sweep.metric
    varied = _varied(table)
    ranked = [] if metric == "val_accuracy" else [metric]  # which has a column anyway
    head = [
        *varied, "state", *(name.replace("_", " ") for name in ranked), "val acc", TEST,
        "95% CI", "seconds", "run",
    ]  # fmt: skip
    rows = [[row.get(key, "") for key in varied] + _cells(row, ranked) for row in table]
    if letters:
        head = ["", *head]
        rows = [
            [letters.get(row["run"], ""), *cells] for row, cells in zip(table, rows, strict=True)
        ]
    say("\n" + "\n".join(aligned(columns_of(head, rows), width=None)))
    _say_what_selects(table)


def show_means(table: list[Row], jobs: Sequence[Job]) -> None:
    """Show the settings of a search that repeats each over seeds, with the CI of the mean."""
    varied, name = _varied(table), jobs[0].config.sweep.metric
    head = [*varied, "state", "runs", METRICS[name].label, "95% CI", TEST]
    rows = [[row.get(key, "") for key in varied] + _mean_cells(row, name) for row in table]
    say("\n" + "\n".join(aligned(columns_of(head, rows), width=None)))
    repeats = unit(key for job in jobs for key in job.varied if key in SEEDS)
    say(f"means over repeats; CI: variation over {repeats} (Student's t)")
    _say_what_selects(table)


def _mean_cells(row: Row, metric: str) -> list[str]:
    if row["state"] != "finished":
        return [row["state"], str(row["runs"]), "", "", row["error"]]
    form = METRICS[metric].format.format
    low, high = row[f"{metric}_low"], row[f"{metric}_high"]
    interval = "-" if low is None else between(low, high, METRICS[metric].format)
    return ["finished", str(row["runs"]), form(row[metric]), interval, _value(row, "test_accuracy")]


def _varied(table: list[Row]) -> list[str]:
    """Return the varied keys, which come first in a row."""
    keys = (takewhile(lambda key: key not in ("run", "state"), row) for row in table)
    return list(dict.fromkeys(key for each in keys for key in each))


def _say_what_selects(table: list[Row]) -> None:
    finished = [row for row in table if row["state"] == "finished"]
    if finished and all(row.get("val_accuracy") is None for row in finished):
        say("no validation set (split.val=0): do not select a setting by test accuracy")
    elif finished:
        say(NOT_FOR_SELECTION)


def _cells(row: Row, ranked: Sequence[str]) -> list[str]:
    if row["state"] not in ("finished", "pruned"):
        empty = [""] * (len(ranked) + 4)
        return [row["state"], *empty, f"{row['run']}  {row['error']}".rstrip()]
    val = [_value(row, name) for name in (*ranked, "val_accuracy")]
    if row["state"] == "pruned":
        return [row["state"], *val, "", f"after epoch {row['epochs']}", "", row["run"]]
    interval = between(row["test_low"], row["test_high"])
    seconds = f"{row['train_seconds']:.1f}"
    return [row["state"], *val, _value(row, "test_accuracy"), interval, seconds, row["run"]]


def _value(row: Row, name: str) -> str:
    return "-" if row.get(name) is None else METRICS[name].format.format(row[name])
