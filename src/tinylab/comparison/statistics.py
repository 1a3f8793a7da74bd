"""The statistics: a few lines each round SciPy or statsmodels, imported where they are called.

Both take most of a second to import, and a list of runs needs neither.
"""

import bisect
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev, variance

import numpy as np
from numpy.typing import ArrayLike, NDArray

LEVEL = 0.95  # of every interval
ALPHA = 0.05  # of every test
POWER = 0.8
Cell = tuple[str, str]  # the split and the training seed of a run, as texts
Cells = Mapping[Cell, float]  # a figure of each run
MOST = 1024  # repetitions that are thought of when asking how many would be enough


@dataclass(frozen=True)
class Summary:
    """A figure over ``num`` runs: mean, standard deviation (n - 1), 95 % interval of the mean.

    With one run there is no spread: ``std``, ``low`` and ``high`` are None.
    """

    num: int
    mean: float
    std: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Outcome:
    """A mean difference with its 95 % interval, and the two-sided p-value.

    ``error`` and ``freedom`` are the standard error and the degrees of freedom of a t test; None
    where it was no t test.
    """

    difference: float
    low: float
    high: float
    p: float
    error: float | None = None
    freedom: float | None = None


@dataclass(frozen=True)
class Posterior:
    """The probabilities that a difference is below, within and above the region of equivalence."""

    worse: float
    equal: float
    better: float


def design(cells: Collection[Cell]) -> tuple[int, int]:
    """The number of splits and of seeds."""
    return len({split for split, _ in cells}), len({seed for _, seed in cells})


def is_crossed(cells: Collection[Cell]) -> bool:
    """Whether some splits, or seeds, come more than once, and neither is one alone."""
    return len(cells) > min(design(cells)) > 1


def summarize(cells: Cells) -> Summary:
    """A figure of one or more runs, by their split and seed: mean, sd, interval of the mean.

    The interval is Student's t over the runs, or over splits and seeds where these are crossed.
    """
    values = list(cells.values())
    mean = fmean(values)
    if len(values) < 2:
        return Summary(1, mean, None, None, None)
    from scipy import stats

    std = stdev(values)
    error, freedom = std / math.sqrt(len(values)), len(values) - 1.0
    if is_crossed(cells):
        error, freedom = crossed_error(cells)
    half = float(stats.t.ppf((1 + LEVEL) / 2, freedom)) * error
    return Summary(len(values), mean, std, mean - half, mean + half)


def crossed_error(cells: Cells, test_train_ratio: float = 0.0) -> tuple[float, float]:
    """The standard error of the mean over crossed splits and seeds, and its degrees of freedom.

    Runs of one split share its luck, and runs of one seed that of the seed, so they are not
    independent. The variances of the mean over splits and over seeds are added, with the degrees
    of freedom of such a sum, as in the quasi-F ratio min F' (Clark, Journal of Verbal Learning
    and Verbal Behavior 12, 1973); ``test_train_ratio`` as in ``corrected_t``. With no difference
    at all, a test at 5 % by this error rejects 0.4 to 6.5 % of simulated factorials of 2 x 2 to
    10 x 10, the plain t test over all runs up to 57 %.
    """
    by_split, by_seed = _margin(cells, 0), _margin(cells, 1)
    a, b = len(by_split), len(by_seed)
    of_split, of_seed = variance(by_split) * (1 / a + test_train_ratio), variance(by_seed) / b
    total = of_split + of_seed
    least = variance(cells.values()) / len(cells)  # where all is interaction of split and seed
    if total <= least:
        return math.sqrt(least), min(a, b) - 1.0
    return math.sqrt(total), total**2 / (of_split**2 / (a - 1) + of_seed**2 / (b - 1))


def _margin(cells: Cells, axis: int) -> list[float]:
    """The means of the cells of each split (axis 0) or of each seed (axis 1)."""
    levels: dict[str, list[float]] = {}
    for cell, value in cells.items():
        levels.setdefault(cell[axis], []).append(value)
    return [fmean(values) for values in levels.values()]


def have_spread(differences: Sequence[float]) -> bool:
    """Whether differences of shares differ by more than rounding: without it no t test exists."""
    return float(np.ptp(differences)) > 1e-12


def paired_t(differences: Sequence[float]) -> Outcome:
    """Student's t test of two or more differences of pairs, which have spread."""
    n = len(differences)
    return _t_test(fmean(differences), stdev(differences) / math.sqrt(n), n - 1)


def corrected_t(differences: Sequence[float], test_train_ratio: float) -> Outcome:
    """The corrected resampled t test (Nadeau and Bengio, Machine Learning 52, 2003, section 3).

    ``differences``: one for each of n random splits of one dataset, whose training sets overlap,
    so that they are not independent: the variance of their mean is taken as
    (1/n + num_test/num_train) s^2 in place of s^2/n.
    """
    n = len(differences)
    error = stdev(differences) * math.sqrt(1 / n + test_train_ratio)
    return _t_test(fmean(differences), error, n - 1)


def crossed_t(differences: Cells, test_train_ratio: float) -> Outcome:
    """The t test of differences over crossed splits and seeds, by ``crossed_error``."""
    error, freedom = crossed_error(differences, test_train_ratio)
    return _t_test(fmean(differences.values()), error, freedom)


def _t_test(mean: float, error: float, freedom: float) -> Outcome:
    from scipy import stats

    low, high = stats.t.interval(LEVEL, freedom, loc=mean, scale=error)
    p = float(2 * stats.t.sf(abs(mean) / error, freedom))
    return Outcome(mean, float(low), float(high), p, error, freedom)


def posterior(outcome: Outcome, rope: float) -> Posterior | None:
    """The Bayesian correlated t test (Benavoli, Corani, Demsar and Zaffalon, JMLR 18, 2017).

    ``rope``: half the width of the region of practical equivalence, a fraction, 0 or more. None
    where the test was not a t test. With the prior p(mean, sd) ~ 1/sd the mean difference of n
    runs has Student's t as its posterior: n - 1 degrees of freedom, and the squared scale
    (1/n + rho/(1 - rho)) s^2, where rho is the correlation between the differences:

    - training seeds on one test set: rho = 0. Given the images, the runs are independent draws,
      and the posterior is of the mean over seeds on these images; it says nothing of other images.
    - folds and split seeds: rho = num_test / (num_test + num_train), the test fraction, since the
      training sets overlap. rho/(1 - rho) is then num_test / num_train, so the scale is the
      standard error of ``corrected_t`` (Nadeau and Bengio, 2003). baycomp has rho = 1/folds, which
      is the same unless images are set aside for validation.
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
    """Welch's t test (1947) of two independent groups of two or more, not both without spread."""
    from scipy import stats

    result = stats.ttest_ind(first, second, equal_var=False)
    low, high = result.confidence_interval(LEVEL)
    error = math.sqrt(variance(first) / len(first) + variance(second) / len(second))
    p, freedom = float(result.pvalue), float(result.df)
    return Outcome(fmean(first) - fmean(second), float(low), float(high), p, error, freedom)


def wilcoxon(differences: Sequence[float]) -> float:
    """The p-value of Wilcoxon's signed-rank test (1945), exact for few pairs without ties."""
    from scipy import stats

    # Equal differences of shares may differ in their last bits, which would hide ties.
    return float(stats.wilcoxon(np.round(differences, 12)).pvalue)


def mann_whitney(first: Sequence[float], second: Sequence[float]) -> float:
    """The p-value of the rank-sum test (Mann and Whitney, 1947) of two independent groups."""
    from scipy import stats

    return float(stats.mannwhitneyu(np.round(first, 12), np.round(second, 12)).pvalue)


def mcnemar(first_right: NDArray[np.bool_], second_right: NDArray[np.bool_]) -> Outcome:
    """The exact test of McNemar (1947) on which items two classifiers have right, each bool (N,).

    The interval of the difference of accuracies is that of Agresti and Min (Statistics in Medicine
    24, 2005): Wald's, after half an item is added to each cell of the two-by-two table. Where p is
    near 0.05 it may include 0 or not, whatever the exact test says.
    """
    from statsmodels.stats.contingency_tables import mcnemar as exact_mcnemar
    from statsmodels.stats.weightstats import DescrStatsW

    N = len(first_right)
    only_first = int((first_right & ~second_right).sum())
    only_second = int((second_right & ~first_right).sum())
    table = [[0, only_first], [only_second, 0]]  # the items that both have right do not enter
    p = float(exact_mcnemar(table, exact=True).pvalue)
    counts = [only_first + 0.5, only_second + 0.5, N - only_first - only_second + 1]
    low, high = DescrStatsW([1, -1, 0], weights=counts).zconfint_mean(1 - LEVEL)
    return Outcome((only_first - only_second) / N, float(low), float(high), p)


def holm(p_values: ArrayLike) -> list[float]:
    """The p-values of one family, adjusted for their number (Holm, 1979)."""
    if np.size(p_values) == 0:
        return []
    from statsmodels.stats.multitest import multipletests

    return [float(p) for p in multipletests(p_values, ALPHA, method="holm")[1]]


def pairs_needed(std: float, detect: float, test_train_ratio: float = 0.0) -> int | None:
    """How many pairs show a mean difference of ``detect`` with 80 % power, by a t test at 5 %.

    ``std``: of the pairs' differences, above 0. With ``test_train_ratio`` the corrected resampled
    t test is meant, which learns less and less from each further split. None: more than MOST.
    """
    from statsmodels.stats.power import TTestPower

    def power(n: int) -> float:
        effect = detect / std / math.sqrt(1 + n * test_train_ratio)
        return float(TTestPower().power(effect, n, ALPHA))

    return _least_with_power(power)


def group_size_needed(std: float, detect: float) -> int | None:
    """The same for the size of each of two independent groups of this standard deviation."""
    from statsmodels.stats.power import TTestIndPower

    return _least_with_power(lambda n: float(TTestIndPower().power(detect / std, n, ALPHA)))


def _least_with_power(power: Callable[[int], float]) -> int | None:
    def is_enough(n: int) -> bool:
        return not power(n) < POWER  # SciPy's noncentral t is NaN far out, where the power is 1

    size = 2
    while not is_enough(size):
        if size >= MOST:
            return None
        size *= 2
    sizes = range(2, size)
    return sizes.start + bisect.bisect_left(sizes, True, key=is_enough)
