"""``tinylab inspect``: find problems in the data of finished runs."""

import argparse
from pathlib import Path

from tinylab.commands.parser import Parser
from tinylab.commands.report import folder_of
from tinylab.config.options import without_code
from tinylab.evaluate import inspection_page
from tinylab.evaluate.inspection import inspect
from tinylab.store.sweep import SweepFolder
from tinylab.ui.console import say

EPILOG = """\
Covers the images that some run has tested; in a cross-validation these are all images.

examples:
  tinylab train -m split.folds=5 split.fold=0,1,2,3,4 name=cv
  tinylab inspect outputs/sweeps/cv          inspect.html and inspect.csv in that folder"""


def main(arguments: list[str]) -> None:
    """Run the command. Raises UserError if the runs or their data cannot be read."""
    parser = Parser(
        prog="tinylab inspect",
        description="Find likely label errors, duplicates, outliers and overlapping classes.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "path", type=Path, nargs="+", help="folder of a cross-validation, or of its runs"
    )
    parser.add_argument(
        "--out", type=Path, help="page to write (default: inspect.html in the given folder)"
    )
    options = parser.parse_args(without_code(arguments))
    found = inspect(options.path)
    page = options.out or SweepFolder(folder_of(options.path)).inspection_file
    table = page.with_suffix(".csv")
    inspection_page.write(found, page, table, options.path)
    for line in inspection_page.summary(found):
        say(line)
    say(f"files   {page} and {table.name}")
