"""``tinylab compare``: runs grouped by everything but their seeds, with intervals and verdicts."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from tinylab.commands.parser import Parser
from tinylab.comparison import formats, nested, show, tuning
from tinylab.comparison.comparison import compare
from tinylab.comparison.differences import differences
from tinylab.comparison.latex import as_latex
from tinylab.comparison.verdicts import TESTS
from tinylab.config.metrics import METRICS
from tinylab.config.values import did_you_mean
from tinylab.errors import UserError
from tinylab.store.collect import Skipped, collect
from tinylab.store.run import Run
from tinylab.ui.console import say
from tinylab.ui.tables import as_markdown, on_screen

DEFAULT_METRIC = "val_accuracy"
FORMATS = ("table", "markdown", "latex", "csv", "json")
LACKING = {"csv": {"effect"}, "latex": {"effect", "rope", "variance"}}
EXAMPLES = """\
examples:
  tinylab compare outputs                               all finished runs
  tinylab compare outputs/sweeps/NAME --format markdown
  tinylab compare outputs --group-by model.filters      all else in one pot
  tinylab compare outputs --pair model=mlp model=baseline
  tinylab compare outputs --rope 0.5 --effect augment.flip
  tinylab compare --diff outputs/runs/ONE outputs/runs/OTHER"""


def main(arguments: list[str]) -> None:
    """Run the command. Raises UserError for what the user can mend."""
    parser = _parser()
    options = parser.parse_args(arguments)
    _refuse_idle(parser, options)
    if options.diff is not None:
        for line in differences(*options.diff):
            say(line)
        return
    found, skipped = collect_finished(options.paths)
    refuse_unknown_metric("--metric ", options.metric)
    by = None if options.group_by is None else options.group_by.split(",")
    comparisons = compare(
        found, by, options.metric, options.pair, options.test, options.variance, options.rope,
        options.effect,
    )  # fmt: skip
    estimates = nested.of_sweeps(options.paths)
    curves = tuning.of_sweeps(options.paths)
    if options.format == "json":
        say(formats.as_json(comparisons, curves, estimates, skipped))
    elif options.format in ("csv", "latex"):
        say((formats.as_csv if options.format == "csv" else as_latex)(comparisons))
        for line in show.left_out(skipped):
            print(line, file=sys.stderr)
    else:
        is_narrow = options.format == "table"
        sections = show.sections(comparisons, skipped, is_narrow)
        sections = [*nested.sections(estimates), *sections, *tuning.sections(curves)]
        say("\n".join((on_screen if is_narrow else as_markdown)(sections)))


def refuse_unknown_metric(said: str, metric: str) -> None:
    """Raise UserError for a metric that settings cannot be ranked by; ``said`` stands before it.

    Metrics of the user's own are known once a result that has them was read.
    """
    known = [name for name in METRICS if METRICS[name].better and name != "test_accuracy"]
    if metric not in known:
        hint = did_you_mean(metric, known)
        raise UserError(f"{said}{metric}: expected one of {', '.join(known)}{hint}")


def collect_finished(paths: Sequence[str | Path]) -> tuple[list[Run], list[Skipped]]:
    """The finished runs that ``paths`` mean, and what was left out.

    Raises UserError where there is none.
    """
    found, skipped = collect(paths)
    if not found:
        reasons = "".join(f"\n  {line}" for line in show.left_out(skipped))
        raise UserError(f"no finished run in {', '.join(map(str, paths))}{reasons}")
    return found, skipped


def _refuse_idle(parser: Parser, options: argparse.Namespace) -> None:
    """Refuse options that would have no effect."""
    values = vars(options).items()
    given = {key for key, value in values if value and value != parser.get_default(key)}
    if "diff" in given and len(given) > 1:
        others = ", ".join(sorted(given - {"diff"}))
        raise UserError(f"--diff: compares two configs and nothing else; leave out {others}")
    if idle := given & LACKING.get(options.format, set()):
        flag = min(idle)
        raise UserError(
            f"--format {options.format}: has no room for --{flag}; json has, or a table"
        )
    if "diff" not in given and not options.paths:
        raise UserError("tinylab compare: expected a PATH, such as outputs")


def _parser() -> Parser:
    parser = Parser(
        prog="tinylab compare",
        description="Runs grouped by every config value but the seeds: means, intervals, verdicts.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("paths", nargs="*", metavar="PATH", help="folders of runs or sweeps, outputs, or globs")
    add("--format", choices=FORMATS, default="table", help="what to print (default table)")
    metric_help = "what settings are ranked by: of the test set it is shown, and validation's ranks"
    add("--metric", default=DEFAULT_METRIC, metavar="METRIC", help=metric_help)
    add("--group-by", metavar="KEY,KEY", help="the keys that make a setting (default: all)")
    pair_help = "judge these two, named by letter or values, not the best against all; repeatable"
    add("--pair", nargs=2, action="append", default=[], metavar=("A", "B"), help=pair_help)
    add("--test", choices=TESTS, default=TESTS[0], help="how repeated settings are judged")
    rope_help = "also: better, practically equal (up to so many points of accuracy), or unknown?"
    add("--rope", type=float, metavar="POINTS", help=rope_help)
    effect_help = "what this key does, over pairs of runs that are equal otherwise; repeatable"
    add("--effect", action="append", default=[], metavar="KEY", help=effect_help)
    add("--variance", action="store_true", help="how much of the spread is split's and seed's")
    add("--diff", nargs=2, type=Path, metavar=("A", "B"), help="in what two runs' configs differ")
    return parser
