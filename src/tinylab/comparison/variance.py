"""Variance components: split seeds, training seeds, and their interaction.

Also how much of the spread over training seeds is between networks, and how much is noise from the
finite test set.
"""

from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tinylab.comparison.settings import Setting
from tinylab.comparison.statistics import Cell, Cells

SOURCES = ("split", "seed", "rest")


@dataclass(frozen=True)
class Variance:
    """The variance components of a complete factorial of splits and training seeds.

    ``components`` are of the sources in SOURCES, in units of the metric squared and never below 0;
    ``clipped`` are those with a negative estimate. ``rest`` is the interaction of split and seed
    plus everything else: with one run per cell these cannot be separated. ``left_out`` counts runs
    outside the complete factorial.
    """

    num_splits: int
    num_seeds: int
    components: dict[str, float]
    clipped: tuple[str, ...]
    left_out: int

    @property
    def fractions(self) -> dict[str, float] | None:
        """The components as fractions of their sum; None if there is no spread."""
        total = sum(self.components.values())
        return {key: value / total for key, value in self.components.items()} if total else None


@dataclass(frozen=True)
class SeedVariance:
    """The variance of test accuracy over training seeds by source (Jordan, 2023).

    ``total`` is the sum of ``networks``, an unbiased estimate of the variance of the networks' true
    accuracies, which may be negative, and ``noise``, from the finite test set. Fractions, squared.
    ``num``: the number of runs.
    """

    num: int
    total: float
    networks: float

    @property
    def noise(self) -> float:
        """The variance from the finite test set."""
        return self.total - self.networks


def of_seeds(setting: Setting) -> SeedVariance | None:
    """Return the variance over the runs that share a test set, averaged over the test sets.

    None if no two runs share one, if predictions cannot be read, or if runs differ in more than
    their seeds.
    """
    variances = []
    for runs in setting.by_test_set.values():
        known = [run.predictions for run in runs]
        right = [each.predicted == each.label for each in known if each is not None]
        if len(right) == len(runs) > 1 and len(right[0]) > 1:
            variances.append(divide(np.array(right)))
    if setting.pooled or not variances:
        return None
    weights = [each.num - 1 for each in variances]
    total, networks = (
        float(np.average([getattr(each, name) for each in variances], weights=weights))
        for name in ("total", "networks")
    )
    return SeedVariance(sum(each.num for each in variances), total, networks)


def divide(right: NDArray[np.bool_]) -> SeedVariance:
    """Split the variance over runs by which images each classifies correctly, bool (k, N).

    The accuracy of a run is a mean over images, so its variance over runs is the mean of all
    entries of the images' covariance matrix. The off-diagonal entries are, in expectation over test
    sets, the variance of the true accuracies; the diagonal, p (1 - p) of each image, is the
    contribution of a finite test set: networks = N/(N - 1) (total - mean(p (1 - p)) / N), with all
    variances unbiased (Jordan, "Calibrated chaos: variance between neural network trainings is
    harmless and inevitable", arXiv:2304.01910, 2023).
    """
    k, N = right.shape
    total = float(right.mean(axis=1).var(ddof=1))
    of_images = float(right.var(axis=0, ddof=1).mean())
    return SeedVariance(k, total, (N * total - of_images) / (N - 1))


def of_setting(setting: Setting, metric: str = "test_accuracy") -> Variance | None:
    """Return the components of one metric of a setting; None without two splits by two seeds.

    Runs pooled by ``--group-by`` differ in more than their seeds, so they have none.
    """
    cells = setting.metric(metric)
    if setting.pooled or cells is None:
        return None
    complete = largest_factorial(cells)
    return None if complete is None else decompose(complete, len(cells) - len(complete))


def largest_factorial(cells: Cells) -> dict[Cell, float] | None:
    """Return a subset of ``cells`` in which every split has every seed, at least two by two.

    Repeatedly drops the split or seed with the smallest fraction of its cells.
    """
    kept = dict(cells)
    while True:
        splits, seeds = Counter(split for split, _ in kept), Counter(seed for _, seed in kept)
        if len(splits) < 2 or len(seeds) < 2:
            return None
        if len(kept) == len(splits) * len(seeds):
            return kept
        filled: dict[tuple[int, str], float] = {
            **{(0, split): count / len(seeds) for split, count in splits.items()},
            **{(1, seed): count / len(splits) for seed, count in seeds.items()},
        }
        axis, level = min(filled, key=lambda each: filled[each])
        kept = {cell: value for cell, value in kept.items() if cell[axis] != level}


def decompose(cells: Cells, left_out: int = 0) -> Variance:
    """Two crossed random factors with one observation per cell, by the ANOVA mean squares.

    With a splits and b seeds the mean squares have the expectations rest + b split, rest + a seed
    and rest (Searle, Casella and McCulloch, Variance Components, 1992, chapter 4), which are solved
    for the components.
    """
    splits, seeds = (list(dict.fromkeys(cell[axis] for cell in cells)) for axis in (0, 1))
    a, b = len(splits), len(seeds)
    table = np.array([[cells[split, seed] for seed in seeds] for split in splits])
    by_split, by_seed = table.mean(axis=1), table.mean(axis=0)
    residual = table - by_split[:, None] - by_seed + table.mean()
    of_split, of_seed = float(b * by_split.var(ddof=1)), float(a * by_seed.var(ddof=1))
    rest = float((residual**2).sum() / ((a - 1) * (b - 1)))
    solved = {"split": (of_split - rest) / b, "seed": (of_seed - rest) / a, "rest": rest}
    clipped = tuple(key for key, value in solved.items() if value < 0)
    return Variance(a, b, {key: max(v, 0.0) for key, v in solved.items()}, clipped, left_out)
