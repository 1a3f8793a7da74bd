"""``tinylab export``: export a trained network, checked against the original."""

import argparse
from pathlib import Path

from tinylab import data
from tinylab.commands.parser import Parser
from tinylab.config.options import without_code
from tinylab.export.check import compare, refuse_difference
from tinylab.export.formats import FORMATS, require
from tinylab.export.network import deployed, metadata
from tinylab.inference import load_ensemble, the_run
from tinylab.system.files import NAMED, atomic_path
from tinylab.ui.console import say

EPILOG = """\
The exported network takes a batch of uint8 images (batch, channels, height, width) and returns
logits; it includes normalization. Class names, accuracy and run id are in the metadata.

examples:
  tinylab export outputs/runs/RUN                                 RUN.onnx, for ONNX Runtime
  tinylab export outputs/runs/RUN --to torch_export --out net.pt2  for torch.export.load
  tinylab export outputs/runs/RUN --to state_dict                 weights, for torch.load"""


def main(arguments: list[str]) -> None:
    """Run the command. If it raises UserError, no file is left."""
    options = _parser().parse_args(without_code(arguments))
    require(options.to)
    trained = load_ensemble([the_run(options.run)], "cpu").first
    splits = data.load(trained.config.dataset, trained.config.split)
    chosen = FORMATS[options.to]
    path = options.out or Path(f"{trained.name}{chosen.suffix}")
    with atomic_path(path, NAMED) as temporary:
        chosen.write(deployed(trained), metadata(trained), temporary)
        images = splits.data.pixels[splits.split.test]
        agreement = compare(trained, chosen.open(temporary), images)
        refuse_difference(agreement, path)
    say(
        f"checked on {agreement.num:,} test images: {agreement.equal:,} equal predictions, largest "
        f"difference in a logit {agreement.difference:.2g} (tolerance {agreement.allowed:.2g})"
    )
    shape = ", ".join(map(str, trained.image_shape))
    say(f"input   images: uint8 (batch, {shape}), 0 to 255")
    say(f"output  logits: float32 (batch, {len(trained.classes)}); the classes are in the metadata")
    say(f"file    {path}")


def _parser() -> Parser:
    parser = Parser(
        prog="tinylab export",
        description="Export a finished run's network for other programs.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("run", type=Path, help="folder of a run, or of a sweep (its best run)")
    parser.add_argument("--to", choices=FORMATS, default="onnx", help="format (default: onnx)")
    parser.add_argument(
        "--out",
        type=Path,
        help="file to write (default: named after the run, in the current folder)",
    )
    return parser
