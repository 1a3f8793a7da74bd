"""``tinylab remove``: delete runs, sweeps, evaluations, old versions of runs, or cached images.

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
from tinylab.store import lock
from tinylab.store.folder import EvaluationFolder, named
from tinylab.store.query import Condition, conditions, is_condition, select
from tinylab.store.run import Run, bytes_in
from tinylab.store.sweep import SweepFolder, foreign_in, sweeps_in
from tinylab.ui.console import in_bytes, say
from tinylab.ui.tables import aligned, columns_of

MOST_SWEEPS = 5  # named in a line
EXAMPLES = """\
Takes the filters of tinylab list. Shows the matching runs and asks before it removes anything.
A run that is being trained is never removed.

  tinylab remove outputs/runs/digits-mlp-50c8b14197
  tinylab remove outputs/sweeps/SWEEP    with its runs, if no other sweep has them
  tinylab remove state=failed 'val_accuracy<0.5'
  tinylab remove --set-aside             old runs that were kept under a dated name
  tinylab remove --cache                 cached images; the next run decodes them again"""


def main(arguments: list[str]) -> None:
    """Run the command. Raises UserError if anything could not be removed."""
    options = _parse(arguments)
    if not (options.filters or options.set_aside or options.cache):
        raise UserError("tinylab remove: expected filters or runs (all of them: '*'), or --cache")
    if options.filters or options.set_aside:
        chosen = _chosen(options)
        _remove_runs(chosen, _shared(chosen, options.filters), options)
    if options.cache:
        _remove_caches(cache.kept(), options.yes)


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = Parser(
        prog="tinylab remove",
        description="Delete runs after showing them and asking.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("filters", nargs="*", metavar="FILTER", help="runs, sweeps, evaluations")
    parser.add_argument(
        "--set-aside", action="store_true", help="only old runs kept under a dated name"
    )
    parser.add_argument("--cache", action="store_true", help="the cached images of all datasets")
    parser.add_argument("--yes", action="store_true", help="do not ask")
    parser.add_outputs()
    return parser.parse_args(arguments)


def _chosen(options: argparse.Namespace) -> list[Run]:
    words = options.filters
    if _whole(options):
        words = [word for word in words if _runs_of(Path(word)) != set()]
    if options.filters and not words:
        return []
    chosen = select(words, options.outputs, options.set_aside)
    chosen = [run for run in chosen if run.is_archived or not options.set_aside]
    if not chosen:
        raise UserError(f"no such run in {options.outputs / 'runs'}: nothing removed")
    for run in chosen:
        if run.folder.is_symlink():
            raise UserError(f"{run.folder}: a symbolic link; remove it by hand")
    return chosen


def _whole(options: argparse.Namespace) -> bool:
    """Whether the folders of sweeps and evaluations are to be removed, and not a choice of runs."""
    return not options.set_aside and not conditions(options.filters)


def _runs_of(folder: Path) -> set[Path] | None:
    """Return the runs of a sweep that are there, no runs for an evaluation; None for another."""
    sweep = SweepFolder(folder)
    if EvaluationFolder(folder).report_file.is_file():
        return set()
    paths = map(sweep.run_path, sweep.jobs() or {})
    return {run.resolve() for run in paths if run.is_dir()} if sweep.is_sweep() else None


def _emptied(words: Sequence[str], gone: Collection[Path]) -> list[Path]:
    """Return the named evaluations, and the named sweeps that lose all runs; say what is kept.

    ``gone``: the runs that are deleted, or left to other sweeps.
    """
    folders = []
    for path in {named(Path(word)): None for word in words}:
        runs = _runs_of(path)
        if runs is None:
            continue
        if left := runs - {run.resolve() for run in gone}:
            say(f"{path} is kept, with {len(left):,} of its runs")
        elif path.is_symlink():
            say(f"{path} is kept: a symbolic link; remove it by hand")
        elif others := foreign_in(path):
            say(f"{path} is kept, with files that are not tinylab's: {', '.join(others)}")
        else:
            folders.append(path)
    return folders


def _shared(chosen: Sequence[Run], words: Sequence[str]) -> set[Path]:
    """Return the runs of a named sweep that others list too, unless they are named themselves.

    A sweep is named by its folder or by ``name=``. Says which runs are kept, and which of the
    others are in sweeps.
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
    gone = {run.folder for run in shared} - kept
    _say_where("run to remove is part of", "runs to remove are part of", gone, others)
    return kept


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


def _remove_runs(
    chosen: Sequence[Run], shared: Collection[Path], options: argparse.Namespace
) -> None:
    own = [run for run in chosen if run.folder not in shared]
    busy = [run.row["run"] for run in own if run.row["state"] == "running"]
    to_delete = [run for run in own if run.row["run"] not in busy]
    gone = {*shared, *(run.folder for run in to_delete)}
    folders = _emptied(options.filters, gone) if _whole(options) else []
    if to_delete or folders:
        listed = [(run.row["run"], run.row["state"], run.row["size"]) for run in to_delete]
        listed += [(str(folder), "folder", bytes_in(folder)) for folder in folders]
        _ask(listed, {"run": len(to_delete), "folder": len(folders)}, options.yes)
        _delete(folders, "in use")
        _delete([run.folder for run in to_delete], "being trained")
    if busy:
        raise UserError(f"not removed, since they are being trained: {', '.join(busy)}")
    if not (to_delete or folders):
        raise UserError("nothing removed")


def _delete(folders: Sequence[Path], busy: str) -> None:
    try:
        for folder in folders:
            _hide(folder, busy)
    finally:
        for parent in {folder.parent for folder in folders}:
            _delete_hidden(parent)


def _hide(folder: Path, busy: str) -> None:
    """Hide a folder at once. Raises UserError if its training has started meanwhile."""
    hidden = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.removed")
    # The lock file stays: without it, a waiting process and a new one could both acquire the lock.
    with lock.sole_writer(folder, wait=False, busy=busy):
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
    _ask(
        [(file.name, _age(file), file.stat().st_size) for file in files],
        {"cached dataset": len(files)},
        yes,
    )
    for file in files:
        file.unlink(missing_ok=True)


def _age(file: Path) -> str:
    return f"{(time.time() - file.stat().st_mtime) / 86400:.1f} days old"


def _ask(listed: Sequence[tuple[str, str, int]], counts: dict[str, int], yes: bool) -> None:
    """Show names, states and sizes. Raises UserError unless the user confirms the removal."""
    rows = [(name, state, in_bytes(size)) for name, state, size in listed]
    say("\n".join(aligned(columns_of(("", "", ""), rows), width=None)))
    total = in_bytes(sum(size for _, _, size in listed))
    these = " and ".join(
        f"this {what}" if count == 1 else f"these {count:,} {what}s"
        for what, count in counts.items()
        if count
    )
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
