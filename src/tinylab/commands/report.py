"""``tinylab report``: write an HTML report, once or continuously, or a model card."""

import argparse
import contextlib
import time
from collections.abc import Sequence
from pathlib import Path

from tinylab import reporting as report
from tinylab.commands.parser import Parser
from tinylab.errors import UserError
from tinylab.store.folder import RunFolder
from tinylab.store.sweep import SweepFolder
from tinylab.ui.console import say

EXAMPLES = """\
examples:
  tinylab report outputs/sweeps/SWEEP        report.html in that folder
  tinylab report outputs/sweeps/SWEEP --watch   keep it up to date while the sweep runs
  tinylab report outputs --out all.html      every finished run
  tinylab report outputs/runs/RUN --card     MODEL_CARD.md in that folder"""


def main(arguments: list[str]) -> None:
    """Run the command. Raises UserError if no finished run is found."""
    parser = Parser(
        prog="tinylab report",
        description="Write an HTML report of finished runs: tables, tests, figures. The page works "
        "offline, without a server.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "path", type=Path, nargs="+", help="folder of a run, of a sweep, or of several of them"
    )
    parser.add_argument(
        "--out",
        type=Path,
        help="file to write (default: report.html in the folder of one run or sweep, else here)",
    )
    parser.add_argument(
        "--card", action="store_true", help="write MODEL_CARD.md of a single run instead"
    )
    parser.add_argument(
        "--watch", action="store_true", help="rewrite the page whenever a job of the sweep ends"
    )
    options = parser.parse_args(arguments)
    if options.watch:
        _watch(options.path, options.out, options.card)
        return
    if options.card:
        _write_card(options.path, options.out)
        return
    out = options.out or default_path(options.path)
    write(options.path, out)
    say(f"report  {out}")


def write(paths: Sequence[Path], out: Path) -> None:
    """Write the page, for a single run with what explains its mistakes. Raises UserError."""
    explanation = None
    if len(paths) == 1 and RunFolder(paths[0]).is_run():
        from tinylab.predict import explain_page  # and with it torch

        explanation = explain_page.of_single_run(paths[0])
    report.write(paths, out, explanation=explanation)


def _watch(paths: Sequence[Path], out: Path | None, card: bool) -> None:
    """Update the page of a sweep until the sweep has ended, or Ctrl-C."""
    sweep = SweepFolder(paths[0])
    if card or len(paths) > 1 or not sweep.is_sweep():
        raise UserError("--watch: expected the folder of one sweep, such as outputs/sweeps/SWEEP")
    out = out or sweep.report_file
    say(f"report  {out} (until the sweep has ended, or Ctrl-C)")
    with contextlib.suppress(KeyboardInterrupt):
        for seconds in report.updates(sweep, out):
            time.sleep(seconds)
    report.write(paths, out)
    say("the sweep has ended" if sweep.ended_jobs() is None else "stopped; the sweep keeps running")


def _write_card(paths: Sequence[Path], out: Path | None) -> None:
    if len(paths) > 1:
        raise UserError(f"--card: expected one run folder, not {len(paths)} paths")
    out = out or RunFolder(paths[0]).card_file
    report.write_card(paths[0], out)
    say(f"card    {out}")


def default_path(paths: Sequence[Path]) -> Path:
    """Return report.html next to the single run or sweep, otherwise in the working folder."""
    return SweepFolder(folder_of(paths)).report_file


def folder_of(paths: Sequence[Path]) -> Path:
    """Return the single run or sweep, otherwise the working folder."""
    [first, *others] = paths
    is_one = SweepFolder(first).is_sweep() or RunFolder(first).result_file.is_file()
    return first if is_one and not others else Path()
