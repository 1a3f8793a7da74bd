"""The power law of the error over the training images: against SciPy, and what it says."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import curve_fit

from compare_kit import edit_result, write_run
from tinylab.comparison.comparison import compare
from tinylab.comparison.data_size import DataSize, PowerLaw, fit, of_rows
from tinylab.store.collect import collect

pytestmark = pytest.mark.costly

SIZES = [100, 200, 400, 1000, 2000]
FRACTIONS = [0.05, 0.1, 0.2, 0.5, 1.0]


def law_of(errors: list[float], sizes: list[int] = SIZES) -> PowerLaw:
    [law] = fit(sizes, np.array([errors]), 1e-4)
    return law


@given(scale=st.floats(0.5, 5), exponent=st.floats(0.2, 1.2), floor=st.floats(0, 0.1))
def test_a_power_law_without_noise_is_found(scale: float, exponent: float, floor: float) -> None:
    truth = PowerLaw(scale, round(exponent, 2), floor)
    result = law_of([truth.error(n) for n in SIZES])
    assert result.exponent == pytest.approx(truth.exponent, abs=0.011)
    assert result.error(4000) == pytest.approx(truth.error(4000), rel=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_the_fit_is_the_least_relative_squares_of_scipy(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = np.array(SIZES, float)
    errors = (2.5 * n**-0.5 + 0.01) * rng.uniform(0.9, 1.1, len(n))

    def model(n: Any, scale: float, exponent: float, floor: float) -> Any:
        return scale * (n / 2000) ** -exponent + floor

    (scale, exponent, floor), _ = curve_fit(
        model, n, errors, p0=[errors[-1], 0.5, 0.001], sigma=errors,
        bounds=([0, 0.01, 0], [1, 2, 1]), xtol=1e-12, ftol=1e-12, gtol=1e-12,
    )  # fmt: skip
    result = law_of(errors.tolist())
    expected = model(4000.0, scale, exponent, floor)
    assert result.exponent == pytest.approx(exponent, abs=0.02)
    assert result.error(4000) == pytest.approx(expected, rel=0.01)


def test_three_sizes_have_no_floor() -> None:
    assert law_of([0.2, 0.1, 0.09], SIZES[:3]).floor == 0


def test_an_error_of_zero_can_be_fitted() -> None:
    assert law_of([0.2, 0.1, 0.05, 0.01, 0.0]).error(4000) < 0.01


def write(outputs: Path, rights: dict[float, list[int]], **more: Any) -> None:
    for fraction, each in rights.items():
        for seed, right in enumerate(each):
            folder = write_run(outputs, right, split__train_fraction=fraction, seed=seed, **more)
            edit_result(folder, dataset__num_train=round(2000 * fraction))


def found_in(outputs: Path) -> list[DataSize]:
    [comparison] = compare(collect([outputs])[0])
    return of_rows(comparison.rows)


RIGHTS = {
    0.05: [68, 72, 70], 0.1: [78, 80, 77], 0.2: [83, 85, 86], 0.5: [89, 90, 92], 1.0: [93, 95, 94],
}  # fmt: skip


def test_the_gain_of_twice_the_images_is_the_laws_and_its_interval_holds_it(tmp_path: Path) -> None:
    write(tmp_path, RIGHTS)
    [estimate] = found_in(tmp_path)
    assert estimate.sizes == (100, 200, 400, 1000, 2000)
    law = law_of([1 - np.mean(each) / 100 for each in RIGHTS.values()])
    assert estimate.law is not None
    assert estimate.gain == pytest.approx(law.error(2000) - law.error(4000))
    assert estimate.low is not None
    assert estimate.high is not None
    assert 0 < estimate.low < estimate.gain < estimate.high < 0.06
    assert estimate.num_runs == 3


def test_the_bootstrap_draws_a_seed_with_all_of_its_sizes(tmp_path: Path) -> None:
    """Enumerated: 3 seeds make 27 equally probable samples."""
    write(tmp_path, RIGHTS)
    [estimate] = found_in(tmp_path)
    errors = 1 - np.array(list(RIGHTS.values())).T / 100
    samples = [errors[[i, j, k]].mean(0) for i in range(3) for j in range(3) for k in range(3)]
    gains = [law.error(2000) - law.error(4000) for law in fit(SIZES, np.array(samples), 0.005)]
    assert estimate.low is not None
    assert estimate.high is not None
    assert min(gains) <= estimate.low <= np.quantile(gains, 0.1)
    assert np.quantile(gains, 0.9) <= estimate.high <= max(gains)


def test_few_seeds_have_no_interval_and_few_sizes_no_law(tmp_path: Path) -> None:
    write(tmp_path / "a", {fraction: each[:2] for fraction, each in RIGHTS.items()})
    [estimate] = found_in(tmp_path / "a")
    assert estimate.gain is not None
    assert estimate.low is estimate.high is None
    write(tmp_path / "b", {fraction: RIGHTS[fraction] for fraction in (0.5, 1.0)})
    [estimate] = found_in(tmp_path / "b")
    assert estimate.law is estimate.gain is None


def test_every_setting_has_its_own_law(tmp_path: Path) -> None:
    write(tmp_path, RIGHTS, model__filters=4)
    write(tmp_path, {f: [right - 5 for right in each] for f, each in RIGHTS.items()})
    estimate = found_in(tmp_path)
    assert sorted(each.label for each in estimate) == ["model.filters=28", "model.filters=4"]


def test_one_size_is_no_question(tmp_path: Path) -> None:
    write(tmp_path, {1.0: RIGHTS[1.0]})
    assert found_in(tmp_path) == []
