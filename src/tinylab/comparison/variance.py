"""Where the spread comes from: split seeds, training seeds, or what the two make together."""

from collections import Counter
from dataclasses import dataclass

import numpy as np

from tinylab.comparison.settings import Setting
from tinylab.comparison.statistics import Cell, Cells

SOURCES = ("split", "seed", "rest")


@dataclass(frozen=True)
class Variance:
    """The variance components of a complete factorial of splits and training seeds.

    ``components`` are of the sources in SOURCES, in units of the figure squared and never below 0;
    ``clipped`` are those whose estimate was. ``rest`` is the interaction of split and seed and
    everything else: with one run a cell these two cannot be told apart. ``left_out`` counts runs
    outside the complete factorial.
    """

    num_splits: int
    num_seeds: int
    components: dict[str, float]
    clipped: tuple[str, ...]
    left_out: int

    @property
    def shares(self) -> dict[str, float] | None:
        """The components as shares of their sum; None where there is no spread at all."""
        total = sum(self.components.values())
        return {key: value / total for key, value in self.components.items()} if total else None


def of_setting(setting: Setting, figure: str = "test_accuracy") -> Variance | None:
    """The components of one figure of a setting; None without two splits by two seeds.

    Runs pooled by ``--group-by`` differ in more than their seeds, so they have none.
    """
    cells = setting.figures(figure)
    if setting.pooled or cells is None:
        return None
    complete = largest_factorial(cells)
    return None if complete is None else decompose(complete, len(cells) - len(complete))


def largest_factorial(cells: Cells) -> dict[Cell, float] | None:
    """A part of ``cells`` in which every split has every seed, two by two or more.

    Leaves out, again and again, the split or seed that has the smallest share of its cells.
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
    """Two crossed random factors with one observation a cell, by the mean squares of the ANOVA.

    With a splits and b seeds the mean squares have the expectations rest + b split, rest + a seed
    and rest (Searle, Casella and McCulloch, Variance Components, 1992, chapter 4), which are
    solved for the components.
    """
    splits, seeds = (list(dict.fromkeys(cell[axis] for cell in cells)) for axis in (0, 1))
    a, b = len(splits), len(seeds)
    figure = np.array([[cells[split, seed] for seed in seeds] for split in splits])
    by_split, by_seed = figure.mean(axis=1), figure.mean(axis=0)
    residual = figure - by_split[:, None] - by_seed + figure.mean()
    of_split, of_seed = float(b * by_split.var(ddof=1)), float(a * by_seed.var(ddof=1))
    rest = float((residual**2).sum() / ((a - 1) * (b - 1)))
    solved = {"split": (of_split - rest) / b, "seed": (of_seed - rest) / a, "rest": rest}
    clipped = tuple(key for key, value in solved.items() if value < 0)
    return Variance(a, b, {key: max(v, 0.0) for key, v in solved.items()}, clipped, left_out)
