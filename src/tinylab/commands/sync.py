"""``tinylab sync``: send finished runs to a tracking service."""

import argparse
from pathlib import Path

from tinylab.commands.parser import Parser
from tinylab.config.metrics import METRICS
from tinylab.errors import UserError
from tinylab.store.collect import collect
from tinylab.store.run import Run
from tinylab.ui import mirrors
from tinylab.ui.console import say
from tinylab.ui.mirrors import Mirror


def main(arguments: list[str]) -> None:
    """Run the command. Raises UserError if a run could not be sent."""
    parser = Parser(
        prog="tinylab sync",
        description="Send finished runs to a tracking service: config, curves, final metrics, "
        "figures. tracker=mlflow or tracker=wandb sends a run during training.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="example:\n  tinylab sync outputs --to mlflow",
    )
    parser.add_argument(
        "path", type=Path, nargs="+", help="folder of a run, of a sweep, or of several of them"
    )
    parser.add_argument(
        "--to",
        choices=mirrors.SERVICES,
        default="mlflow",
        help="tracking service (default: mlflow)",
    )
    options = parser.parse_args(arguments)
    mirrors.require(options.to, f"--to {options.to}")
    runs, _ = collect(options.path)
    if not runs:
        raise UserError(f"no finished run in {', '.join(map(str, options.path))}")
    sent = sum(_send(run, options.to) for run in runs)
    say(f"{sent} of {len(runs)} runs sent to {mirrors.SERVICES[options.to]}")
    if sent < len(runs):
        raise UserError(f"{len(runs) - sent} of {len(runs)} runs could not be sent")


def _send(run: Run, service: str) -> bool:
    """Send a run; returns whether all of it has arrived."""
    mirror = Mirror(service, run.name, run.values)
    history = run.files.history()
    for row in history:
        mirror.log(row)
    finals = {each.tag: run.metric(name) for name, each in METRICS.items() if each.tag}
    step = history[-1]["step"] if history else 0
    mirror.finish(finals, step, [run.files.curves_file, run.files.confusion_file])
    return mirror.is_whole
