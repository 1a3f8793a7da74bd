"""``tinylab inspect``: what finished runs, or a new cross-validation, reveal about the data."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from tinylab.commands.parser import Parser
from tinylab.commands.report import folder_of
from tinylab.commands.train_job import job
from tinylab.config.compose import compose_plain, run_hydra
from tinylab.config.options import without_code
from tinylab.config.overrides import checked, parse
from tinylab.config.user_code import is_key
from tinylab.errors import UserError
from tinylab.evaluate import inspection_page
from tinylab.evaluate.inspection import inspect
from tinylab.store.sweep import SweepFolder, made_by
from tinylab.ui.console import say

EPILOG = """\
Covers the images that some run has tested; in a cross-validation these are all images.

examples:
  tinylab inspect outputs/sweeps/cv          inspect.html and inspect.csv in that folder
  tinylab inspect dataset=folder dataset.root=photos     trains 5 folds first
  tinylab inspect dataset=mnist model=mlp split.folds=3"""


def main(arguments: list[str]) -> None:
    """Run the command.

    Raises UserError where the runs or their data cannot be read, or the keys are wrong.
    """
    parser = Parser(
        prog="tinylab inspect",
        description="Find likely label errors, duplicates, outliers and overlapping classes.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "path",
        nargs="+",
        help="folder of a cross-validation, or of its runs; or KEY=VALUE as for train, which "
        "trains a cross-validation first",
    )
    parser.add_argument(
        "--out", type=Path, help="page to write (default: inspect.html in the given folder)"
    )
    options = parser.parse_intermixed_args(without_code(arguments))
    keys = [word for word in options.path if "=" in word and not Path(word).is_dir()]
    paths = [Path(word) for word in options.path if word not in keys]
    if keys and paths:
        raise UserError(
            f"{paths[0]} and {keys[0]}: expected folders of finished runs, or config keys of a "
            "cross-validation to train, not both"
        )
    if keys:
        paths = [_cross_validation([*keys, *filter(is_key, arguments)])]
    inspection = inspect(paths)
    page = options.out or SweepFolder(folder_of(paths)).inspection_file
    table = page.with_suffix(".csv")
    inspection_page.write(inspection, page, table, paths)
    for line in inspection_page.summary(inspection):
        say(line)
    say(f"files   {page} and {table.name}")
    say(f"next    look at the page; {inspection_page.NEXT}")


def _cross_validation(overrides: Sequence[str]) -> Path:
    """The folder of the cross-validation of a config, of which what is missing is trained.

    Folds that are not asked for are those of split=crossval. Raises UserError as a sweep does.
    """
    config = compose_plain(_plain(overrides))
    added = []
    if config.split.folds is None:
        added = ["split=crossval"]
        config = compose_plain([*_plain(overrides), *added])
    if not any(word.startswith("split.fold=") for word in overrides):
        added.append(f"split.fold={','.join(map(str, range(config.split.folds or 0)))}")
    arguments = checked(["-m", *overrides, *added])
    run_hydra(job, arguments)
    return made_by(Path(config.outputs).expanduser(), arguments[1:])


def _plain(overrides: Sequence[str]) -> list[str]:
    """Those that have one value."""
    return [each for each in overrides if not parse(each).is_sweep_override()]
