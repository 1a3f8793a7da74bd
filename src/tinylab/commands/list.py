"""``tinylab list``: list runs, filtered by config keys and metrics."""

import argparse
import json
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tinylab.commands.parser import Parser
from tinylab.comparison.settings import distinguishes
from tinylab.config.keys import without_effect
from tinylab.config.metrics import METRICS, between
from tinylab.config.values import shown
from tinylab.store.query import conditions, in_order, select
from tinylab.store.run import OTHERS, Run
from tinylab.ui.console import in_bytes, say
from tinylab.ui.tables import LEAST, WIDTH, aligned, as_csv, columns_of, fitted

FILTERS = """\
A filter is a condition on a config key or metric, a run's name or folder, with * as a wildcard,
or a sweep's folder. All conditions must hold. Quote < and >, which the shell would interpret.

  tinylab list                                           all runs, newest last
  tinylab list dataset=mnist 'optim.lr<0.01' state=failed
  tinylab list 'test_accuracy>0.9' --sort -val_accuracy
  tinylab list 'digits-*' --format csv > runs.csv        every config key and metric"""
HEAD = ("run", "state", "when", "epochs", "val acc", "test acc (95% CI)", "seconds", "size")
IN_HEAD = {"run", "state", "when", "epochs", "val_accuracy", "test_accuracy", "train_seconds",
           "size", "error"}  # fmt: skip

IN_NAME = ("dataset", "model")  # already in the run's name
MOST_KEYS = 5  # columns that were not asked for


def main(arguments: list[str]) -> None:
    """Run the command. Raises UserError for an invalid filter or key."""
    options = _parse(arguments)
    runs = in_order(select(options.filters, options.outputs, options.all), options.sort)
    if options.format == "json":
        say(json.dumps([{**run.row, "folder": str(run.folder)} for run in runs], indent=2))
    elif options.format == "csv":
        say(as_csv([run.row for run in runs]).rstrip("\n"))
    elif runs:
        asked = [*(each.key for each in conditions(options.filters)), options.sort.lstrip("-")]
        varied = _varied_keys(runs)
        keys = dict.fromkeys([*asked, *_own_metrics(runs), *varied[:MOST_KEYS]])
        columns = [key for key in keys if key not in IN_HEAD]
        rows = [_cells(run, columns) for run in runs]
        lines = aligned(columns_of([*HEAD, *columns], rows), width=None)
        say("\n".join(_with_errors(lines, [run.row["error"] for run in runs])))
        say(_summary(runs))
        if more := [key for key in varied if key not in columns]:
            say(f"more varying keys: {', '.join(more)} (in --format csv)")
    else:
        say(f"no {'such ' if options.filters else ''}run in {options.outputs / 'runs'}")


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = Parser(
        prog="tinylab list",
        description="List the runs in an outputs folder: finished, running, stopped and failed.",
        epilog=FILTERS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "filters",
        nargs="*",
        metavar="FILTER",
        help="an outputs folder, or runs or sweeps to list (default: all)",
    )
    parser.add_argument(
        "--sort",
        default="when",
        metavar="KEY",
        help="key to sort by; -KEY sorts in descending order",
    )
    parser.add_argument(
        "--format",
        choices=("table", "csv", "json"),
        default="table",
        help="output format (default: table)",
    )
    parser.add_argument("--all", action="store_true", help="include old runs that were set aside")
    parser.add_outputs()
    if "--sort" in arguments[:-1]:  # argparse would treat -KEY as a flag
        index = arguments.index("--sort")
        arguments[index : index + 2] = [f"--sort={arguments[index + 1]}"]
    options = parser.parse_args(arguments)
    for word in [each for each in options.filters if (Path(each) / "runs").is_dir()]:
        options.outputs = Path(word)
        options.filters.remove(word)
    return options


def _own_metrics(runs: Sequence[Run]) -> list[str]:
    """Return columns for the user's own test metrics, if any run has a value."""
    own = [name for name, metric in METRICS.items()
           if metric.is_own and metric.path[0] == "test"]  # fmt: skip
    return [name for name in own if any(run.row.get(name) is not None for run in runs)]


def _varied_keys(runs: Sequence[Run]) -> list[str]:
    """Return the config keys that differ between the runs, including those of user code."""
    omitted = {*IN_HEAD, *METRICS, *OTHERS, *without_effect()}
    known = [run.row for run in runs if "model" in run.row]  # those whose config can be read
    rows = [{k: v for k, v in row.items() if k not in omitted} for row in known]
    keys = dict.fromkeys(key for row in rows for key in row)
    return [key for key in keys if key not in IN_NAME and distinguishes(key, rows)]


def _cells(run: Run, columns: Sequence[str]) -> list[str]:
    row = run.row
    test = row["test_accuracy"]
    return [
        row["run"],
        row["state"],
        row["when"][:16],  # to the minute
        f"{row['epochs'] or 0}/{row.get('train.epochs', '?')}",
        "-" if row["val_accuracy"] is None else f"{row['val_accuracy']:.2%}",
        "-" if test is None else f"{test:.2%} ({between(row['test_low'], row['test_high'])})",
        "-" if row["train_seconds"] is None else f"{row['train_seconds']:.1f}",
        in_bytes(row["size"]),
        *(_shown(key, row[key]) if key in row else "" for key in columns),
    ]


def _with_errors(lines: Sequence[str], errors: Sequence[str | None]) -> list[str]:
    """Append the first line of each run's error to its row, as far as it fits on the screen."""
    indent = max(map(len, lines)) + 2
    room = max(shutil.get_terminal_size((WIDTH, 0)).columns - indent, LEAST)
    firsts = ["", *((error or "").partition("\n")[0] for error in errors)]
    return [
        f"{line:{indent}}{fitted(first, room)}".rstrip()
        for line, first in zip(lines, firsts, strict=True)
    ]


def _shown(key: str, value: Any) -> str:
    metric = METRICS.get(key)
    if metric is None or not metric.is_own:
        return shown(value)
    return "-" if value is None else metric.format.format(value)


def _summary(runs: Sequence[Run]) -> str:
    counts = Counter(run.row["state"] for run in runs)
    states = ", ".join(f"{count} {state}" for state, count in counts.most_common())
    return f"{states}; {in_bytes(sum(run.row['size'] for run in runs))}"
