"""``tinylab remove``: delete runs, old versions of runs, or cached images.

A run is first renamed to a hidden name, under its lock, and then deleted: after a crash, a run is
either complete or gone, and the next removal deletes the hidden remains.
"""

import argparse
import os
import secrets
import shutil
import sys
import time
from collections.abc import Collection, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from tinylab.commands.parser import Parser
from tinylab.data import cache
from tinylab.errors import UserError
from tinylab.store.folder import named
from tinylab.store.query import Condition, conditions, is_condition, select
from tinylab.store.run import Run
from tinylab.store.sweep import SweepFolder, sweeps_in
from tinylab.ui.console import in_bytes, say
from tinylab.ui.tables import aligned, columns_of

MOST_SWEEPS = 5  # named in a line
EXAMPLES = """\
Takes the filters of tinylab list. Shows the matching runs and asks before it removes anything.
A run that is being trained is never removed.

  tinylab remove outputs/runs/digits-mlp-50c8b14197
  tinylab remove state=failed 'val_accuracy<0.5'
  tinylab remove --set-aside        old runs that were kept under a dated name
  tinylab remove --cache            cached images; the next run decodes them again"""


def main(arguments: list[str]) -> None:
    """Run the command. Raises UserError if anything could not be removed."""
    options = _parse(arguments)
    if not (options.filters or options.set_aside or options.cache):
        raise UserError("tinylab remove: expected filters or runs (all of them: '*'), or --cache")
    if options.filters or options.set_aside:
        _remove_runs(_unshared(_chosen(options), options.filters), options.yes)
        for sweep in options.filters:
            if SweepFolder(Path(sweep)).is_sweep():
                say(f"{sweep} keeps its tables and report: delete the folder if not needed")
    if options.cache:
        _remove_caches(cache.kept(), options.yes)


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = Parser(
        prog="tinylab remove",
        description="Delete runs after showing them and asking.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("filters", nargs="*", metavar="FILTER", help="runs to remove")
    parser.add_argument(
        "--set-aside", action="store_true", help="only old runs kept under a dated name"
    )
    parser.add_argument("--cache", action="store_true", help="the cached images of all datasets")
    parser.add_argument("--yes", action="store_true", help="do not ask")
    parser.add_outputs()
    return parser.parse_args(arguments)


def _chosen(options: argparse.Namespace) -> list[Run]:
    chosen = select(options.filters, options.outputs, options.set_aside)
    chosen = [run for run in chosen if run.is_archived or not options.set_aside]
    if not chosen:
        raise UserError(f"no such run in {options.outputs / 'runs'}: nothing removed")
    for run in chosen:
        if run.folder.is_symlink():
            raise UserError(f"{run.folder}: a symbolic link; remove it by hand")
    return chosen


def _unshared(chosen: Sequence[Run], words: Sequence[str]) -> list[Run]:
    """Leave out the runs of a named sweep that others list too, unless they are named themselves.

    A sweep is named by its folder or by ``name=``. Says which runs are kept, and which of the
    others are in sweeps. Raises UserError if none is left.
    """
    paths = [named(Path(word)) for word in words if not is_condition(word)]
    sweeps = [path for path in paths if SweepFolder(path).is_sweep()]
    names = [path.name for path in paths if path not in sweeps]
    labels = [condition for condition in conditions(words) if condition.key == "name"]
    others = _other_sweeps(chosen, sweeps, labels)
    shared = [run for run in chosen if run.folder in others]
    by_sweep = [run for run in shared if not any(fnmatchcase(run.name, name) for name in names)]
    kept = {run.folder for run in by_sweep if sweeps or labels}
    _say_where("run is kept: it is also in", "runs are kept: they are also in", kept, others)
    if len(kept) == len(chosen):
        raise UserError("nothing removed")
    gone = {run.folder for run in shared} - kept
    _say_where("run to remove is part of", "runs to remove are part of", gone, others)
    return [run for run in chosen if run.folder not in kept]


def _other_sweeps(
    chosen: Sequence[Run], sweeps: Sequence[Path], labels: Sequence[Condition]
) -> dict[Path, list[Path]]:
    """Return by run the sweeps that list it, without those named by a folder or a label."""
    others: dict[Path, list[Path]] = {}
    for runs in {run.folder.parent for run in chosen}:
        for sweep in sweeps_in(runs.parent):
            has_label = labels and all(each.holds({"name": sweep.path.name}) for each in labels)
            if not has_label and not any(map(sweep.path.samefile, sweeps)):
                for run_id in sweep.jobs() or {}:
                    others.setdefault(runs / run_id, []).append(sweep.path)
    return others


def _say_where(
    one: str, several: str, runs: Collection[Path], sweeps: dict[Path, list[Path]]
) -> None:
    paths = sorted({min(str(p), os.path.relpath(p), key=len) for run in runs for p in sweeps[run]})
    more = f" and {len(paths) - MOST_SWEEPS} more" if len(paths) > MOST_SWEEPS else ""
    if runs:
        words = one if len(runs) == 1 else several
        say(f"{len(runs):,} {words} {', '.join(paths[:MOST_SWEEPS])}{more}")


def _remove_runs(chosen: Sequence[Run], yes: bool) -> None:
    busy = [run.row["run"] for run in chosen if run.row["state"] == "running"]
    to_delete = [run for run in chosen if run.row["run"] not in busy]
    if to_delete:
        _ask([(run.row["run"], run.row["state"], run.row["size"]) for run in to_delete], "run", yes)
        try:
            for run in to_delete:
                _hide(run)
        finally:
            for folder in {run.folder.parent for run in to_delete}:
                _delete_hidden(folder)
    if busy:
        raise UserError(f"not removed, since they are being trained: {', '.join(busy)}")


def _hide(run: Run) -> None:
    """Hide a run at once. Raises UserError if its training has started meanwhile."""
    folder = run.folder
    hidden = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.removed")
    # The lock file stays: without it, a waiting process and a new one could both acquire the lock.
    with run.files.sole_writer(wait=False):
        try:
            folder.rename(hidden)
        except OSError as error:
            raise UserError(f"{folder}: cannot be removed: {error.strerror}") from error


def _delete_hidden(folder: Path) -> None:
    """Delete hidden remains in ``folder``, including those of an earlier, killed removal."""
    for hidden in folder.glob(".*.removed"):
        shutil.rmtree(hidden, ignore_errors=True)
        if hidden.exists():
            raise UserError(f"{hidden}: only partly deleted; delete the rest by hand")


def _remove_caches(files: Sequence[Path], yes: bool) -> None:
    if not files:
        raise UserError("no cached images: nothing removed")
    _ask([(file.name, _age(file), file.stat().st_size) for file in files], "cached dataset", yes)
    for file in files:
        file.unlink(missing_ok=True)


def _age(file: Path) -> str:
    return f"{(time.time() - file.stat().st_mtime) / 86400:.1f} days old"


def _ask(listed: Sequence[tuple[str, str, int]], what: str, yes: bool) -> None:
    """Show names, states and sizes. Raises UserError unless the user confirms the removal."""
    rows = [(name, state, in_bytes(size)) for name, state, size in listed]
    say("\n".join(aligned(columns_of(("", "", ""), rows), width=None)))
    total = in_bytes(sum(size for _, _, size in listed))
    these = f"this {what}" if len(listed) == 1 else f"these {len(listed):,} {what}s"
    if yes:
        say(f"removing {these} ({total})")
    elif not sys.stdin.isatty():
        raise UserError(
            "no terminal to ask on: nothing removed; use --yes to remove without asking"
        )
    elif _answer(f"remove {these} ({total})? [y/N] ") not in ("y", "yes"):
        raise UserError("nothing removed")


def _answer(question: str) -> str:
    try:
        return input(question).strip().lower()
    except EOFError:
        return ""
