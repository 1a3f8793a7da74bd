"""Variance components against a published example and against statsmodels' REML."""

import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from statsmodels.formula.api import ols
from statsmodels.regression.mixed_linear_model import MixedLM
from statsmodels.stats.anova import anova_lm

from compare_kit import write_run
from tinylab.comparison.settings import group
from tinylab.comparison.variance import (
    Variance,
    decompose,
    divide,
    largest_factorial,
    of_seeds,
    of_setting,
)
from tinylab.store.collect import collect

# Six targets rated by four judges (Shrout and Fleiss, Psychological Bulletin 86, 1979, table 2).
RATINGS = [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]]


def cells(table: list[list[float]]) -> dict[tuple[str, str], float]:
    return {(str(i), str(j)): value for i, row in enumerate(table) for j, value in enumerate(row)}


def test_the_components_are_those_of_shrout_and_fleiss() -> None:
    """Their table 3 has the mean squares 11.24, 32.49 and 1.02, and ICC(2,1) = 0.29."""
    variance = decompose(cells(RATINGS))
    assert (variance.num_splits, variance.num_seeds) == (6, 4)
    assert variance.components == pytest.approx(
        {"split": (11.24 - 1.02) / 4, "seed": (32.49 - 1.02) / 6, "rest": 1.02}, abs=0.005
    )
    assert variance.fractions is not None
    assert variance.fractions["split"] == pytest.approx(0.29, abs=0.005)
    assert variance.clipped == ()


@given(
    st.tuples(st.integers(2, 6), st.integers(2, 6)).flatmap(
        lambda shape: hnp.arrays(float, shape, elements=st.floats(0, 1).map(lambda x: round(x, 4)))
    )
)
@settings(max_examples=25, deadline=None)
def test_the_mean_squares_are_those_of_statsmodels(table: np.ndarray) -> None:
    variance = decompose(cells(table.tolist()))
    rows = [(i, j, value) for (i, j), value in cells(table.tolist()).items()]
    data = pd.DataFrame(rows, columns=["split", "seed", "y"])
    with warnings.catch_warnings(action="ignore"):  # of a fit without any residual
        anova = anova_lm(ols("y ~ C(split) + C(seed)", data).fit())
    of_split, of_seed, rest = anova["mean_sq"]
    (a, b), parts = table.shape, variance.components
    for value, expected in (
        (parts["rest"], rest),
        (parts["split"], max((of_split - rest) / b, 0)),
        (parts["seed"], max((of_seed - rest) / a, 0)),
    ):
        assert value == pytest.approx(expected, abs=1e-12)


def test_the_components_are_those_of_a_mixed_model() -> None:
    """On complete data the ANOVA's estimates are those of REML, where none is negative."""
    generator = np.random.default_rng(0)
    table = generator.normal(size=(6, 1)) * 3 + generator.normal(size=5) * 2
    table += generator.normal(size=(6, 5))
    variance = decompose(cells(table.tolist()))
    rows = [(i, j, value) for (i, j), value in cells(table.tolist()).items()]
    data = pd.DataFrame(rows, columns=["split", "seed", "y"])
    parts = {"split": "0 + C(split)", "seed": "0 + C(seed)"}
    model = MixedLM.from_formula("y ~ 1", data, groups=np.ones(len(data)), vc_formula=parts)
    with warnings.catch_warnings(action="ignore"):
        fitted = model.fit()
    by_name = dict(zip(model.exog_vc.names, fitted.vcomp, strict=True))
    assert variance.components == pytest.approx({**by_name, "rest": fitted.scale}, rel=1e-3)


def test_a_negative_estimate_becomes_zero_and_is_named() -> None:
    variance = decompose(cells([[0.0, 1.0], [1.0, 0.0]]))
    assert variance.components == pytest.approx({"split": 0, "seed": 0, "rest": 1})
    assert variance.clipped == ("split", "seed")


def test_without_spread_there_are_no_fractions() -> None:
    assert Variance(2, 2, {"split": 0.0, "seed": 0.0, "rest": 0.0}, (), 0).fractions is None


def test_an_incomplete_factorial_is_cut_to_a_complete_one() -> None:
    whole = cells([[1, 2, 3], [4, 5, 6], [7, 8, 9]])
    lacking = {cell: value for cell, value in whole.items() if cell not in {("2", "1"), ("2", "2")}}
    assert largest_factorial(whole) == whole
    assert largest_factorial(lacking) == cells([[1, 2, 3], [4, 5, 6]])
    assert largest_factorial({("0", "0"): 1.0, ("1", "1"): 1.0}) is None
    assert largest_factorial({}) is None


@given(st.sets(st.tuples(st.sampled_from("abcd"), st.sampled_from("0123"))))
@settings(max_examples=100)
def test_what_is_kept_is_always_complete(present: set[tuple[str, str]]) -> None:
    kept = largest_factorial(dict.fromkeys(present, 0.0))
    if kept is not None:
        splits, seeds = {split for split, _ in kept}, {seed for _, seed in kept}
        assert set(kept) == {(split, seed) for split in splits for seed in seeds}
        assert min(len(splits), len(seeds)) >= 2


def test_runs_become_cells(tmp_path: Path) -> None:
    for i, row in enumerate(RATINGS):
        for j, value in enumerate(row):
            write_run(tmp_path, value, split__seed=i, seed=j)
    write_run(tmp_path, 50, split__seed=9, seed=0)
    [setting] = group(collect([tmp_path])[0])
    variance = of_setting(setting)
    assert variance is not None
    assert variance.left_out == 1
    assert variance.components["seed"] == pytest.approx((32.4861 - 1.0194) / 6 / 100**2, rel=1e-4)


def test_folds_are_splits_and_one_split_is_not_enough(tmp_path: Path) -> None:
    for fold in range(2):
        for seed in range(2):
            more = {"split__folds": 2, "split__fold": fold, "seed": seed}
            write_run(tmp_path, 80 + fold + 3 * seed, **more)
    [setting] = group(collect([tmp_path])[0])
    assert of_setting(setting) is not None
    [by_fold, _] = group(list(setting.runs), ["split.fold"])
    assert of_setting(by_fold) is None


def test_pooled_settings_have_no_components(tmp_path: Path) -> None:
    for split in range(2):
        for seed in range(2):
            for filters in (4, 8):
                write_run(
                    tmp_path, 80 + split, split__seed=split, seed=seed, model__filters=filters
                )
    [setting] = group(collect([tmp_path])[0], ["model"])
    assert of_setting(setting) is None


# ---------------------------------------------------------------- Jordan's division


def drawn(rng: np.random.Generator, num_runs: int, num_images: int, spread: float) -> np.ndarray:
    """Which images each network has right, by a Rasch model of abilities and difficulties."""
    ability = rng.normal(1.5, spread, num_runs)[:, None]
    difficulty = rng.normal(0, 1.5, num_images)
    right: np.ndarray = rng.random((num_runs, num_images)) < 1 / (1 + np.exp(difficulty - ability))
    return right


def test_the_variance_between_networks_is_the_mean_covariance_of_two_images() -> None:
    right = drawn(np.random.default_rng(0), 7, 40, 0.3)
    covariance = np.cov(right, rowvar=False)
    off_diagonal = covariance[~np.eye(40, dtype=bool)]
    variance = divide(right)
    assert variance.networks == pytest.approx(off_diagonal.mean())
    assert variance.total == pytest.approx(covariance.mean())
    assert variance.noise + variance.networks == pytest.approx(variance.total)


@pytest.mark.costly
def test_the_variance_between_networks_is_the_covariance_of_two_halves_of_the_test_set() -> None:
    """Jordan's other estimator, over many random halves."""
    rng = np.random.default_rng(1)
    right = drawn(rng, 9, 30, 0.3)
    halves = []
    for _ in range(4_000):
        order = rng.permutation(30)
        one, other = (right[:, part].mean(axis=1) for part in (order[:15], order[15:]))
        halves.append(np.cov(one, other)[0, 1])
    error = np.std(halves) / 4_000**0.5
    assert divide(right).networks == pytest.approx(np.mean(halves), abs=4 * error)


@pytest.mark.costly
@pytest.mark.parametrize("spread", [0.0, 0.15])
def test_the_estimate_is_unbiased(spread: float) -> None:
    """Against the variance of the true accuracies, for networks alike and for such that differ."""
    rng = np.random.default_rng(2)
    ability = rng.normal(1.5, spread, 2_000)[:, None]
    difficulty = rng.normal(0, 1.5, 4_000)
    truth = (1 / (1 + np.exp(difficulty - ability))).mean(axis=1).var()
    results = [divide(drawn(rng, 6, 150, spread)) for _ in range(1_500)]
    networks = [each.networks for each in results]
    assert np.mean(networks) == pytest.approx(truth, abs=4 * np.std(networks) / 1_500**0.5)
    assert np.mean([each.total for each in results]) > truth + 2e-4, "the noise is not small"


@pytest.mark.costly
def test_runs_of_several_test_sets_are_divided_within_each(tmp_path: Path) -> None:
    for split in (0, 1):
        for seed, first in enumerate((0, 3, 7)):
            write_run(tmp_path, range(first, 80 + split + 2 * seed), seed=seed, split__seed=split)
    [setting] = group(collect([tmp_path])[0])
    variance = of_seeds(setting)
    assert variance is not None
    rights = [
        np.array([[first <= i < 80 + split + 2 * seed for i in range(100)]
                  for seed, first in enumerate((0, 3, 7))])
        for split in (0, 1)
    ]  # fmt: skip
    assert variance.networks == pytest.approx(np.mean([divide(each).networks for each in rights]))
    assert variance.num == 6


def test_single_runs_of_their_test_sets_have_nothing_to_divide(tmp_path: Path) -> None:
    for split in (0, 1):
        write_run(tmp_path, 90, split__seed=split)
    [setting] = group(collect([tmp_path])[0])
    assert of_seeds(setting) is None
