"""``tinylab remove``: delete runs, those that were set aside, or decoded images that are kept.

A run is first renamed to a hidden name, under its lock, and then deleted: a crash leaves runs that
are whole or gone, and the next removal in the same folder deletes what is hidden.
"""

import argparse
import secrets
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tinylab.commands.parser import Parser
from tinylab.data import cache
from tinylab.errors import UserError
from tinylab.store.query import select
from tinylab.store.run import Run
from tinylab.system.project import default_outputs
from tinylab.ui.console import in_bytes, say
from tinylab.ui.tables import aligned, columns_of

EXAMPLES = """\
The filters are those of tinylab list. What matches is shown, and nothing is removed before you
have said yes. A run that is being trained is left alone.

  tinylab remove outputs/runs/digits-mlp-50c8b14197
  tinylab remove state=failed 'val_accuracy<0.5'
  tinylab remove --set-aside        old runs that were kept under a dated name
  tinylab remove --cache            decoded images; the next start decodes them again"""


def main(arguments: list[str]) -> None:
    """Run the command. Raises UserError where not all that was asked for is gone."""
    options = _parse(arguments)
    if not (options.filters or options.set_aside or options.cache):
        raise UserError("tinylab remove: expected filters or runs (all of them: '*'), or --cache")
    if options.filters or options.set_aside:
        _remove_runs(_chosen(options), options.yes)
    if options.cache:
        _remove_caches(cache.kept(), options.yes)


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = Parser(
        prog="tinylab remove",
        description="Delete runs, after showing them and asking.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("filters", nargs="*", metavar="FILTER", help="which runs")
    parser.add_argument("--set-aside", action="store_true", help="only those under a dated name")
    parser.add_argument("--cache", action="store_true", help="the decoded images of all datasets")
    parser.add_argument("--yes", action="store_true", help="do not ask")
    parser.add_argument(
        "--outputs",
        type=Path,
        default=default_outputs(),
        metavar="FOLDER",
        help="default: outputs, or the project's",
    )
    return parser.parse_args(arguments)


def _chosen(options: argparse.Namespace) -> list[Run]:
    chosen = select(options.filters, options.outputs, options.set_aside)
    chosen = [run for run in chosen if run.is_archived or not options.set_aside]
    if not chosen:
        raise UserError(f"no such run in {options.outputs / 'runs'}: nothing removed")
    for run in chosen:
        if run.folder.is_symlink():
            raise UserError(f"{run.folder}: a link, which may be others' too; remove it by hand")
    return chosen


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
        raise UserError(f"being trained, and left alone: {', '.join(busy)}")


def _hide(run: Run) -> None:
    """Make a run unseen at once. Raises UserError where it has begun to be trained meanwhile."""
    folder = run.folder
    hidden = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.removed")
    # Its lock's own file stays: without it, who waits for it and who comes new would both get it.
    with run.files.sole_writer(wait=False):
        try:
            folder.rename(hidden)
        except OSError as error:
            raise UserError(f"{folder}: cannot be removed: {error.strerror}") from error


def _delete_hidden(folder: Path) -> None:
    """Delete what was hidden in ``folder``, by an earlier removal that was killed too."""
    for hidden in folder.glob(".*.removed"):
        shutil.rmtree(hidden, ignore_errors=True)
        if hidden.exists():
            raise UserError(f"{hidden}: cannot be deleted whole; delete the rest by hand")


def _remove_caches(files: Sequence[Path], yes: bool) -> None:
    if not files:
        raise UserError("no decoded images are kept: nothing removed")
    _ask([(file.name, _age(file), file.stat().st_size) for file in files], "decoded dataset", yes)
    for file in files:
        file.unlink(missing_ok=True)


def _age(file: Path) -> str:
    return f"{(time.time() - file.stat().st_mtime) / 86400:.1f} days old"


def _ask(listed: Sequence[tuple[str, str, int]], what: str, yes: bool) -> None:
    """Show names, states and sizes. Raises UserError unless the user agrees to their removal."""
    rows = [(name, state, in_bytes(size)) for name, state, size in listed]
    say("\n".join(aligned(columns_of(("", "", ""), rows), width=None)))
    total = in_bytes(sum(size for _, _, size in listed))
    these = f"this {what}" if len(listed) == 1 else f"these {len(listed):,} {what}s"
    if yes:
        say(f"removing {these} ({total})")
    elif not sys.stdin.isatty():
        raise UserError("no terminal to ask on: nothing removed; --yes removes without asking")
    elif _answer(f"remove {these} ({total})? [y/N] ") not in ("y", "yes"):
        raise UserError("nothing removed")


def _answer(question: str) -> str:
    try:
        return input(question).strip().lower()
    except EOFError:
        return ""
