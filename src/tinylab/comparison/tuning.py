"""Tuning curves: the best validation result after k trials of a search (Dodge et al., 2019)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinylab.comparison.statistics import LEVEL
from tinylab.config.metrics import METRICS
from tinylab.store.sweep import SweepFolder
from tinylab.ui.tables import Column, Section

LEAST = 5  # finished trials needed for a curve
ENDED = ("finished", "pruned", "failed")
MOST_POINTS = 100  # of a curve
NOTES = (
    "expected: mean of the best of k trials in random order (Dodge et al. 2019). "
    "95% CI: of the median best, by order statistics (Lourie et al. 2023). "
    "Compare searches at equal k; later trials of tpe are better than its first.",
    "A pruned or failed trial counts as the worst finished one.",
)


@dataclass(frozen=True)
class Point:
    """The best of ``k`` trials: its mean, and its median with 95% CI (None: unbounded)."""

    k: int
    expected: float
    median: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class TuningCurve:
    """The tuning curve of a search. ``values``: of its trials by the validation ``metric``."""

    name: str
    metric: str
    values: tuple[float, ...]

    def point(self, k: int) -> Point:
        """The best of ``k`` trials, from 1 to all."""
        sign = -1.0 if METRICS[self.metric].better == "lower" else 1.0
        ordered = np.sort(sign * np.array(self.values))
        median, low, high = _median(ordered, k)
        ends = [None if end is None else sign * end for end in (low, high)]
        low, high = ends if sign > 0 else ends[::-1]
        return Point(k, sign * expected_best(ordered, k), sign * median, low, high)

    def points(self) -> list[Point]:
        """Return the curve, with at most MOST_POINTS values of k."""
        counts = np.geomspace(1, len(self.values), MOST_POINTS).round().astype(int)
        return [self.point(int(k)) for k in np.unique(counts)]


def of_sweeps(paths: Sequence[str | Path]) -> list[TuningCurve]:
    """Return the curves of the searches in ``paths`` with enough trials."""
    return [curve for path in paths if (curve := _of_sweep(SweepFolder(Path(path)))) is not None]


def _of_sweep(folder: SweepFolder) -> TuningCurve | None:
    state = folder.state() if folder.is_sweep() else None
    if state is None or folder.jobs() is None or "search" not in state:
        return None
    metric = str(state["search"]["metric"])
    values = _values(state["jobs"])
    known = [value for value in values if value is not None]
    if len(known) < LEAST:
        return None
    worst = max(known) if METRICS[metric].better == "lower" else min(known)
    filled = tuple(worst if value is None else value for value in values)
    return TuningCurve(folder.path.resolve().name, metric, filled)


def _values(rows: Sequence[dict[str, Any]]) -> list[float | None]:
    """Return the mean over the repeats of each trial that has ended; None without a result."""
    by_trial: dict[Any, list[dict[str, Any]]] = {}
    for row in rows:
        by_trial.setdefault(row["number"], []).append(row)
    means: list[float | None] = []
    for repeats in by_trial.values():
        state = repeats[0].get("setting", repeats[0]["state"])
        if state not in ENDED:
            continue
        values = [row["value"] for row in repeats]
        means.append(float(np.mean(values)) if state == "finished" else None)
    return means


def expected_best(ordered: NDArray[np.float64], k: int) -> float:
    """Return the mean of the largest of ``k`` values drawn without replacement from ``ordered``.

    ordered: (n,), ascending. The i-th, from 1, is the largest in C(i-1, k-1) of C(n, k) draws: the
    unbiased estimate of the expected best of k independent trials (Tang et al., ACL 2020).
    """
    n = len(ordered)
    # The probability that the largest is the n-th is k/n; each one before it follows by recursion.
    chances = np.zeros(n)
    chances[n - 1] = k / n
    for i in range(n - 1, k - 1, -1):
        chances[i - 1] = chances[i] * (i - k + 1) / i
    return float(chances @ ordered)


def _median(ordered: NDArray[np.float64], k: int) -> tuple[float, float | None, float | None]:
    """Return the median of the largest of ``k`` trials, with the ends of its 95% CI.

    The best of k is below x with probability F(x)^k, so its median is the quantile of one trial at
    q = 0.5^(1/k). Its interval is bounded by two order statistics, which is valid for any
    distribution (Lourie, Cho and He, 2023).
    """
    from scipy.stats import binom

    n, q = len(ordered), 0.5 ** (1 / k)
    low = int(binom.ppf((1 - LEVEL) / 2, n, q))
    high = int(binom.ppf((1 + LEVEL) / 2, n, q)) + 1
    middle = float(np.quantile(ordered, q, method="inverted_cdf"))
    return (
        middle,
        float(ordered[low - 1]) if low >= 1 else None,
        float(ordered[high - 1]) if high <= n else None,
    )


# ---------------------------------------------------------------- display


def sections(curves: Sequence[TuningCurve]) -> list[Section]:
    """Return the curves as tables, with searches side by side at each k; one table per metric."""
    return [
        _section(metric, [each for each in curves if each.metric == metric])
        for metric in dict.fromkeys(each.metric for each in curves)
    ]


def _section(metric: str, curves: Sequence[TuningCurve]) -> Section:
    sizes = {len(each.values) for each in curves}
    counts = sorted({*(2**power for power in range(max(sizes).bit_length())), *sizes})
    rows = [
        (k, each.name, each.point(k)) for k in counts for each in curves if k <= len(each.values)
    ]
    form = METRICS[metric].format.format
    table = [
        Column(("", "k"), [str(k) for k, _, _ in rows]),
        Column(("", "search"), [name for _, name, _ in rows], is_words=True),
        Column(("", "expected"), [form(point.expected) for _, _, point in rows]),
        Column(("", "95% CI"), [span(point, form) for _, _, point in rows]),
    ]
    words = f"Tuning curves: best {METRICS[metric].label} after k trials"
    return Section([words], table, NOTES)


def span(point: Point, form: Callable[[float], str]) -> str:
    """Return the interval of a point in words; with few trials it may be unbounded."""
    low, high = ("" if end is None else form(end) for end in (point.low, point.high))
    if low and high:
        return f"{low.removesuffix('%')}–{high.removesuffix('%')}"
    return f"{low} or above" if low else f"{high} or below" if high else "-"
