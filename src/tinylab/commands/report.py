"""``tinylab report``: write one HTML page on finished runs."""

from collections.abc import Sequence
from pathlib import Path

from tinylab import report
from tinylab.commands.parser import Parser
from tinylab.console import say


def main(arguments: list[str]) -> None:
    """Run the command. Raises UserError where no finished run is found."""
    parser = Parser(
        prog="tinylab report",
        description="Write one HTML page on finished runs: tables, verdicts, figures. It needs "
        "neither network nor server.",
        epilog="example: tinylab report outputs/sweeps/digits-0f3c5d1e2a",
    )
    parser.add_argument(
        "path", type=Path, nargs="+", help="the folder of a run, of a sweep, or of many of them"
    )
    parser.add_argument(
        "--out", type=Path, help="the file to write (default: report.html in the one folder given)"
    )
    options = parser.parse_args(arguments)
    out = options.out or _place(options.path)
    report.write(options.path, out)
    say(f"report  {out}")


def _place(paths: Sequence[Path]) -> Path:
    """``report.html`` beside the one run or sweep, else in this folder."""
    [first, *others] = paths
    is_one = any((first / name).is_file() for name in ("sweep.json", "result.json"))
    return (first if is_one and not others else Path()) / "report.html"
