"""``tinylab compare``: settings with confidence intervals and tests."""

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
  tinylab compare outputs --group-by model.filters      pool everything else
  tinylab compare outputs --pair model=mlp model=baseline
  tinylab compare outputs --rope 0.5 --effect augment.flip
  tinylab compare --diff outputs/runs/ONE outputs/runs/OTHER"""


def main(arguments: list[str]) -> None:
    """Run the command. Raises UserError for errors that the user can fix."""
    parser = _parser()
    options = parser.parse_args(arguments)
    _refuse_idle(parser, options)
    if options.diff is not None:
        for line in differences(*options.diff):
            say(line)
        return
    runs, skipped = collect_finished(options.paths)
    refuse_unknown_metric("--metric ", options.metric)
    by = None if options.group_by is None else options.group_by.split(",")
    comparisons = compare(
        runs, by, options.metric, options.pair, options.test, options.variance, options.rope,
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
    """Raise UserError for a metric that cannot rank settings; the message starts with ``said``.

    The user's own metrics are known once a result that contains them has been read.
    """
    known = [name for name in METRICS if METRICS[name].better and name != "test_accuracy"]
    if metric == "test_accuracy":
        raise UserError(
            f"{said}{metric}: always shown, but no basis for a ranking; expected a metric such as "
            f"{known[0]}"
        )
    if metric not in known:
        hint = did_you_mean(metric, known)
        raise UserError(f"{said}{metric}: expected one of {', '.join(known)}{hint}")


def collect_finished(paths: Sequence[str | Path]) -> tuple[list[Run], list[Skipped]]:
    """Return the finished runs in ``paths``, and what was left out.

    Raises UserError if there are none.
    """
    runs, skipped = collect(paths)
    if not runs:
        reasons = "".join(f"\n  {line}" for line in show.left_out(skipped))
        raise UserError(f"no finished run in {', '.join(map(str, paths))}{reasons}")
    return runs, skipped


def _refuse_idle(parser: Parser, options: argparse.Namespace) -> None:
    """Refuse options that would have no effect."""
    values = vars(options).items()
    given = {key for key, value in values if value and value != parser.get_default(key)}
    if "diff" in given and len(given) > 1:
        others = ", ".join(sorted(given - {"diff"}))
        raise UserError(f"--diff: only compares two configs; leave out {others}")
    if idle := given & LACKING.get(options.format, set()):
        flag = min(idle)
        able = ", ".join(each for each in FORMATS if flag not in LACKING.get(each, set()))
        raise UserError(f"--format {options.format}: cannot show --{flag}; use one of {able}")
    if "diff" not in given and not options.paths:
        raise UserError("tinylab compare: expected a PATH, such as outputs")


def _parser() -> Parser:
    parser = Parser(
        prog="tinylab compare",
        description="Compare runs grouped by all config values except seeds: means, confidence "
        "intervals, tests.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add(
        "paths",
        nargs="*",
        metavar="PATH",
        help="folders of runs or sweeps, an outputs folder, or globs",
    )
    add("--format", choices=FORMATS, default="table", help="output format (default: table)")
    metric_help = "metric to rank settings by; a test metric is shown, but ranking uses validation"
    add("--metric", default=DEFAULT_METRIC, metavar="METRIC", help=metric_help)
    add("--group-by", metavar="KEY,KEY", help="config keys that define a setting (default: all)")
    pair_help = "compare these two, by letter or values, not the best against all; repeatable"
    add("--pair", nargs=2, action="append", default=[], metavar=("A", "B"), help=pair_help)
    add("--test", choices=TESTS, default=TESTS[0], help="test for settings with several runs")
    rope_help = (
        "region of practical equivalence, in points of accuracy: better, equal or undecided?"
    )
    add("--rope", type=float, metavar="POINTS", help=rope_help)
    effect_help = "effect of this key over pairs of runs that differ in nothing else; repeatable"
    add("--effect", action="append", default=[], metavar="KEY", help=effect_help)
    add("--variance", action="store_true", help="variance components of split and seed")
    add(
        "--diff",
        nargs=2,
        type=Path,
        metavar=("A", "B"),
        help="show how the configs of two runs differ",
    )
    return parser
