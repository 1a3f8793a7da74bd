"""The statistics: each a few lines round SciPy or statsmodels, which are imported where they count.

Units are the caller's: accuracies go in and differences come out as shares.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

LEVEL = 0.95  # of every interval
ALPHA = 1 - LEVEL  # of every verdict
POWER = 0.8


@dataclass(frozen=True)
class Summary:
    """A figure over ``num`` repetitions: mean, standard deviation (n - 1), Student's t interval.

    With one repetition there is no spread: ``std``, ``low`` and ``high`` are None.
    """

    num: int
    mean: float
    std: float | None
    low: float | None
    high: float | None


def summarize(values: Sequence[float]) -> Summary:
    """Mean, spread and 95 % interval of the mean (Student, 1908) of one or more values."""
    mean = fmean(values)
    if len(values) < 2:
        return Summary(len(values), mean, None, None, None)
    from scipy import stats

    std = stdev(values)
    half = stats.t.ppf((1 + LEVEL) / 2, len(values) - 1) * std / math.sqrt(len(values))
    return Summary(len(values), mean, std, mean - half, mean + half)


def wilson(num_correct: float, num: float) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson, 1927); ``num_correct`` may be a mean over runs."""
    from statsmodels.stats.proportion import proportion_confint

    low, high = proportion_confint(num_correct, num, alpha=ALPHA, method="wilson")
    return float(low), float(high)
