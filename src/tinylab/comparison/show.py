"""Comparisons as text and tables."""

import math
from collections.abc import Sequence

from tinylab.comparison import columns
from tinylab.comparison.comparison import Comparison, Row
from tinylab.comparison.effects import Effect
from tinylab.comparison.settings import repeated
from tinylab.comparison.statistics import is_crossed
from tinylab.comparison.verdicts import DECISIVE
from tinylab.config.metrics import METRICS, NOT_FOR_SELECTION
from tinylab.config.values import shown
from tinylab.store.collect import Skipped
from tinylab.store.run import NOT_THERE
from tinylab.ui.tables import WIDTH, Section, aligned

LUCK = (
    "sd and CI of the mean: variation over {} (Student's t). CI of one test set: variation over "
    "the choice of test images (Wilson). Neither includes the other."
)
LEGEND_CROSSED = (
    "a x b: a splits by b seeds. Runs that share a split or a seed are not independent, so the CI "
    "of the mean combines both sources (min F', Clark 1973)."
)
LEGEND_SPLITS = (
    "Splits share training images, which makes the CI of their mean too narrow; the tests are "
    "corrected for this."
)
LEGEND_VARIANCE = (
    "sd in points. rest: the interaction of split and seed, which a single run per pair cannot "
    "tell from noise. Few splits or seeds give rough estimates."
)
LEGEND_POSTERIORS = (
    "Student's t posterior (Benavoli et al., 2017): over seeds on one test set the runs are "
    "assumed independent, over splits and folds correlated by the test fraction. Not adjusted "
    "for the number of pairs."
)
EQUAL = "{}: no CI of the mean, since all runs happen to have the same test accuracy."
ONE_RUN = "the CI covers the choice of test images, but not other seeds. Repeat with seed=0,1,2."
# Student's t over n runs: 12.71 / sqrt(2) and 4.30 / sqrt(3) sd.
TWO_RUNS = (
    "are too few for a reliable verdict: the CI extends 9 sd to either side, with three 2.5. Run "
    "three or more."
)
FAMILY = "p (Holm) and intervals (simultaneous) are adjusted for {} {}"
SHOWN = 5e-5  # a smaller standard deviation would be shown as 0.00 points
LEAST_SEEDS = 5  # runs needed to split their variance; with fewer the estimate is too rough
MOST_SKIPPED = 5  # maximum number of names shown per reason


def sections(
    comparisons: Sequence[Comparison], skipped: Sequence[Skipped], is_narrow: bool
) -> list[Section]:
    """Return all sections to show; ``is_narrow`` fits the tables to the screen's width."""
    parts = [Section(_apart(comparisons))]
    for comparison in comparisons:
        parts += _settings(
            comparison, _missing(skipped) if comparison is comparisons[0] else [], is_narrow
        )
        if comparison.verdicts:
            table = columns.verdicts(comparison)
            notes = [*methods(comparison), *caveats(comparison)]
            parts.append(Section([_verdict_heading(comparison)], table, notes))
        if comparison.verdicts and comparison.rope is not None:
            heading, table = _posterior_heading(comparison.rope), columns.posteriors(comparison)
            parts.append(Section([heading], table, [LEGEND_POSTERIORS]))
        parts += [_effect(effect) for effect in comparison.effects]
        if comparison.variances:
            words = "Variance components of test accuracy: two crossed random factors"
            notes = [LEGEND_VARIANCE, *_variance_notes(comparison)]
            parts.append(Section([words], columns.variances(comparison), notes))
    return [*parts, Section(left_out([each for each in skipped if each.reason != NOT_THERE]))]


def left_out(skipped: Sequence[Skipped]) -> list[str]:
    """Return what was left out, one line per reason."""
    by_reason: dict[str, list[str]] = {}
    for each in skipped:
        by_reason.setdefault(each.reason, []).append(each.path.name or str(each.path))
    return [f"left out, {reason}: {_first(names)}" for reason, names in by_reason.items()]


def _first(names: Sequence[str]) -> str:
    more = f" and {len(names) - MOST_SKIPPED} more" if len(names) > MOST_SKIPPED else ""
    return ", ".join(names[:MOST_SKIPPED]) + more


def _missing(skipped: Sequence[Skipped]) -> list[str]:
    """Return a warning of runs that a sweep lists, but that are not there."""
    names = [each.path.name for each in skipped if each.reason == NOT_THERE]
    if not names:
        return []
    are = "is" if len(names) == 1 else "are"
    missing = f"{len(names):,} of the sweep's runs {are} {NOT_THERE} (removed or not started)"
    return [f"{missing}: {_first(names)}"]


def _apart(comparisons: Sequence[Comparison]) -> list[str]:
    if len(comparisons) == 1:
        return []
    names = ", ".join(comparison.dataset for comparison in comparisons)
    return [f"not compared with each other, since their images differ: {names}"]


def _settings(comparison: Comparison, warnings: Sequence[str], is_narrow: bool) -> list[Section]:
    """Return the settings with their metrics; if the table is too wide, the settings come first."""
    rows, words = comparison.rows, [_heading(comparison)]
    words += [f"warning: {warning}" for warning in (*warnings, *comparison.warnings)]
    names, keys, metrics = columns.names(rows), columns.keys(rows), columns.metrics(comparison)
    whole = [names, *keys, *metrics]
    if keys and not (is_narrow and max(map(len, aligned(whole))) > WIDTH):
        return [Section(words, whole, _legend(comparison))]
    labels = Section(words, [names, columns.labels(rows)])
    return [labels, Section([], [names, *metrics], _legend(comparison))]


def _heading(comparison: Comparison) -> str:
    """Return how many settings were tried, which matters before reading the test column."""
    is_ranked = len(comparison.rows) > 1 and comparison.selected is not None
    ranked = f", ranked by {METRICS[comparison.metric].label}" if is_ranked else ""
    return f"{comparison.dataset}: {comparison.tried}{ranked}"


def _legend(comparison: Comparison) -> list[str]:
    lines = [NOT_FOR_SELECTION, luck(comparison), *dependence(comparison)]
    return [*lines, *seed_spread(comparison.rows[0])]


def dependence(comparison: Comparison) -> list[str]:
    """Return how the CI of the mean treats runs that are not independent."""
    settings = [row.setting for row in comparison.rows]
    lines = []
    if any(is_crossed(setting.cells) for setting in settings):
        lines.append(LEGEND_CROSSED)
    if any(len(setting.by_test_set) > 1 for setting in settings):
        lines.append(LEGEND_SPLITS)
    return lines


def luck(comparison: Comparison) -> str:
    """Return what the two intervals of an accuracy cover."""
    words = LUCK.format(repeated(row.setting for row in comparison.rows))
    return " ".join([words, *without_spread(comparison)])


def without_spread(comparison: Comparison) -> list[str]:
    """Return which settings have no CI of the mean although they have several runs."""
    equal = [row.name for row in comparison.rows if row.test.std == 0]
    return [EQUAL.format(", ".join(equal))] if equal else []


def caveats(comparison: Comparison) -> list[str]:
    """Return what one or two runs per setting do not show; empty with three or more."""
    if all(len(row.setting.runs) == 1 for row in comparison.rows):
        each = " per setting" if len(comparison.rows) > 1 else ""
        return [f"One run{each}: {ONE_RUN}"]
    tested = [verdict for verdict in comparison.verdicts if verdict.p is not None]
    fewest = [min(len(each.first.runs), len(each.second.runs)) for each in tested]
    singles = [v for v, num in zip(tested, fewest, strict=True) if num == 1]
    named = ", ".join(" - ".join(columns.pair(comparison, each)) for each in singles)
    lines = [f"One run each of {named}: {ONE_RUN}"] if named else []
    if 2 in fewest:
        unit = repeated(row.setting for row in comparison.rows)
        lines.append(f"Two {unit} per setting {TWO_RUNS}")
    return lines


def seed_spread(row: Row) -> list[str]:
    """Return how much of the first setting's spread is between networks; empty for few seeds."""
    variance = row.seed_variance
    if variance is None or variance.num < LEAST_SEEDS or variance.total == 0:
        return []
    spread = (
        f"{row.name}: of the sd of {100 * math.sqrt(variance.total):.2f} over {variance.num} runs"
    )
    if variance.networks < SHOWN**2:
        return [f"{spread}, all may be noise from the finite test set (Jordan, 2023)."]
    true, noise = (100 * math.sqrt(max(v, 0.0)) for v in (variance.networks, variance.noise))
    return [
        f"{spread}, {true:.2f} is between the networks' true accuracies and {noise:.2f} noise from "
        "the finite test set; the squares add up (Jordan, 2023)."
    ]


def _verdict_heading(comparison: Comparison) -> str:
    tested = sum(verdict.p is not None for verdict in comparison.verdicts)
    family = f"; {FAMILY.format(tested, 'comparisons')}"
    first = comparison.verdicts[0].first
    is_best = comparison.selected is not None and first is comparison.selected.setting
    best = f"; {comparison.name_of(first)} is best by validation" if is_best else ""
    return f"Verdicts on test accuracy{best}{family if tested > 1 else ''}"


def _posterior_heading(rope: float) -> str:
    return (
        f"Better, equal or undecided? Differences up to {100 * rope:g} points count as equal; "
        f"decided at a probability of {DECISIVE:.0%} or more"
    )


def _effect(effect: Effect) -> Section:
    against = f"against {effect.key}={shown(effect.reference)}"
    tested = sum(level.p is not None for level in effect.levels)
    family = f"; {FAMILY.format(tested, 'levels')}" if tested > 1 else ""
    words = f"Effect of {effect.key} on test accuracy, {against}, all else equal{family}"
    methods = dict.fromkeys(level.trial.method for level in effect.levels if level.trial.method)
    return Section([words], columns.effect(effect), [f"Tested by {method}." for method in methods])


def methods(comparison: Comparison) -> list[str]:
    """Return the test used for each pair; a single line if all used the same."""
    pairs: dict[str, list[str]] = {}
    for verdict in comparison.verdicts:
        if verdict.trial.method:
            pair = " - ".join(columns.pair(comparison, verdict))
            pairs.setdefault(verdict.trial.method, []).append(pair)
    if len(pairs) == 1:
        return [f"Tested by {method}." for method in pairs]
    return [f"{', '.join(listed)}: {method}." for method, listed in pairs.items()]


def _variance_notes(comparison: Comparison) -> list[str]:
    notes = []
    for row, variance in zip(comparison.rows, comparison.variances, strict=True):
        if variance is None:
            notes.append(f"{row.name}: needs at least two split seeds by two training seeds.")
            continue
        if variance.clipped:
            sources = " and ".join(variance.clipped)
            notes.append(f"{row.name}: the estimate for {sources} was negative and is set to 0.")
        if variance.left_out:
            gaps = f"{variance.left_out} of {len(row.setting.runs)} runs"
            notes.append(f"{row.name}: left out because their cells are incomplete: {gaps}.")
    return notes
