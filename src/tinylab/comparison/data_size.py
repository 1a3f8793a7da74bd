"""Would more data help? Test accuracy by number of training images, and a power law."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from tinylab.comparison.comparison import Row
from tinylab.comparison.statistics import LEVEL, Cell
from tinylab.config.values import shown

KEY = "split.train_fraction"
LEAST_SIZES = 3  # sizes needed to fit a power law; with one more, its floor is fitted too
LEAST_RUNS = 3  # runs per size needed for the bootstrap
DRAWS = 2000  # bootstrap samples
EXPONENTS = np.arange(0.01, 2.005, 0.01)
Values = NDArray[np.float64]


@dataclass(frozen=True)
class PowerLaw:
    """The test error for n training images: ``scale * n ** -exponent + floor``."""

    scale: float
    exponent: float
    floor: float

    def error(self, n: float) -> float:
        """The error as a fraction."""
        return float(self.scale * n**-self.exponent + self.floor)


@dataclass(frozen=True)
class DataSize:
    """One setting, trained on several fractions of the same training images.

    sizes: numbers of training images, ascending. accuracies: the test accuracies of the runs of
    each size. law: None with fewer than ``LEAST_SIZES`` sizes. gain: the predicted gain in accuracy
    from doubling the largest size; ``low`` and ``high`` are its 95% CI by a bootstrap over
    ``num_runs`` repetitions; None if there are too few.
    """

    first: Row
    sizes: tuple[int, ...]
    accuracies: tuple[dict[Cell, float], ...]
    law: PowerLaw | None
    gain: float | None
    low: float | None
    high: float | None
    num_runs: int

    @property
    def label(self) -> str:
        """The values that distinguish it from the other settings; empty if none do."""
        values = self.first.setting.values
        return " ".join(f"{key}={shown(value)}" for key, value in values.items() if key != KEY)


def of_rows(rows: Sequence[Row]) -> list[DataSize]:
    """Return every setting with at least two sizes, in the order of the rows."""
    by_setting: dict[str, list[Row]] = {}
    for row in rows:
        others = {key: value for key, value in row.setting.values.items() if key != KEY}
        by_setting.setdefault(json.dumps(others, sort_keys=True), []).append(row)
    return [_of_setting(same) for same in by_setting.values() if len(same) > 1]


def _of_setting(rows: Sequence[Row]) -> DataSize:
    sized = sorted((_size(row), index) for index, row in enumerate(rows))
    sizes = tuple(size for size, _ in sized)
    accuracies = tuple(_accuracies(rows[index]) for _, index in sized)
    if len(set(sizes)) < max(LEAST_SIZES, len(sizes)):
        return DataSize(rows[0], sizes, accuracies, None, None, None, None, 0)
    smallest = 0.5 / rows[0].num_test
    mean_errors = 1 - np.array([[fmean(each.values()) for each in accuracies]])
    [law] = fit(sizes, mean_errors, smallest)
    gain = _gain(law, sizes[-1])
    common = [cell for cell in accuracies[0] if all(cell in each for each in accuracies)]
    if len(common) < LEAST_RUNS:
        return DataSize(rows[0], sizes, accuracies, law, gain, None, None, len(common))
    errors = 1 - np.array([[each[cell] for each in accuracies] for cell in common])
    low, high = _interval(sizes, errors, smallest)
    return DataSize(rows[0], sizes, accuracies, law, gain, low, high, len(common))


def _size(row: Row) -> int:
    return round(fmean(run.result.dataset.num_train for run in row.setting.runs))


def _accuracies(row: Row) -> dict[Cell, float]:
    return {cell: run.result.test.accuracy for cell, run in row.setting.cells.items()}


def _gain(law: PowerLaw, n: int) -> float:
    return law.error(n) - law.error(2 * n)


def _interval(sizes: Sequence[int], errors: Values, smallest: float) -> tuple[float, float]:
    """Return percentiles of the gain over resampled repetitions; errors: (repetitions, sizes).

    Each split and seed is resampled with its runs of all sizes, since they are not independent.
    """
    rng = np.random.default_rng(0)
    drawn = rng.integers(len(errors), size=(DRAWS, len(errors)))
    laws = fit(sizes, errors[drawn].mean(axis=1), smallest)
    gains = [_gain(law, sizes[-1]) for law in laws]
    low, high = np.quantile(gains, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def fit(sizes: Sequence[int], errors: Values, smallest: float) -> list[PowerLaw]:
    """Fit power laws to samples of errors, (samples, sizes), by relative least squares.

    Relative residuals, as in Rosenfeld et al. (ICLR 2020), weight the large sizes, from which the
    law is extrapolated, as much as the small ones; errors below ``smallest`` are raised to it.
    Scale and floor are not negative; the floor is 0 with fewer than four sizes. They are solved for
    each exponent of a grid, so no starting values are needed.
    """
    n = np.array(sizes, float)
    x = (n / n[-1]) ** -EXPONENTS[:, None]  # (exponents, sizes)
    weights = np.maximum(errors, smallest) ** -2.0
    s_1, s_y = weights.sum(1)[:, None], (weights * errors).sum(1)[:, None]
    s_x, s_xx, s_xy = weights @ x.T, weights @ (x**2).T, (weights * errors) @ x.T
    scale, floor = s_xy / s_xx, np.zeros_like(s_xy)
    if len(sizes) > LEAST_SIZES:
        free = (s_1 * s_xy - s_x * s_y) / (s_1 * s_xx - s_x**2)
        free = np.maximum(free, 0)
        rest = (s_y - free * s_x) / s_1
        scale, floor = np.where(rest > 0, free, scale), np.maximum(rest, 0)
    loss = scale**2 * s_xx + 2 * scale * floor * s_x + floor**2 * s_1
    loss -= 2 * scale * s_xy + 2 * floor * s_y  # except what does not depend on the law
    best = loss.argmin(axis=1)
    at = np.arange(len(errors)), best
    return [
        PowerLaw(float(a * n[-1] ** b), float(b), float(c))
        for a, b, c in zip(scale[at], EXPONENTS[best], floor[at], strict=True)
    ]
