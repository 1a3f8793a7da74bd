"""The report's figures: plain numbers in, SVG out. Each has a text alternative."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from tinylab.comparison.tuning import Point, TuningCurve
from tinylab.reporting.svg import (
    Scale,
    element,
    figure,
    fit,
    line,
    path,
    percent,
    plain,
    text,
    x_axis,
    y_axis,
)
from tinylab.ui.console import counted

Values = NDArray[np.float64]
COLORS = 7  # told apart by people with any color vision; what comes after them is gray
WIDTH = 360.0  # of a phone, so that letters keep their size there
MOST_POINTS = 200  # maximum points of a curve over the images
MOST_NAMED = 20  # classes of a map
LETTER = 7.2  # width of a wide one, in units


@dataclass(frozen=True)
class Curves:
    """Learning curves of one setting's runs, (runs, epochs); ``val`` None without validation.

    ``color`` is the value of the function of that name for the setting's position.
    """

    label: str
    color: str
    train: Values
    val: Values | None


@dataclass(frozen=True)
class Dots:
    """A row of a dot plot: a value per run, their mean and its CI, if any."""

    label: str
    values: Sequence[float]
    mean: float
    interval: tuple[float, float] | None


@dataclass(frozen=True)
class Sizes:
    """Accuracies by number of training images, for one setting.

    values: the runs of each of ``numbers``. law: points of the fitted curve and its extrapolation.
    """

    label: str
    color: str
    numbers: Sequence[int]
    values: Sequence[Sequence[float]]
    law: Sequence[tuple[float, float]]


def learning_curves(settings: Sequence[Curves], name: str) -> Markup:
    """Plot training (dashed) and validation (solid) by epoch: mean over runs, band: range.

    Settings with color ``rest`` are gray, without band and training curve. ``name`` is accuracy or
    loss.
    """
    height, left, bottom = 240.0, 52.0, 200.0
    parts = [part for one in settings for part in (one.train, one.val) if part is not None]
    x = Scale(1, max(2, *(part.shape[1] for part in parts)), left + 6, WIDTH - 12, least=1)
    ends = [float(end) for part in parts for end in (part.min(), part.max())]
    y = fit(ends, bottom, 8, may_be_log=name == "loss")
    label = plain if name == "loss" else percent
    drawn = [_curve(one, x, y) for one in settings]
    words = "; ".join(
        f"{one.label}: {label(round(float(_shown(one).mean(axis=0)[-1]), 4))} after the last epoch"
        for one in settings[:COLORS]
    )
    return figure(
        WIDTH, height, f"{name} by epoch", words,
        x_axis(x, bottom, 8, "epoch", plain), y_axis(y, left, WIDTH - 8, label),
        *reversed(drawn),
    )  # fmt: skip


def color(number: int) -> str:
    """Return the CSS class for the color of the setting at this position."""
    return f"c{number}" if number < COLORS else "rest"


def _shown(curves: Curves) -> Values:
    return curves.train if curves.val is None else curves.val


def _curve(curves: Curves, x: Scale, y: Scale) -> Markup:
    parts = []
    if curves.color != "rest":
        edges = _shown(curves).min(0), _shown(curves).max(0)
        low, high = (_positions(edge, x, y) for edge in edges)
        parts.append(element("path", d=path([*high, *reversed(low)]) + "Z", class_="band"))
        parts.append(_mean_line(curves.train, "train", x, y))
    if curves.val is not None or curves.color == "rest":
        parts.append(_mean_line(_shown(curves), "val", x, y))
    return element("g", element("title", curves.label), *parts, class_=curves.color)


def _mean_line(values: Values, class_: str, x: Scale, y: Scale) -> Markup:
    """Return the line of the mean over runs; a single epoch is a dot."""
    points = _positions(values.mean(axis=0), x, y)
    if len(points) == 1:
        return element("circle", cx=points[0][0], cy=points[0][1], r=3, class_="dot")
    return element("path", d=path(points), class_=f"line {class_}")


def _positions(values: Values, x: Scale, y: Scale) -> list[tuple[float, float]]:
    return [(x(epoch), y(float(value))) for epoch, value in enumerate(values, start=1)]


def dots(rows: Sequence[Dots], name: str) -> Markup:
    """Plot a row per setting or value: runs as dots, their mean with its CI.

    Long labels are above their row, short ones to its left.
    """
    letters = max(len(row.label) for row in rows)
    above = letters > 16
    step, left = (38.0, 12.0) if above else (24.0, letters * LETTER + 14)
    bottom = len(rows) * step + 14
    ends = [end for row in rows for end in (*row.values, *(row.interval or ()))]
    x = fit(ends, left, WIDTH - 10, may_be_log=False)
    drawn = []
    for number, row in enumerate(rows):
        y = (number + 0.5) * step + (10 if above else 2)
        at = (left, y - 12) if above else (left - 8, y + 4)
        drawn += [
            text(at, _clipped(row.label), "start" if above else "end", "halo"),
            _dot_row(row, x, y),
        ]
    words = "; ".join(f"{row.label}: {_summary(row)}" for row in rows)
    return figure(
        WIDTH, bottom + 40, f"{name}, run by run", words,
        x_axis(x, bottom, 4, name, percent), *drawn,
    )  # fmt: skip


def _clipped(label: str) -> str:
    """Return a label that fits the figure's width."""
    most = int(WIDTH / LETTER) - 2
    return label if len(label) <= most else f"{label[: most - 1]}…"


def _dot_row(row: Dots, x: Scale, y: float) -> Markup:
    parts = []
    if row.interval is not None:
        parts.append(line((x(row.interval[0]), y), (x(row.interval[1]), y), "interval"))
    parts += [element("circle", cx=x(value), cy=y, r=3.2, class_="dot") for value in row.values]
    if len(row.values) > 1:
        parts.append(line((x(row.mean), y - 7), (x(row.mean), y + 7), "mean"))
    return element("g", element("title", f"{row.label}: {_summary(row)}"), *parts, class_="c0")


def _summary(row: Dots) -> str:
    """Describe a row in words."""
    runs = counted(len(row.values), "run")
    if row.interval is None:
        return f"mean {percent(round(row.mean, 4))} of {runs}"
    low, high = (percent(round(end, 4)) for end in row.interval)
    return f"mean {percent(round(row.mean, 4))} ({low} to {high}) of {runs}"


def scatter(key: str, values: Sequence[float], scores: Sequence[float], name: str) -> Markup:
    """Plot a dot per run: a numeric key on x, the score on y."""
    left, bottom = 52.0, 200.0
    x, y = fit(values, left, WIDTH - 10), fit(scores, bottom, 8, may_be_log=False)
    drawn = [
        element("circle", cx=x(value), cy=y(score), r=3.2, class_="dot")
        for value, score in zip(values, scores, strict=True)
    ]
    best = max(range(len(values)), key=lambda index: scores[index])
    words = f"highest, {percent(round(scores[best], 4))}, at {key}={plain(values[best])}"
    return figure(
        WIDTH, 240, f"{name} by {key}", words,
        x_axis(x, bottom, 8, key, plain), y_axis(y, left, WIDTH - 8, percent),
        element("g", *drawn, class_="c0"),
    )  # fmt: skip


def data_size(settings: Sequence[Sizes], name: str) -> Markup:
    """Plot accuracy by training images: mean (solid), band: range over runs, law (dashed)."""
    left, bottom = 52.0, 200.0
    law = [point for one in settings for point in one.law]
    numbers = [float(number) for one in settings for number in one.numbers]
    values = [value for one in settings for each in one.values for value in each]
    x = fit([*numbers, *(n for n, _ in law)], left, WIDTH - 10)
    y = fit([*values, *(value for _, value in law)], bottom, 8, may_be_log=False)
    drawn = [_size_curve(one, x, y) for one in settings]
    words = "; ".join(
        f"{one.label} {percent(round(float(np.mean(each)), 4))} of {number:,} images".strip()
        for one in settings[:COLORS]
        for number, each in list(zip(one.numbers, one.values, strict=True))[-1:]
    )
    return figure(
        WIDTH, 240, f"{name} by number of training images", words,
        x_axis(x, bottom, 8, "training images", plain), y_axis(y, left, WIDTH - 8, percent),
        *reversed(drawn),
    )  # fmt: skip


def _size_curve(one: Sizes, x: Scale, y: Scale) -> Markup:
    def along(values: Sequence[float]) -> list[tuple[float, float]]:
        return [(x(n), y(float(v))) for n, v in zip(one.numbers, values, strict=True)]

    low, high = (along([edge(each) for each in one.values]) for edge in (min, max))
    mean = along([float(np.mean(each)) for each in one.values])
    parts = [element("path", d=path([*high, *reversed(low)]) + "Z", class_="band")]
    parts += [element("circle", cx=at[0], cy=at[1], r=3.2, class_="dot") for at in mean]
    parts.append(element("path", d=path(mean), class_="line val"))
    if one.law:
        law = path([(x(n), y(value)) for n, value in one.law])
        parts.append(element("path", d=law, class_="line train"))
    return element("g", element("title", one.label), *parts, class_=one.color)


def tuning(curves: Sequence[TuningCurve], name: str, label: Callable[[float], str]) -> Markup:
    """Plot the best of k trials by k: median (solid) with its CI as a band, mean (dashed).

    The band ends where few trials give no bound.
    """
    left, bottom = 52.0, 200.0
    points = [curve.points() for curve in curves]
    everywhere = [point for each in points for point in each]
    ends = [v for p in everywhere for v in (p.expected, p.median, p.low, p.high) if v is not None]
    x = fit([point.k for point in everywhere], left, WIDTH - 12)
    y = fit(ends, bottom, 8, may_be_log=False)
    drawn = [
        element("g", element("title", curve.name), *_tuning_lines(each, x, y), class_=color(number))
        for number, (curve, each) in enumerate(zip(curves, points, strict=True))
    ]
    if len(curves) > 1:
        drawn += [
            text((x(each[-1].k), y(each[-1].median) - 5), _clipped(curve.name), "end", "halo")
            for curve, each in zip(curves, points, strict=True)
        ]
    words = "; ".join(
        f"{curve.name}: {label(round(each[-1].median, 4))} after {each[-1].k} trials"
        for curve, each in zip(curves, points, strict=True)
    )
    return figure(
        WIDTH, 240, f"best {name} by trials", words,
        x_axis(x, bottom, 8, "trials", plain), y_axis(y, left, WIDTH - 8, label), *drawn,
    )  # fmt: skip


def _tuning_lines(points: Sequence[Point], x: Scale, y: Scale) -> list[Markup]:
    bounded = [(x(p.k), p.low, p.high) for p in points if p.low is not None and p.high is not None]
    edge = [(at, y(high)) for at, _, high in bounded]
    edge += [(at, y(low)) for at, low, _ in reversed(bounded)]
    band = [element("path", d=path(edge) + "Z", class_="band")] if edge else []
    mean, middle = (
        [(x(point.k), y(value)) for point, value in zip(points, values, strict=True)]
        for values in ([p.expected for p in points], [p.median for p in points])
    )
    return [
        *band,
        element("path", d=path(mean), class_="line train"),
        element("path", d=path(middle), class_="line val"),
    ]


def risk_coverage(coverage: Values, risk: Values) -> Markup:
    """Plot the error of the images that are kept, by the fraction kept."""
    left, bottom = 52.0, 200.0
    shown = np.unique(np.linspace(0, len(coverage) - 1, MOST_POINTS).round().astype(int))
    x = Scale(0, 1, left + 6, WIDTH - 20)
    y = Scale(0, max(float(risk.max()), 1e-3) * 1.05, bottom, 8)
    curve = path([(x(float(coverage[at])), y(float(risk[at]))) for at in shown])
    return figure(
        WIDTH, 240, "error by images kept",
        f"error {percent(round(float(risk[-1]), 4))} when all images are kept",
        x_axis(x, bottom, 8, "images kept, most probable first", percent),
        y_axis(y, left, WIDTH - 8, percent),
        element("g", element("path", d=curve, class_="line val"), class_=color(0)),
    )  # fmt: skip


def feature_map(
    points: NDArray[np.floating[Any]],
    labels: NDArray[np.int64],
    predicted: NDArray[np.int64],
    classes: Sequence[str],
) -> Markup:
    """A dot per image at its point, (N, 2), colored by class; what is classified wrongly, ringed.

    The name of a class is at the median position of its images.
    """
    x, y = (fit(column.tolist(), 8, WIDTH - 8, may_be_log=False) for column in points.T)
    positions = [(x(float(a)), y(float(b))) for a, b in points]
    drawn = []
    for label in np.unique(labels):
        inside = [positions[n] for n in np.flatnonzero(labels == label)]
        circles = [element("circle", cx=a, cy=b, r=2.5, class_="dot") for a, b in inside]
        title = element("title", classes[label])
        drawn.append(element("g", title, *circles, class_=f"c{label % COLORS}"))
    wrong = np.flatnonzero(labels != predicted)
    drawn += [element("circle", cx=positions[n][0], cy=positions[n][1], r=4.5, class_="miss")
              for n in wrong]  # fmt: skip
    for label in np.unique(labels) if len(classes) <= MOST_NAMED else ():
        a, b = np.median([positions[n] for n in np.flatnonzero(labels == label)], axis=0)
        name = _clipped(classes[label])
        half = len(name) * LETTER / 2
        middle = min(max(float(a), half), WIDTH - half)
        drawn.append(text((middle, float(b) + 4), name, class_="halo"))
    words = (
        f"{len(points)} images of {len(np.unique(labels))} classes, {len(wrong)} of them "
        "misclassified"
    )
    return figure(WIDTH, WIDTH, "test images by their features", words, *drawn)


def parallel(keys: Sequence[str], runs: Values, scores: Sequence[float], name: str) -> Markup:
    """Parallel coordinates: a line per run through its value on each key's axis, to its score.

    ``runs`` is (runs, keys). Color and the last axis show the score; the best lines are on top.
    """
    gap, top, bottom = 84.0, 40.0, 256.0
    columns = [*runs.T, np.array(scores)]
    scales = [fit(column.tolist(), bottom, top) for column in runs.T]
    scales.append(fit(scores, bottom, top, may_be_log=False))
    positions = [60 + gap * position for position in range(len(columns))]
    axes = [
        _upright(scale, x, 14 + 14 * (number % 2), key, percent if key == name else plain)
        for number, (scale, x, key) in enumerate(zip(scales, positions, [*keys, name], strict=True))
    ]
    lines = []
    for run in np.argsort(scores, kind="stable"):
        fraction = (scores[run] - min(scores)) / (max(scores) - min(scores) or 1)
        points = [
            (x, scale(float(column[run])))
            for x, scale, column in zip(positions, scales, columns, strict=True)
        ]
        lines.append(
            element("path", d=path(points), class_="line shade", style=f"--fraction:{fraction:.2f}")
        )
    best = int(np.argmax(scores))
    chosen = ", ".join(f"{key}={plain(v)}" for key, v in zip(keys, runs[best], strict=True))
    words = f"{len(scores)} runs; the best, {percent(round(scores[best], 4))}, with {chosen}"
    return figure(positions[-1] + 60, 270, f"{name} by {len(keys)} keys", words, *lines, *axes)


def _upright(scale: Scale, x: float, y: float, key: str, label: Callable[[float], str]) -> Markup:
    parts = [line((x, scale.start), (x, scale.end), "axis"), text((x, y), key, class_="name")]
    for tick in scale.ticks():
        parts += [text((x + 5, scale(tick) + 4), label(tick), "start", "halo")]
    return Markup("").join(parts)
