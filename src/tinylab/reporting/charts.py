"""Which figures fit a set of settings, and their data."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

import numpy as np
from markupsafe import Markup

from tinylab.comparison.comparison import Row
from tinylab.comparison.data_size import DataSize
from tinylab.comparison.settings import varied
from tinylab.comparison.tuning import TuningCurve
from tinylab.config.metrics import METRICS
from tinylab.config.values import is_number, order, shown
from tinylab.reporting import figures
from tinylab.reporting.figures import Curves, Dots, Sizes, Values
from tinylab.reporting.svg import percent, plain
from tinylab.reporting.tables import Cell, brief, short
from tinylab.ui.curves import reading

MOST_LINES = 12  # values per key for rows of dots; with more, a scatter plot is used
FEW_LINES = 5  # the same if each occurs only once, as in a search
MOST_RANKED = 30  # settings for rows of dots
LAW_POINTS = 40  # of a fitted curve
MOST_READ = 5  # settings whose learning curves are put into words
LEAST_AXES = 3  # numeric keys needed for parallel coordinates
TUNED = (
    "Best result after k trials in random order: median with 95% CI (by order statistics, Lourie "
    "et al. 2023), dashed: mean (Dodge et al. 2019). Compare searches at an equal number of "
    "trials"
)
COLUMNS = ("train_loss", "train_accuracy", "val_loss", "val_accuracy")


@dataclass(frozen=True)
class Chart:
    """A figure and its caption."""

    svg: Markup
    caption: str


def readings(rows: Sequence[Row]) -> list[str]:
    """What the learning curves of the first settings show; nothing of those that show nothing."""
    return [line for row in rows[:MOST_READ] for line in _readings(row)]


def _readings(row: Row) -> list[str]:
    """Return a line per finding, with the values of the first run of which it is true."""
    by_finding: dict[str, list[str]] = {}
    for run in row.setting.runs:
        if words := reading(run.files.history()):
            by_finding.setdefault(words.partition(" at ")[0], []).append(words)
    total = len(row.setting.runs)
    if total == 1:
        return [f"{row.name}: {words}." for [words] in by_finding.values()]
    return [
        f"In {len(said)} of {total} runs of {row.name}{' (values of the first)' * (len(said) > 1)}"
        f", {said[0]}."
        for said in by_finding.values()
    ]


def learning_curves(rows: Sequence[Row]) -> tuple[list[Chart], list[Chart]]:
    """Accuracy and loss by epoch for all settings together, and the accuracy of each setting if
    there are more than colors. Settings with unreadable curves are left out.
    """
    histories = [[columns(run.files.history()) for run in row.setting.runs] for row in rows]
    accuracy, loss = (
        [
            _curves(short(row), figures.color(number), inner, name)
            for number, (row, inner) in enumerate(zip(rows, histories, strict=True))
            if all(inner)
        ]
        for name in ("accuracy", "loss")
    )
    if not accuracy:
        return [], []
    together = [
        Chart(figures.learning_curves(accuracy, "accuracy"), "Accuracy"),
        Chart(figures.learning_curves(loss, "loss"), "Loss"),
    ]
    if len(rows) <= figures.COLORS:
        return together, []
    alone = [replace(one, color=figures.color(0)) for one in accuracy]
    return together, [Chart(figures.learning_curves([one], "accuracy"), one.label) for one in alone]


def _curves(label: str, color: str, histories: Sequence[dict[str, Values]], name: str) -> Curves:
    """Return a setting's curves, up to the shortest of its runs."""
    epochs = min(len(history[f"train_{name}"]) for history in histories)
    train, val = (
        np.array([history[f"{part}_{name}"][:epochs] for history in histories])
        for part in ("train", "val")
    )
    return Curves(label, color, train, val if np.isfinite(val).all() else None)


def columns(rows: Sequence[dict[str, Any]]) -> dict[str, Values]:
    """Return the columns of a run's history, each (epochs,); empty if any value is not a number."""
    try:
        values = {name: np.array([row[name] for row in rows], float) for name in COLUMNS}
    except (ValueError, KeyError, TypeError):
        return {}
    is_whole = rows and np.isfinite([values["train_loss"], values["train_accuracy"]]).all()
    return values if is_whole else {}


def effects(rows: Sequence[Row], metric: str) -> list[Chart]:
    """Return dot plots by setting, and by the values of each varied key."""
    scored = [row for row in rows if row.metrics[metric] is not None]
    keys = varied([row.setting.values for row in scored])
    charts = [
        _effect([row for row in scored if key in row.setting.values], key, metric) for key in keys
    ]
    has_intervals = any(len(row.setting.runs) > 1 for row in scored)
    return [_ranking(scored, metric), *charts] if len(keys) > 1 and has_intervals else charts


def _ranking(rows: Sequence[Row], metric: str) -> Chart:
    """Return a row of dots per setting, in the order of the leaderboard."""
    lines = [_dots(short(row), row, metric) for row in rows[:MOST_RANKED]]
    beyond = f"; first {MOST_RANKED} of {len(rows)}" if len(rows) > MOST_RANKED else ""
    caption = f"One dot per run{_interval_words(lines)}{beyond}"
    return Chart(figures.dots(lines, METRICS[metric].label), caption)


def _interval_words(lines: Sequence[Dots]) -> str:
    has_interval = any(line.interval is not None for line in lines)
    return "; line: mean and 95% CI" if has_interval else ""


def _dots(label: str, row: Row, metric: str) -> Dots:
    """Return the runs of one setting."""
    summary = row.metrics[metric]
    assert summary is not None
    if summary.low is None or summary.high is None:
        return Dots(label, _scores([row], metric), summary.mean, None)
    return Dots(label, _scores([row], metric), summary.mean, (summary.low, summary.high))


def _scores(rows: Sequence[Row], metric: str) -> list[float]:
    """Return the accuracies of all runs."""
    runs = [run for row in rows for run in row.setting.runs]
    return [score for run in runs if (score := run.metric(metric)) is not None]


def _effect(rows: Sequence[Row], key: str, metric: str) -> Chart:
    """Return the runs' accuracies by the value of one key."""
    caption = f"{key}: one dot per run"
    by_value: dict[str, list[Row]] = {}
    for row in sorted(rows, key=lambda row: order(row.setting.values[key])):
        by_value.setdefault(shown(row.setting.values[key]), []).append(row)
    is_repeated = sum(len(row.setting.runs) for row in rows) >= 2 * len(by_value)
    most = MOST_LINES if is_repeated else FEW_LINES
    if len(by_value) > most and all(is_number(row.setting.values[key]) for row in rows):
        return Chart(_scatter(rows, key, metric), caption)
    name = key.rpartition(".")[2]
    labels = [f"{name}={brief(first.setting.values[key])}" for first, *_ in by_value.values()]
    grouped = list(zip(labels, by_value.values(), strict=True))
    if all(len(inner) == 1 for inner in by_value.values()):
        lines = [_dots(label, row, metric) for label, [row] in grouped]
        caption += _interval_words(lines)
    else:
        scores = [(label, _scores(inner, metric)) for label, inner in grouped]
        lines = [Dots(label, each, fmean(each), None) for label, each in scores]
        caption += "; line: mean, without a CI since other keys vary within a row"
    return Chart(figures.dots(lines, METRICS[metric].label), caption)


def _scatter(rows: Sequence[Row], key: str, metric: str) -> Markup:
    pairs = [(row.setting.values[key], score) for row in rows for score in _scores([row], metric)]
    values, scores = zip(*pairs, strict=True)
    return figures.scatter(key, values, scores, METRICS[metric].label)


def data_size(settings: Sequence[DataSize]) -> Chart | None:
    """Return test accuracy by number of training images; None if that was not varied."""
    if not settings:
        return None
    lines = [
        Sizes(
            one.label, figures.color(number), one.sizes,
            [list(each.values()) for each in one.accuracies], _law(one),
        )
        for number, one in enumerate(settings)
    ]  # fmt: skip
    has_law = any(one.law is not None for one in settings)
    fitted = "; dashed: power law, extended to twice the images" if has_law else ""
    caption = f"Mean test accuracy; band: lowest to highest run{fitted}"
    return Chart(figures.data_size(lines, METRICS["test_accuracy"].label), caption)


def size_legend(settings: Sequence[DataSize]) -> list[Cell]:
    """Return the legend of the figure; empty with a single color."""
    if len(settings) == 1:
        return []
    named = [
        Cell(one.label, key=figures.color(number))
        for number, one in enumerate(settings[: figures.COLORS])
    ]
    rest = len(settings) - len(named)
    return [*named, Cell(f"{rest} more", key=figures.color(figures.COLORS))] if rest else named


def _law(one: DataSize) -> list[tuple[float, float]]:
    if one.law is None:
        return []
    numbers = np.geomspace(one.sizes[0], 2 * one.sizes[-1], LAW_POINTS)
    return [(float(n), max(1 - one.law.error(n), 0.0)) for n in numbers]


def parallel(rows: Sequence[Row], metric: str) -> Chart | None:
    """Return parallel coordinates with a line per setting; None with few numeric keys."""
    scored = [(row.setting.values, each.mean) for row in rows if (each := row.metrics[metric])]
    keys = [
        key
        for key in varied([values for values, _ in scored])
        if all(is_number(values.get(key)) for values, _ in scored)
    ]
    if len(keys) < LEAST_AXES:
        return None
    points = np.array([[values[key] for key in keys] for values, _ in scored], float)
    svg = figures.parallel(keys, points, [score for _, score in scored], METRICS[metric].label)
    return Chart(svg, "One line per setting; stronger color is better")


def tuning(curves: Sequence[TuningCurve]) -> list[Chart]:
    """Return the tuning curves of searches, grouped by metric."""
    charts = []
    for metric in dict.fromkeys(curve.metric for curve in curves):
        inner = [curve for curve in curves if curve.metric == metric]
        label = percent if METRICS[metric].is_fraction else plain
        named = f"; {', '.join(curve.name for curve in inner)}" if len(inner) > 1 else ""
        charts.append(Chart(figures.tuning(inner, METRICS[metric].label, label), f"{TUNED}{named}"))
    return charts
