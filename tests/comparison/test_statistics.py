"""The statistics against published examples and against the libraries' other ways to them."""

import math
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.power import TTestIndPower, TTestPower

from tinylab.comparison.statistics import (
    Outcome,
    adjust,
    corrected_t,
    crossed_error,
    crossed_t,
    group_size_needed,
    have_spread,
    holm,
    is_crossed,
    mann_whitney,
    mcnemar,
    paired_t,
    pairs_needed,
    posterior,
    summarize,
    welch,
    wilcoxon,
)

pytestmark = pytest.mark.costly

# Hours of sleep gained with two drugs (Cushny and Peebles, 1905), by which Student explained his
# test; the expected values are those of R's documentation of t.test.
DRUG_1 = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]
DRUG_2 = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]
GAINED = [a - b for a, b in zip(DRUG_1, DRUG_2, strict=True)]
# Hamilton's depression scale before and after (Hollander and Wolfe, 1973, page 29).
BEFORE = [1.83, 0.50, 1.62, 2.48, 1.68, 1.88, 1.55, 3.06, 1.30]
AFTER = [0.878, 0.647, 0.598, 2.05, 1.06, 1.29, 1.06, 3.14, 1.29]
# Permeability of a membrane at term and at 12 to 26 weeks (Hollander and Wolfe, 1973, page 69).
TERM = [0.80, 0.83, 1.89, 1.04, 1.45, 1.38, 1.91, 1.64, 0.73, 1.46]
EARLY = [1.15, 0.88, 0.90, 0.74, 1.21]


def over_seeds(values: list[float]) -> dict[tuple[str, str], float]:
    return {("0", str(seed)): value for seed, value in enumerate(values)}


def test_the_interval_of_a_mean_is_students() -> None:
    result = summarize(over_seeds(DRUG_1))
    assert result.num == 10
    assert result.mean == pytest.approx(0.75)
    assert result.std == pytest.approx(1.789010)
    assert (result.low, result.high) == pytest.approx((-0.5297804, 2.0297804))


def test_one_value_has_no_spread() -> None:
    result = summarize(over_seeds([0.9]))
    assert (result.num, result.mean) == (1, 0.9)
    assert result.std is result.low is result.high is None


def test_paired_t_is_students_example() -> None:
    result = paired_t(GAINED)
    assert result.difference == pytest.approx(-1.58)
    assert (result.low, result.high) == pytest.approx((-2.4598858, -0.7001142))
    assert result.p == pytest.approx(0.002833, abs=1e-6)


def test_welch_is_the_example_of_r() -> None:
    result = welch(DRUG_1, DRUG_2)
    assert result.difference == pytest.approx(-1.58)
    assert (result.low, result.high) == pytest.approx((-3.3654832, 0.2054832))
    assert result.p == pytest.approx(0.07939, abs=1e-5)


def test_wilcoxon_and_mann_whitney_are_the_examples_of_hollander_and_wolfe() -> None:
    differences = [a - b for a, b in zip(BEFORE, AFTER, strict=True)]
    assert wilcoxon(differences) == pytest.approx(2 * 0.01953, abs=1e-4)
    assert mann_whitney(TERM, EARLY) == pytest.approx(2 * 0.1272, abs=2e-4)


def test_wilcoxon_sees_ties_behind_rounding() -> None:
    noisy = [0.3 - 0.2, 0.2 - 0.1, 0.1, -0.1, 0.1, 0.1]
    assert wilcoxon(noisy) == pytest.approx(wilcoxon([1, 1, 1, -1, 1, 1]))


def test_the_corrected_t_by_hand() -> None:
    """n = 5, mean 0.02, s = 0.01 sqrt(2.5), variance factor 1/5 + 1/9 = 14/45."""
    result = corrected_t([0.00, 0.01, 0.02, 0.03, 0.04], 1 / 9)
    scale = 0.01 * math.sqrt(2.5 * 14 / 45)  # 0.0088192
    assert result.p == pytest.approx(2 * stats.t.sf(0.02 / scale, 4))
    assert (result.low, result.high) == pytest.approx(
        (0.02 - 2.776445 * scale, 0.02 + 2.776445 * scale)
    )


def test_the_corrected_t_is_scikit_learns_example() -> None:
    """Its guide "Statistical comparison of models using grid search" prints 0.750 and 0.227.

    That p-value is one-sided. 10 times 10 folds of 100 moons; SVMs with two kernels, by ROC AUC.
    """
    from sklearn.datasets import make_moons
    from sklearn.model_selection import RepeatedStratifiedKFold, cross_val_score
    from sklearn.svm import SVC

    X, y = make_moons(noise=0.352, random_state=1, n_samples=100)
    folds = RepeatedStratifiedKFold(n_splits=10, n_repeats=10, random_state=0)
    rbf, linear = (
        cross_val_score(SVC(kernel=kernel, random_state=0), X, y, scoring="roc_auc", cv=folds)
        for kernel in ("rbf", "linear")
    )
    result = corrected_t((rbf - linear).tolist(), 10 / 90)
    assert result.p / 2 == pytest.approx(0.227, abs=5e-4)
    assert stats.t.isf(result.p / 2, 99) == pytest.approx(0.750, abs=5e-4)


def integrated(differences: list[float], rho: float, rope: float) -> tuple[float, float, float]:
    """The three probabilities from the model itself, by integrals over the mean and the sd.

    The differences are jointly normal with mean mu, variance s^2 and correlation rho; the prior is
    1/s, as in Benavoli et al. (2017). Nothing here knows of Student's t.
    """
    n = len(differences)
    x = np.array(differences)
    inverse = np.linalg.inv(np.full((n, n), rho) + (1 - rho) * np.eye(n))
    spread = x.std(ddof=1)
    mus = np.linspace(x.mean() - 60 * spread, x.mean() + 60 * spread, 40_001)
    sds = np.geomspace(spread / 30, spread * 300, 1_500)
    one = inverse.sum()
    # (x - mu)' inverse (x - mu), for every mu
    squares = x @ inverse @ x - 2 * mus * (inverse @ x).sum() + mus**2 * one
    log_sds = np.log(sds)
    density = np.zeros_like(mus)
    for sd, log_sd in zip(sds, log_sds, strict=True):  # d sd / sd = d log sd
        density += np.exp(-n * (log_sd - np.log(spread)) - squares / (2 * sd**2))
    density /= density.sum()
    worse, better = density[mus < -rope].sum(), density[mus > rope].sum()
    return worse, 1 - worse - better, better


@pytest.mark.parametrize("rho", [0.0, 0.1, 0.2])
def test_the_posterior_is_that_of_the_model_by_integration(rho: float) -> None:
    differences = [0.011, 0.004, 0.017, -0.002, 0.009, 0.006, 0.001, 0.012]
    result = posterior(corrected_t(differences, rho / (1 - rho)), 0.005)
    assert result is not None
    expected = integrated(differences, rho, 0.005)
    assert (result.worse, result.equal, result.better) == pytest.approx(expected, abs=2e-4)


def test_the_posterior_is_the_published_formula_of_baycomp() -> None:
    """Its CorrelatedTTest: scale^2 = var (1/n + 1/(folds - 1)), n - 1 degrees of freedom."""
    rng = np.random.default_rng(0)
    differences = rng.normal(0.004, 0.01, 100)  # 10 times 10 folds
    mean, var, folds = differences.mean(), differences.var(ddof=1), 10
    scale = math.sqrt(var * (1 / 100 + 1 / (folds - 1)))
    left = stats.t.cdf(-0.01, 99, mean, scale)
    right = 1 - stats.t.cdf(0.01, 99, mean, scale)
    result = posterior(corrected_t(differences.tolist(), 0.1 / 0.9), 0.01)
    assert result is not None
    assert (result.worse, result.better) == pytest.approx((left, right))
    assert result.equal == pytest.approx(1 - left - right)


def test_without_a_region_the_posterior_is_the_one_sided_p() -> None:
    outcome = paired_t(GAINED)
    result = posterior(outcome, 0.0)
    assert result is not None
    assert (result.equal, result.better) == (0.0, pytest.approx(outcome.p / 2))


def test_the_posterior_of_unpaired_groups_is_near_behrens_and_fishers() -> None:
    """The difference of two independent posteriors, Student's t each, by simulation."""
    rng = np.random.default_rng(1)
    draws = [
        np.mean(x) + stats.sem(x) * rng.standard_t(len(x) - 1, 400_000) for x in (DRUG_1, DRUG_2)
    ]
    result = posterior(welch(DRUG_1, DRUG_2), 1.0)
    assert result is not None
    assert result.worse == pytest.approx(np.mean(draws[0] - draws[1] < -1.0), abs=0.015)


def test_mcnemar_has_no_posterior() -> None:
    assert posterior(mcnemar(np.array([True, False]), np.array([True, True])), 0.01) is None


SPREAD = st.lists(st.floats(-1, 1), min_size=2, max_size=9).filter(lambda x: np.ptp(x) > 1e-3)


@given(SPREAD)
def test_without_overlap_the_corrected_t_is_the_plain_one(differences: list[float]) -> None:
    plain, corrected = paired_t(differences), corrected_t(differences, 0.0)
    assert corrected.p == pytest.approx(plain.p)
    assert (corrected.low, corrected.high) == pytest.approx((plain.low, plain.high))


@given(SPREAD, st.floats(0.01, 1))
def test_overlap_makes_a_verdict_more_careful(differences: list[float], ratio: float) -> None:
    plain, corrected = paired_t(differences), corrected_t(differences, ratio)
    assert corrected.p >= plain.p
    assert corrected.low <= plain.low <= plain.high <= corrected.high


@given(SPREAD, SPREAD)
@settings(max_examples=10)
def test_turned_round_every_test_says_the_opposite(a: list[float], b: list[float]) -> None:
    one, other = welch(a, b), welch(b, a)
    assert (one.p, one.low, one.high) == pytest.approx((other.p, -other.high, -other.low))
    assert mann_whitney(a, b) == pytest.approx(mann_whitney(b, a))
    assert wilcoxon(a) == pytest.approx(wilcoxon([-x for x in a]))


def factorial(table: np.ndarray) -> dict[tuple[str, str], float]:
    """Rows are splits, columns seeds."""
    return {(str(i), str(j)): float(value) for (i, j), value in np.ndenumerate(table)}


def test_over_crossed_splits_and_seeds_it_is_min_f() -> None:
    """min F' = F1 F2 / (F1 + F2), its degrees of freedom (F1 + F2)^2 / (F1^2/n2 + F2^2/n1)."""
    table = np.array([[1.0, 4.0, 2.0], [3.0, 6.0, 3.5]])
    F1 = stats.ttest_1samp(table.mean(axis=1), 0).statistic ** 2
    F2 = stats.ttest_1samp(table.mean(axis=0), 0).statistic ** 2
    freedom = (F1 + F2) ** 2 / (F1**2 / 2 + F2**2 / 1)
    expected = stats.f.sf(F1 * F2 / (F1 + F2), 1, freedom)
    assert crossed_t(factorial(table), 0.0).p == pytest.approx(expected)


@pytest.mark.parametrize("spreads", [(1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 3, 1), (3, 1, 1)])
def test_crossed_splits_and_seeds_hardly_ever_show_what_is_not_there(
    spreads: tuple[float, float, float],
) -> None:
    generator = np.random.default_rng(0)
    shapes = (1000, 3, 1), (1000, 1, 4), (1000, 3, 4)
    tables = sum(
        spread * generator.normal(size=shape) for spread, shape in zip(spreads, shapes, strict=True)
    )
    results = [crossed_t(factorial(table), 0.0).p < 0.05 for table in tables]  # type: ignore[union-attr]
    assert np.mean(results) < 0.08, "5 %, and what 1,000 tables leave open"


def test_overlap_makes_a_crossed_verdict_more_careful_too() -> None:
    cells = factorial(np.array([[1.0, 4.0, 2.0], [3.0, 6.0, 3.5]]))
    assert crossed_t(cells, 1 / 9).p > crossed_t(cells, 0.0).p


def test_where_all_is_interaction_the_error_is_that_of_the_runs() -> None:
    error, freedom = crossed_error(factorial(np.array([[0.0, 1.0], [1.0, 0.0]])))
    assert (error, freedom) == (pytest.approx(math.sqrt(1 / 3 / 4)), 1)
    assert crossed_error(factorial(np.full((2, 3), 7.0))) == (0, 1)


def test_the_interval_over_a_factorial_is_the_crossed_one() -> None:
    cells = factorial(np.array([[1.0, 4.0, 2.0], [3.0, 6.0, 3.5]]))
    result, expected = summarize(cells), crossed_t(cells, 0.0)
    assert (result.low, result.high) == pytest.approx((expected.low, expected.high))
    assert (result.num, result.mean) == (6, pytest.approx(3.25))


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        ([(0, 0), (0, 1), (0, 2)], False),  # seeds alone
        ([(0, 0), (1, 0), (2, 0)], False),  # splits alone
        ([(0, 0), (1, 1), (2, 2)], False),  # each split with a seed of its own
        ([(0, 0), (0, 1), (1, 0), (1, 1)], True),
        ([(0, 0), (0, 1), (1, 2)], True),  # two of three share a split
    ],
)
def test_what_is_crossed(cells: list[tuple[int, int]], expected: bool) -> None:
    assert is_crossed({(str(split), str(seed)) for split, seed in cells}) == expected


def rights(both: int, first: int, second: int, neither: int) -> tuple[np.ndarray, np.ndarray]:
    counts = [both, first, second, neither]
    a, b = np.repeat([True, True, False, False], counts), np.repeat([True, False] * 2, counts)
    return a, b


def test_mcnemar_is_exact_by_hand() -> None:
    """1 against 9: twice the chance of 0 or 1 heads in 10 tosses, 2 * 11 / 1024."""
    result = mcnemar(*rights(50, 1, 9, 40))
    assert result.p == pytest.approx(2 * 11 / 1024)
    assert result.difference == pytest.approx(-0.08)


def test_mcnemar_of_equal_predictions_and_of_a_tie_shows_nothing() -> None:
    same = mcnemar(*rights(80, 0, 0, 20))
    assert (same.difference, same.p) == (0, 1)
    tie = mcnemar(*rights(80, 7, 7, 6))
    assert tie.p == 1
    for result in (same, tie):
        assert result.low == pytest.approx(-result.high)
        assert result.high > 0


def test_the_interval_of_matched_proportions_is_agresti_and_mins() -> None:
    """Approval of a president in two surveys (Agresti, Categorical Data Analysis, table 10.1).

    By hand: (86 - 150) / 1602 plus and minus 1.96 standard errors, each cell with 0.5 more.
    """
    result = mcnemar(*rights(794, 86, 150, 570))
    assert result.difference == pytest.approx(-0.04)
    error = math.sqrt(86.5 + 150.5 - 64**2 / 1602) / 1602
    expected = -64 / 1602 - 1.959964 * error, -64 / 1602 + 1.959964 * error
    assert (result.low, result.high) == pytest.approx(expected, rel=1e-3)  # 1602 is N + 2
    assert result.p == pytest.approx(stats.binomtest(86, 236).pvalue)


@given(st.integers(0, 40), st.integers(0, 40), st.integers(0, 40))
def test_mcnemars_p_is_that_of_a_coin(first: int, second: int, both: int) -> None:
    result = mcnemar(*rights(both, first, second, 1))
    assert result.low < result.high
    if first + second:
        assert result.p == pytest.approx(stats.binomtest(first, first + second).pvalue)
    if result.p < 0.01:
        assert result.low > 0 or result.high < 0


def test_holm_is_the_textbook_example() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []
    assert holm([0.2]) == [0.2]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=9))
@settings(max_examples=3)  # statsmodels collects garbage, which takes a while
def test_holm_is_that_of_statsmodels(p_values: list[float]) -> None:
    from statsmodels.stats.multitest import multipletests

    assert holm(p_values) == pytest.approx(multipletests(p_values, 0.05, method="holm")[1])


def test_simultaneous_intervals_are_those_of_statsmodels_and_scipy() -> None:
    """Dunn's: a t interval, or a normal one, at the level 1 - 0.05/m."""
    from statsmodels.stats.weightstats import DescrStatsW

    other = [0.012, 0.004, 0.009, 0.015, 0.008]
    first, second = rights(50, 8, 12, 30)
    result = adjust([paired_t(GAINED), paired_t(other), mcnemar(first, second)])
    for values, each in zip((GAINED, other), result, strict=False):
        expected = DescrStatsW(values).tconfint_mean(alpha=0.05 / 3)
        assert (each.low, each.high) == pytest.approx(expected)
    counts = DescrStatsW([1, -1, 0], weights=[8.5, 12.5, 81])
    expected = counts.zconfint_mean(0.05 / 3)  # by n - 1, which Agresti and Min do not do
    assert (result[2].low, result[2].high) == pytest.approx(expected, rel=0.01)
    [alone] = adjust([welch(TERM, EARLY)])
    expected = stats.ttest_ind(TERM, EARLY, equal_var=False).confidence_interval(0.95)
    assert (alone.low, alone.high) == pytest.approx((expected.low, expected.high))
    assert adjust([]) == []


FAMILY = st.lists(st.tuples(SPREAD, st.floats(0.001, 1.0)), min_size=1, max_size=5)


@given(FAMILY, st.booleans())
@settings(max_examples=60)
def test_no_interval_contradicts_its_p_value(
    family: list[tuple[list[float], float]], has_other_p: bool
) -> None:
    """Nor where p is not that of the interval, as of rank tests."""
    outcomes = [paired_t(values) for values, _ in family]
    if has_other_p:
        outcomes = [
            Outcome(each.difference, each.low, each.high, p, each.error, each.freedom)
            for each, (_, p) in zip(outcomes, family, strict=True)
        ]
    for outcome, result in zip(outcomes, adjust(outcomes), strict=True):
        assert result.p >= outcome.p
        if result.p < 0.05:
            assert result.low >= 0 or result.high <= 0
        else:
            assert result.low <= 0 <= result.high
        assert result.low <= outcome.difference <= result.high


def test_where_holm_rejects_more_than_bonferroni_the_interval_ends_at_0() -> None:
    strong, weak = paired_t([0.010, 0.011, 0.012]), paired_t([0.010, 0.001, 0.009, 0.002, 0.005])
    assert 0.025 < weak.p < 0.05
    [_, result] = adjust([strong, weak])
    assert result.p < 0.05
    assert result.low == 0
    assert result.high > weak.high


@pytest.mark.parametrize("means", [(0, 0, 0, 0), (0, 0, 2, 9), (1, 1, 2, 2)])
def test_simultaneous_intervals_contain_all_differences_in_95_percent_of_experiments(
    means: tuple[float, ...],
) -> None:
    """Four settings against one, whose runs are in every difference; five seeds."""
    generator = np.random.default_rng(0)
    all_contained, wrong = [], []
    for _ in range(300):
        against = generator.normal(size=5)
        result = adjust(
            [paired_t((mean + generator.normal(size=5) - against).tolist()) for mean in means]
        )
        pairs = list(zip(means, result, strict=True))
        all_contained.append(all(each.low <= mean <= each.high for mean, each in pairs))
        wrong.append(any(mean == 0 and each.p < 0.05 for mean, each in pairs))
    assert np.mean(all_contained) > 0.92, "95%, and what 300 experiments leave open"
    assert np.mean(wrong) < 0.08


def test_power_is_that_of_published_tables() -> None:
    """Cohen (1988), table 2.4.1: 64 a group for d = 0.5; G*Power's manual: 34 pairs for dz 0.5."""
    assert group_size_needed(std=0.02, detect=0.01) == 64
    assert pairs_needed(std=0.02, detect=0.01) == 34


def test_a_stricter_level_needs_more() -> None:
    """A family of three is tested at 0.05/3."""
    solved = TTestPower().solve_power(0.5, None, 0.05 / 3, 0.8)
    assert pairs_needed(std=0.02, detect=0.01, alpha=0.05 / 3) == math.ceil(solved)
    solved = TTestIndPower().solve_power(0.5, None, 0.05 / 3, 0.8)
    assert group_size_needed(std=0.02, detect=0.01, alpha=0.05 / 3) == math.ceil(solved)


@given(st.floats(0.008, 0.1))  # below, SciPy's power is NaN
@settings(max_examples=20)
def test_the_least_number_is_enough_and_one_less_is_not(std: float) -> None:
    needed = pairs_needed(std, 0.01)
    assert needed is not None
    assert TTestPower().power(0.01 / std, needed, 0.05) >= 0.8
    assert needed == 2 or TTestPower().power(0.01 / std, needed - 1, 0.05) < 0.8
    size = group_size_needed(std / 2, 0.01)
    assert size is not None
    assert TTestIndPower().power(0.02 / std, size, 0.05) >= 0.8


def test_a_hopeless_number_is_none_and_a_trifling_one_is_two() -> None:
    assert pairs_needed(std=1.0, detect=0.01) is None
    assert group_size_needed(std=1.0, detect=0.01) is None
    with warnings.catch_warnings(action="error"):
        assert pairs_needed(std=1e-9, detect=0.01) == 2


def test_overlapping_splits_can_never_show_what_is_too_small() -> None:
    """With endless splits the standard error stays s sqrt(ratio): 0.02 / 3 here."""
    assert pairs_needed(std=0.02, detect=0.01, test_train_ratio=1 / 9) is None
    few = pairs_needed(std=0.005, detect=0.01)
    more = pairs_needed(std=0.005, detect=0.01, test_train_ratio=1 / 9)
    assert few is not None
    assert more is not None
    assert more > few


def test_equal_differences_have_no_spread_though_rounding_parts_them() -> None:
    assert not have_spread([0.3 - 0.2, 0.2 - 0.1, 0.1])
    assert have_spread([0.1, 0.101])
