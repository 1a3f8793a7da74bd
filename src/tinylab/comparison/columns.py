"""The columns of a comparison's tables: settings, verdicts, variance components."""

import math
from collections.abc import Callable, Sequence

from tinylab.comparison.comparison import Comparison, Row
from tinylab.comparison.effects import Effect
from tinylab.comparison.statistics import Adjusted, Posterior, Summary, design, is_crossed
from tinylab.comparison.variance import SOURCES, Variance
from tinylab.comparison.verdicts import Verdict, points, points_span
from tinylab.config.metrics import METRICS, between
from tinylab.config.values import shown
from tinylab.ui.display import duration
from tinylab.ui.tables import Column


def names(rows: Sequence[Row]) -> Column:
    """Return the column of letters."""
    return Column(("", ""), [row.name for row in rows], is_words=True)


def labels(rows: Sequence[Row]) -> Column:
    """Return one column with the values in which the settings differ."""
    return Column(("", "setting"), [row.setting.label for row in rows], is_words=True)


def keys(rows: Sequence[Row]) -> list[Column]:
    """Return one column per key in which the settings differ."""
    columns = []
    for key in dict.fromkeys(key for row in rows for key in row.setting.values):
        section, dot, name = key.rpartition(".")
        values = [row.setting.values for row in rows]
        cells = [shown(each[key]) if key in each else "" for each in values]
        columns.append(Column((section + dot, name), cells, is_words=True))
    return columns


def metrics(comparison: Comparison) -> list[Column]:
    """Return the metrics; validation comes first, since settings are ranked and selected by it."""
    rows, metric = comparison.rows, comparison.metric
    test = [row.test for row in rows]
    beside = (
        [] if comparison.asked in (metric, "test_accuracy") else _metric(rows, comparison.asked)
    )
    return [
        Column(("", "runs"), [num_runs(row) for row in rows]),
        *_metric(rows, metric),
        *beside,
        *_metric(rows, "test_accuracy"),
        Column(("95% CI", "of the mean"), [_span(each.low, each.high) for each in test]),
        Column(("95% CI", "of one test set"), [_span(*row.one_test_set) for row in rows]),
        Column(("", "time"), [_mean(row.metrics["seconds"], _time) for row in rows]),
        Column(("", "parameters"), [_mean(row.metrics["parameters"], _count) for row in rows]),
    ]


def _metric(rows: Sequence[Row], name: str) -> list[Column]:
    """Return mean and standard deviation of one metric."""
    part, key = METRICS[name].path
    is_fraction = METRICS[name].is_fraction
    text = _percent if is_fraction else METRICS[name].format.format
    unit = key.replace("_", " ").replace("accuracy", "acc") + " %" * is_fraction
    head = "test *" if part == "test" else part
    summaries = [row.metrics[name] for row in rows]
    return [
        Column((head, unit), [_mean(each, text) for each in summaries]),
        Column((head, "sd"), [_std(each, text) for each in summaries]),
    ]


def num_runs(row: Row) -> str:
    """Return the number of runs, as in ``3 x 5`` for splits crossed with seeds."""
    runs = row.setting.cells
    if not is_crossed(runs):
        return str(len(runs))
    splits, seeds = design(runs)
    whole = f"{splits} x {seeds}"
    return whole if len(runs) == splits * seeds else f"{len(runs)} of {whole}"


def _mean(summary: Summary | None, text: Callable[[float], str]) -> str:
    return "-" if summary is None else text(summary.mean)


def _std(summary: Summary | None, text: Callable[[float], str]) -> str:
    return "-" if summary is None or summary.std is None else text(summary.std)


def _span(low: float | None, high: float | None) -> str:
    return "-" if low is None or high is None else between(low, high)


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.2f}"


def _time(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 60 else duration(seconds)


def _count(number: float) -> str:
    return f"{number:,.0f}"


def verdicts(comparison: Comparison) -> list[Column]:
    """Return the difference, first minus second, in points of test accuracy, and the verdict."""
    judged = comparison.verdicts
    pairs = [pair(comparison, verdict) for verdict in judged]
    words = [verdict.words(*names) for verdict, names in zip(judged, pairs, strict=True)]
    return [
        Column(("", "pair"), [" - ".join(names) for names in pairs], is_words=True),
        Column(("", "points"), [_points(verdict.trial.difference) for verdict in judged]),
        Column(("", "95% CI"), [_signed_span(verdict.adjusted) for verdict in judged]),
        Column(("", "verdict"), words, is_words=True),
    ]


def posteriors(comparison: Comparison) -> list[Column]:
    """Return the probabilities, in percent, that either is better or both are practically equal."""
    judged = comparison.verdicts
    pairs = [pair(comparison, verdict) for verdict in judged]
    known = [verdict.posterior for verdict in judged]
    words = [verdict.decision(*names) for verdict, names in zip(judged, pairs, strict=True)]
    return [
        Column(("", "pair"), [" - ".join(names) for names in pairs], is_words=True),
        Column(("first", "better %"), [_chance(each, "better") for each in known]),
        Column(("practically", "equal %"), [_chance(each, "equal") for each in known]),
        Column(("second", "better %"), [_chance(each, "worse") for each in known]),
        Column(("", "so"), words, is_words=True),
    ]


def _chance(known: Posterior | None, what: str) -> str:
    return "-" if known is None else f"{100 * getattr(known, what):.1f}"


def pair(comparison: Comparison, verdict: Verdict) -> tuple[str, str]:
    """Return the letters of the settings of a verdict."""
    return comparison.name_of(verdict.first), comparison.name_of(verdict.second)


def _points(difference: float | None) -> str:
    return "-" if difference is None else points(difference)


def _signed_span(adjusted: Adjusted | None) -> str:
    return "-" if adjusted is None else points_span(adjusted)


def effect(main_effect: Effect) -> list[Column]:
    """Return each value minus the reference in points of test accuracy, and the verdict."""
    levels = main_effect.levels
    trials = [level.trial for level in levels]
    return [
        Column(("", main_effect.key), [shown(each.value) for each in levels], is_words=True),
        Column(("", "pairs"), [str(level.num_pairs) for level in levels]),
        Column(("", "points"), [_points(trial.difference) for trial in trials]),
        Column(("", "95% CI"), [_signed_span(level.adjusted) for level in levels]),
        Column(("", "effect"), [level.words() for level in levels], is_words=True),
    ]


def variances(comparison: Comparison) -> list[Column]:
    """Return the standard deviation of each source in points, and its fraction of the variance."""
    known = comparison.variances
    sizes = ["-" if each is None else f"{each.num_splits} x {each.num_seeds}" for each in known]
    columns = [names(comparison.rows), Column(("splits", "x seeds"), sizes)]
    for source in SOURCES:
        columns.append(Column((source, "sd"), [_component(each, source) for each in known]))
        columns.append(Column((source, "fraction"), [_fraction(each, source) for each in known]))
    return columns


def _component(variance: Variance | None, source: str) -> str:
    return "-" if variance is None else _percent(math.sqrt(variance.components[source]))


def _fraction(variance: Variance | None, source: str) -> str:
    fractions = None if variance is None else variance.fractions
    return "-" if fractions is None else f"{fractions[source]:.0%}"
