"""The statistics: a few lines each round SciPy, which is imported where it is called.

That takes most of a second, and a list of runs does not need it.
"""

import bisect
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev, variance

import numpy as np
from numpy.typing import ArrayLike, NDArray

LEVEL = 0.95  # of all intervals
ALPHA = 0.05  # of all tests
POWER = 0.8
Cell = tuple[str, str]  # the split and the training seed of a run, as strings
Cells = Mapping[Cell, float]  # a metric of each run
MOST = 1024  # maximum number of repetitions considered in power calculations


@dataclass(frozen=True)
class Summary:
    """A metric over ``num`` runs: mean, standard deviation (n - 1), 95% CI of the mean.

    With a single run, ``std``, ``low`` and ``high`` are None; ``low`` and ``high`` also where all
    values are equal, which would make an interval without width.
    """

    num: int
    mean: float
    std: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Outcome:
    """A mean difference with its 95% confidence interval, and the two-sided p-value.

    ``error`` and ``freedom`` are the standard error and the degrees of freedom of a t test; None
    where it was no t test, and the interval is a normal distribution's.
    """

    difference: float
    low: float
    high: float
    p: float
    error: float | None = None
    freedom: float | None = None

    def interval(self, level: float) -> tuple[float, float]:
        """The confidence interval at another level, such as 0.99."""
        from scipy import stats

        freedom = math.inf if self.freedom is None else self.freedom
        wanted, usual = stats.t.ppf([(1 + level) / 2, (1 + LEVEL) / 2], freedom)
        wider = float(wanted / usual)
        middle, half = (self.low + self.high) / 2, (self.high - self.low) / 2
        return middle - wider * half, middle + wider * half


@dataclass(frozen=True)
class Adjusted:
    """An outcome as one of a family: its adjusted p-value and its simultaneous interval."""

    p: float
    low: float
    high: float


@dataclass(frozen=True)
class Posterior:
    """The probabilities that a difference is below, inside and above the region of equivalence."""

    worse: float
    equal: float
    better: float


def design(cells: Collection[Cell]) -> tuple[int, int]:
    """Return the numbers of splits and seeds."""
    return len({split for split, _ in cells}), len({seed for _, seed in cells})


def is_crossed(cells: Collection[Cell]) -> bool:
    """Return whether splits and seeds are crossed: some occur more than once, neither is single."""
    return len(cells) > min(design(cells)) > 1


def summarize(cells: Cells, is_fraction: bool = False) -> Summary:
    """Summarize a metric of one or more runs, by split and seed: mean, sd, CI of the mean.

    The interval is Student's t over the runs, or over splits and seeds if these are crossed. With
    few runs it may exceed the range 0 to 1: that of a metric with ``is_fraction`` is clipped to it.
    """
    values = list(cells.values())
    mean = fmean(values)
    if len(values) < 2:
        return Summary(1, mean, None, None, None)
    if not have_spread(values):
        return Summary(len(values), mean, 0.0, None, None)
    from scipy import stats

    std = stdev(values)
    error, freedom = std / math.sqrt(len(values)), len(values) - 1.0
    if is_crossed(cells):
        error, freedom = crossed_error(cells)
    half = float(stats.t.ppf((1 + LEVEL) / 2, freedom)) * error
    low, high = mean - half, mean + half
    if is_fraction:
        low, high = max(low, 0.0), min(high, 1.0)
    return Summary(len(values), mean, std, low, high)


def crossed_error(cells: Cells, test_train_ratio: float = 0.0) -> tuple[float, float]:
    """Return the standard error of the mean over crossed splits and seeds, and its df.

    Runs that share a split or a seed are not independent. The variances of the mean over splits and
    over seeds are added, with the degrees of freedom of such a sum, as in the quasi-F ratio min F'
    (Clark, Journal of Verbal Learning and Verbal Behavior 12, 1973); ``test_train_ratio`` as in
    ``corrected_t``. Under the null hypothesis, a 5% test with this error rejects 0.4 to 6.5% of
    simulated factorials of 2 x 2 to 10 x 10, the plain t test over all runs up to 57%.
    """
    by_split, by_seed = _margin(cells, 0), _margin(cells, 1)
    a, b = len(by_split), len(by_seed)
    of_split, of_seed = variance(by_split) * (1 / a + test_train_ratio), variance(by_seed) / b
    total = of_split + of_seed
    least = variance(cells.values()) / len(cells)  # if everything is interaction of split and seed
    if total <= least:
        return math.sqrt(least), min(a, b) - 1.0
    return math.sqrt(total), total**2 / (of_split**2 / (a - 1) + of_seed**2 / (b - 1))


def _margin(cells: Cells, axis: int) -> list[float]:
    """Return the means of the cells of each split (axis 0) or each seed (axis 1)."""
    levels: dict[str, list[float]] = {}
    for cell, value in cells.items():
        levels.setdefault(cell[axis], []).append(value)
    return [fmean(values) for values in levels.values()]


def have_spread(differences: Sequence[float]) -> bool:
    """Return whether differences vary by more than rounding, as a t test requires."""
    return float(np.ptp(differences)) > 1e-12


def paired_t(differences: Sequence[float]) -> Outcome:
    """Student's t test of at least two paired differences that vary."""
    n = len(differences)
    return _t_test(fmean(differences), stdev(differences) / math.sqrt(n), n - 1)


def corrected_t(differences: Sequence[float], test_train_ratio: float) -> Outcome:
    """The corrected resampled t test (Nadeau and Bengio, Machine Learning 52, 2003, section 3).

    ``differences``: one per random split of one dataset. Their training sets overlap, so they are
    not independent: the variance of their mean is (1/n + num_test/num_train) s^2 instead of s^2/n.
    """
    n = len(differences)
    error = stdev(differences) * math.sqrt(1 / n + test_train_ratio)
    return _t_test(fmean(differences), error, n - 1)


def crossed_t(differences: Cells, test_train_ratio: float) -> Outcome:
    """The t test of differences over crossed splits and seeds, with ``crossed_error``."""
    error, freedom = crossed_error(differences, test_train_ratio)
    return _t_test(fmean(differences.values()), error, freedom)


def _t_test(mean: float, error: float, freedom: float) -> Outcome:
    from scipy import stats

    low, high = stats.t.interval(LEVEL, freedom, loc=mean, scale=error)
    p = float(2 * stats.t.sf(abs(mean) / error, freedom))
    return Outcome(mean, float(low), float(high), p, error, freedom)


def posterior(outcome: Outcome, rope: float) -> Posterior | None:
    """The Bayesian correlated t test (Benavoli, Corani, Demsar and Zaffalon, JMLR 18, 2017).

    ``rope``: half the width of the region of practical equivalence, a fraction, 0 or more. None if
    the test was not a t test. With the prior p(mean, sd) ~ 1/sd the mean difference of n runs has
    Student's t as its posterior: n - 1 degrees of freedom, and the squared scale (1/n + rho/(1 -
    rho)) s^2, where rho is the correlation between the differences:

    - training seeds on one test set: rho = 0. Given the images, the runs are independent draws,
      and the posterior is of the mean over seeds on these images, not on others.
    - folds and split seeds: rho = num_test / (num_test + num_train), the test fraction, since the
      training sets overlap. rho/(1 - rho) is then num_test / num_train, so the scale is the
      standard error of ``corrected_t`` (Nadeau and Bengio, 2003). baycomp has rho = 1/folds, which
      is the same unless images are held out for validation.
    - splits crossed with seeds, and unpaired seeds: no single rho. The error and the degrees of
      freedom of ``crossed_error`` and of Welch approximate the posterior of a sum of two variances
      (the Behrens-Fisher problem) as they do the distribution of its estimate.
    """
    if outcome.error is None or outcome.freedom is None:
        return None
    from scipy import stats

    known = stats.t(outcome.freedom, loc=outcome.difference, scale=outcome.error)
    worse, better = float(known.cdf(-rope)), float(known.sf(rope))
    return Posterior(worse, max(1 - worse - better, 0.0), better)


def welch(first: Sequence[float], second: Sequence[float]) -> Outcome:
    """Welch's t test (1947) of two independent groups of at least two, not both constant."""
    from scipy import stats

    result = stats.ttest_ind(first, second, equal_var=False)
    low, high = result.confidence_interval(LEVEL)
    error = math.sqrt(variance(first) / len(first) + variance(second) / len(second))
    p, freedom = float(result.pvalue), float(result.df)
    return Outcome(fmean(first) - fmean(second), float(low), float(high), p, error, freedom)


def wilcoxon(differences: Sequence[float]) -> float:
    """The p-value of the Wilcoxon signed-rank test (1945), exact for few pairs without ties."""
    from scipy import stats

    # Equal differences may differ in their last bits, which would hide ties.
    return float(stats.wilcoxon(np.round(differences, 12)).pvalue)


def mann_whitney(first: Sequence[float], second: Sequence[float]) -> float:
    """The p-value of the rank-sum test (Mann and Whitney, 1947) of two independent groups."""
    from scipy import stats

    return float(stats.mannwhitneyu(np.round(first, 12), np.round(second, 12)).pvalue)


def mcnemar(first_right: NDArray[np.bool_], second_right: NDArray[np.bool_]) -> Outcome:
    """The exact McNemar test (1947) on which items two classifiers get right, each bool (N,).

    The interval of the difference of accuracies is that of Agresti and Min (Statistics in Medicine
    24, 2005): Wald's, after adding half an item to each cell of the two-by-two table. If p is near
    0.05, the interval may or may not include 0, whatever the exact test says.
    """
    from scipy import stats

    N = len(first_right)
    only_first = int((first_right & ~second_right).sum())
    only_second = int((second_right & ~first_right).sum())
    discordant, gain = only_first + only_second, only_first - only_second
    p = 1.0 if discordant == 0 else float(stats.binomtest(only_first, discordant).pvalue)
    middle = gain / (N + 2)
    error = math.sqrt((discordant + 1) / (N + 2) - middle**2) / math.sqrt(N + 2)
    half = float(stats.norm.ppf((1 + LEVEL) / 2)) * error
    return Outcome(gain / N, middle - half, middle + half, p)


def holm(p_values: ArrayLike) -> list[float]:
    """Return the p-values of one family, adjusted for their number (Holm, 1979)."""
    p = np.asarray(p_values, dtype=float)
    order = np.argsort(p)
    adjusted = np.empty_like(p)
    adjusted[order] = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)).clip(max=1.0)
    return [float(each) for each in adjusted]


def adjust(outcomes: Sequence[Outcome]) -> list[Adjusted]:
    """The outcomes of one family of m tests, adjusted so that p-values and intervals agree.

    p-values are Holm's (1979). No two-sided intervals use up the power of Holm's method
    (Strassburger and Bretz, Statistics in Medicine 27, 2008), so the intervals are Bonferroni's:
    each at the level 1 - 0.05/m, which together contain all m differences in at least 95% of
    experiments, however the tests depend on one another (Dunn, JASA 56, 1961). Where the test
    decides otherwise than this interval (Holm rejects what Bonferroni does not; rank tests and
    McNemar's exact test have no interval of their own), the nearer end is 0, as in the compatible
    bounds of Strassburger and Bretz. So 0 is never inside an interval where p < 0.05, nor outside
    where p >= 0.05.
    """
    adjusted = holm([outcome.p for outcome in outcomes])
    level = 1 - ALPHA / max(len(outcomes), 1)
    return [
        Adjusted(p, *_agreeing(*outcome.interval(level), outcome.difference, p < ALPHA))
        for outcome, p in zip(outcomes, adjusted, strict=True)
    ]


def _agreeing(low: float, high: float, difference: float, is_shown: bool) -> tuple[float, float]:
    """The interval, with its nearer end at 0 where it disagrees with the test."""
    if is_shown == (low > 0 or high < 0):
        return low, high
    return (0.0, high) if difference > 0 else (low, 0.0)


def pairs_needed(
    std: float, detect: float, test_train_ratio: float = 0.0, alpha: float = ALPHA
) -> int | None:
    """How many pairs show a mean difference of ``detect`` with 80% power, by a two-sided t test.

    ``std``: of the pairs' differences, above 0. With ``test_train_ratio`` the corrected resampled
    t test is meant, which learns less and less from each further split. ``alpha``: the level of
    the test. None: more than MOST.
    """

    def shift(n: int) -> float:
        return detect / std * math.sqrt(n / (1 + n * test_train_ratio))

    return _least_with_power(lambda n: _power(shift(n), n - 1, alpha))


def group_size_needed(std: float, detect: float, alpha: float = ALPHA) -> int | None:
    """Return the same for the size of each of two independent groups with this sd."""
    effect = detect / std
    return _least_with_power(lambda n: _power(effect * math.sqrt(n / 2), 2 * n - 2, alpha))


def _power(shift: float, freedom: int, alpha: float) -> float:
    """The probability that a two-sided t test rejects; ``shift``: the noncentrality, above 0."""
    from scipy import stats

    critical = stats.t.isf(alpha / 2, freedom)
    return float(stats.nct.sf(critical, freedom, shift) + stats.nct.cdf(-critical, freedom, shift))


def _least_with_power(power: Callable[[int], float]) -> int | None:
    def is_enough(n: int) -> bool:
        return not power(n) < POWER  # SciPy's noncentral t is NaN in the tail, where the power is 1

    size = 2
    while not is_enough(size):
        if size >= MOST:
            return None
        size *= 2
    sizes = range(2, size)
    return sizes.start + bisect.bisect_left(sizes, True, key=is_enough)
