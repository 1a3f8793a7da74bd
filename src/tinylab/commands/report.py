"""``tinylab report``: write one HTML page on finished runs, or the model card of one."""

import argparse
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
  tinylab report outputs --out all.html      every finished run
  tinylab report outputs/runs/RUN --card     MODEL_CARD.md in that folder"""


def main(arguments: list[str]) -> None:
    """Run the command. Raises UserError where no finished run is found."""
    parser = Parser(
        prog="tinylab report",
        description="Write one HTML page on finished runs: tables, verdicts, figures. It needs "
        "neither network nor server.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "path", type=Path, nargs="+", help="the folder of a run, of a sweep, or of many of them"
    )
    parser.add_argument(
        "--out", type=Path, help="the file to write (default: report.html in the one folder given)"
    )
    parser.add_argument(
        "--card", action="store_true", help="write MODEL_CARD.md of the one run instead"
    )
    options = parser.parse_args(arguments)
    if options.card:
        _write_card(options.path, options.out)
        return
    out = options.out or place(options.path)
    report.write(options.path, out)
    say(f"report  {out}")


def _write_card(paths: Sequence[Path], out: Path | None) -> None:
    if len(paths) > 1:
        raise UserError(f"--card: expected the folder of one run, not {len(paths)} paths")
    out = out or RunFolder(paths[0]).card_file
    report.write_card(paths[0], out)
    say(f"card    {out}")


def place(paths: Sequence[Path]) -> Path:
    """Beside the one run or sweep, else in this folder."""
    [first, *others] = paths
    is_one = SweepFolder(first).is_sweep() or RunFolder(first).result_file.is_file()
    return SweepFolder(first if is_one and not others else Path()).report_file
