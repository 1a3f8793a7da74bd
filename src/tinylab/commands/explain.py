"""``tinylab explain``: Grad-CAM and similar training images for a finished run."""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tinylab import data
from tinylab.commands.parser import Parser
from tinylab.config.options import without_code
from tinylab.errors import UserError
from tinylab.inference import Trained, load_ensemble, the_run
from tinylab.predict import explain_page, pictures
from tinylab.predict.explain_page import Asked
from tinylab.predict.gather import gather
from tinylab.reporting import mistakes
from tinylab.store.run import Run
from tinylab.training.metrics import worst_mistakes
from tinylab.ui.console import say

MOST = 24  # images on the page
EPILOG = """\
examples:
  tinylab explain outputs/runs/RUN scan.png    explain.html in the run's folder
  tinylab explain outputs/runs/RUN             the worst mistakes on its test set"""


def main(arguments: list[str]) -> None:
    """Run the command. Raises UserError for errors that the user can fix."""
    options = _parser().parse_args(without_code(arguments))
    run = the_run(options.run)
    trained = load_ensemble([run], options.device, calibrated=True).first
    asked = _files(trained, options) if options.path else _mistakes(trained, run)
    out = options.out or run.files.explanation_file
    words = ["tinylab", "explain", *arguments]
    for missing in explain_page.write(out, trained, asked, words):
        say(missing)
    say(f"files   {out}")


def _parser() -> Parser:
    parser = Parser(
        prog="tinylab explain",
        description="Explain predictions: Grad-CAM heat maps, the training images with the nearest "
        "features, and the filters of the first layer.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("run", type=Path, help="folder of a run or sweep")
    parser.add_argument(
        "path",
        nargs="*",
        help="image files, folders or globs (default: its worst mistakes on the test set)",
    )
    parser.add_argument(
        "--out", type=Path, help="page to write (default: explain.html in the run's folder)"
    )
    parser.add_argument(
        "--invert", choices=("auto", "yes", "no"), default="auto", help="as in tinylab predict"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N, mps")
    return parser


def _files(trained: Trained, options: argparse.Namespace) -> list[Asked]:
    read = pictures.reader(trained.config.dataset, options.invert, trained.image_shape)
    files: Sequence[str] = gather(options.path)
    if not files:
        raise UserError(f"{' '.join(options.path)}: no image files to explain")
    if len(files) > MOST:
        say(f"showing the first {MOST} of {len(files):,} images")
    try:
        return [Asked(read(Path(file)).pixels, Path(file).name) for file in files[:MOST]]
    except OSError as error:
        raise UserError(f"image cannot be read: {error.strerror or error}") from error


def _mistakes(trained: Trained, run: Run) -> list[Asked]:
    """Return the misclassified test images with the highest probability, from the run's data."""
    found = mistakes.read(run)
    wrong = worst_mistakes(found.label, found.predicted, found.belief)[:MOST]
    decoded = data.load_present(trained.config.dataset)
    if decoded.fingerprint != run.result.dataset.fingerprint:
        raise UserError(f"{run.name}: its data has changed since\n  pass image files instead")
    if len(wrong) == 0:
        raise UserError(f"{run.name}: no test image is misclassified; pass image files instead")
    images = decoded.images
    names = [f"test image {found.index[n]}" for n in wrong]
    if found.path is not None:
        names = [str(name) for name in np.asarray(found.path)[wrong]]
    return [
        Asked(images.images[found.index[n]], name, found.classes[found.label[n]])
        for n, name in zip(wrong, names, strict=True)
    ]
