"""Detailed tables: configs, environment, all runs, what was left out."""

import shlex
from collections.abc import Sequence

from tinylab.comparison.comparison import Row
from tinylab.comparison.settings import varied
from tinylab.config.keys import defaults, help_of
from tinylab.config.values import shown
from tinylab.reporting.tables import ABSENT, Cell, Table, in_order, number, value
from tinylab.store.collect import Skipped
from tinylab.store.run import Run

SEEDS = ("seed", "split.seed")


def differences(runs: Sequence[Run]) -> Table:
    """Return the config keys that differ between the runs, including seeds."""
    values = [run.values for run in runs]
    return Table(
        "Config keys that differ between the runs",
        ["key", "values", "description"],
        [
            [
                Cell(key),
                Cell(", ".join(in_order(each[key] for each in values if key in each))),
                Cell(help_of(key, values)),
            ]
            for key in varied(values)
        ],
    )


def config(run: Run) -> Table:
    """Return the full config of a run, except irrelevant keys, with the schema's defaults."""
    rows = []
    for key, each in run.values.items():
        choice = run.values.get(key.partition(".")[0], "") if "." in key else ""
        default = defaults().get((key, str(choice)), each)
        rows.append([Cell(key), value(each), Cell("" if each == default else shown(default))])
    return Table(f"Config of {run.name}", ["key", "value", "default, if different"], rows)


def environment(runs: Sequence[Run]) -> Table:
    """Return the environment of the runs."""
    facts = [run.result.environment.facts() for run in runs]
    return Table(
        "Environment of the runs",
        ["what", "values"],
        [
            [Cell(key), Cell(", ".join(in_order(each[key] for each in facts if key in each)))]
            for key in dict.fromkeys(key for each in facts for key in each)
        ],
    )


def repetition(rows: Sequence[Row]) -> Table:
    """Return every run with its seeds and accuracies, and the command that repeats it."""
    return Table(
        "Runs and the commands to repeat them",
        ["setting", "seed", "split.seed", "validation accuracy", "test accuracy", "command"],
        [
            [
                Cell(row.name),
                *(value(run.values[key]) if key in run.values else ABSENT for key in SEEDS),
                number(run.metric("val_accuracy")),
                number(run.metric("test_accuracy")),
                Cell(again(run)),
            ]
            for row in rows
            for run in row.setting.runs
        ],
    )


def again(run: Run) -> str:
    """Return the command that repeats a run with the same number of threads, which affects bits."""
    threads = run.result.environment.cpu_threads
    words = ["tinylab", "train", "--from", str(run.folder)]
    return shlex.join([*words, f"threads={threads}"] if threads is not None else words)


def left_out(skipped: Sequence[Skipped]) -> Table:
    """Return what is in the paths but is not a finished run."""
    return Table(
        "Folders without a finished run",
        ["folder", "why"],
        [[Cell(str(each.path)), Cell(each.reason)] for each in skipped],
    )
