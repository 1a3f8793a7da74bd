"""``tinylab predict``: classify image files with finished runs."""

import argparse
import contextlib
import sys
from pathlib import Path

from tinylab.commands.parser import Parser
from tinylab.config.options import without_code
from tinylab.errors import UserError
from tinylab.predict.formats import FORMATS
from tinylab.ui.console import said_if_slow

EPILOG = """\
examples:
  tinylab predict outputs/runs/RUN scan.png photos/ 'more/*.jpg'
  tinylab predict outputs/sweeps/SWEEP scan.png         the sweep's best run by validation
  tinylab predict outputs/runs/RUN photos/ --reject 0.9  reject uncertain predictions
  tinylab predict outputs/runs/A outputs/runs/B x.png   probabilities averaged over both
  find . -name '*.png' | tinylab predict outputs/runs/RUN - --format csv > all.csv"""


def main(arguments: list[str]) -> None:
    """Run the command. Raises UserError after the last file if any could not be read."""
    options = _parser().parse_args(without_code(arguments))
    if not options.path:
        raise UserError("no image files given; expected tinylab predict RUN FILE ...")
    out = sys.stdout
    with contextlib.redirect_stdout(sys.stderr):  # only predictions are piped
        with said_if_slow("loading PyTorch ..."):  # which --help does not need
            from tinylab.commands.predict_job import predict
        predict(options, out)


def _parser() -> Parser:
    parser = Parser(
        prog="tinylab predict",
        description="Classify image files with a finished run, preprocessed as in training.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("run", type=Path, help="folder of a run or sweep; several form an ensemble")
    parser.add_argument(
        "path",
        nargs="*",
        help="image files, folders or globs; - reads a list of files from standard input",
    )
    parser.add_argument("--top", type=int, default=3, help="classes to show per file (default: 3)")
    parser.add_argument(
        "--format", choices=FORMATS, default="table", help="output format (default: table)"
    )
    parser.add_argument(
        "--reject",
        type=float,
        metavar="P",
        help="reject images whose highest probability is below P, to be labeled by a person",
    )
    parser.add_argument(
        "--sheet",
        type=Path,
        metavar="OUT.png",
        help="also save a picture of the preprocessed images with their predictions",
    )
    parser.add_argument(
        "--invert",
        choices=("auto", "yes", "no"),
        default="auto",
        help="for digits: dark ink on a light background; auto decides by the border",
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N, mps")
    return parser
