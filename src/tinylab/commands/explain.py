"""``tinylab explain``: Grad-CAM and similar training images for a finished run."""

import argparse
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path

from tinylab.commands.parser import Parser
from tinylab.config.options import without_code
from tinylab.data.cache import Decoded
from tinylab.errors import UserError
from tinylab.inference import Trained, load_ensemble, the_run
from tinylab.predict import explain, explain_page, pictures, projector
from tinylab.predict.explain_page import Asked
from tinylab.predict.gather import gather
from tinylab.predict.pictures import Picture
from tinylab.store.run import Run
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
    decoded, absent = _present(trained)
    asked = _files(trained, options) if options.path else _mistakes(run, decoded, absent)
    out = options.out or run.files.explanation_file
    projected = explain_page.write(out, trained, asked, decoded, ["tinylab", "explain", *arguments])
    if absent:
        say(f"no training images: {absent}")
    say(f"files   {out}")
    if options.projector:
        if decoded is None or projected is None:
            raise UserError(f"--projector: no test images to show: {absent or 'there are too few'}")
        projector.write(run.files, decoded, projected)
        say(f"curves  tensorboard --logdir {shlex.quote(str(run.files.path))}, tab Projector")


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
    parser.add_argument(
        "--projector",
        action="store_true",
        help="write the features of the test images to the run's folder, for TensorBoard's "
        "projector",
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
    return [_file(read, Path(file)) for file in files[:MOST]]


def _file(read: Callable[[Path], Picture], path: Path) -> Asked:
    try:
        return Asked(read(path).pixels, path.name)
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read: {error.strerror or error}\n  expected image files or folders"
        ) from error


def _present(trained: Trained) -> tuple[Decoded | None, str]:
    """A run's own data, or why it is not here as it was."""
    try:
        return explain.present(trained), ""
    except UserError as error:
        return None, str(error).partition("\n")[0]


def _mistakes(run: Run, decoded: Decoded | None, absent: str) -> list[Asked]:
    """Return the misclassified test images with the highest probability, from the run's data."""
    if decoded is None:
        raise UserError(f"{absent}\n  pass image files instead")
    asked = explain_page.worst(run, decoded, MOST)
    if not asked:
        raise UserError(f"{run.name}: no test image is misclassified; pass image files instead")
    return asked
