"""Main effects of an ablation: the effect of one key on test accuracy, all else equal."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

from tinylab.comparison import statistics
from tinylab.comparison.settings import cells
from tinylab.comparison.statistics import Adjusted, Cells
from tinylab.comparison.variance import largest_factorial
from tinylab.comparison.verdicts import Trial, adjust, of_differences, p_text, test_train_ratio
from tinylab.config.keys import SEEDS, defaults
from tinylab.config.values import did_you_mean, order, shown
from tinylab.errors import UserError
from tinylab.store.run import Run

Pair = tuple[str, str, str]  # the setting without the key, the split, the seed


@dataclass(frozen=True)
class Level:
    """A value of the key compared to the reference, over ``num_pairs`` pairs of runs.

    ``trial`` is the value's test accuracy minus the reference's, ``adjusted`` for the number of
    levels that were tested, the ``family``; None where no test could be made.
    """

    value: Any
    num_pairs: int
    trial: Trial
    adjusted: Adjusted | None
    family: int

    @property
    def p(self) -> float | None:
        """The adjusted p-value (Holm)."""
        return None if self.adjusted is None else self.adjusted.p

    def words(self) -> str:
        """As in ``raises accuracy (p = 0.003)``."""
        if self.p is None:
            return self.trial.otherwise
        if self.p >= statistics.ALPHA:
            return f"no difference shown ({p_text(self.p)}): {self.trial.advice(self.family)}"
        is_higher = (self.trial.difference or 0) > 0
        return f"{'raises' if is_higher else 'lowers'} accuracy ({p_text(self.p)})"


@dataclass(frozen=True)
class Effect:
    """The main effect of a key: each value against ``reference``, the default if it was run."""

    key: str
    reference: Any
    levels: tuple[Level, ...]


def check(keys: Sequence[str], runs: Sequence[Run]) -> None:
    """Raise UserError for the first key whose effect cannot be estimated."""
    known = list(dict.fromkeys(key for run in runs for key in run.values))
    for key in keys:
        if key in SEEDS:
            raise UserError(
                f"--effect {key}: a seed has no effect to estimate; expected a key "
                "such as augment.flip"
            )
        if key not in known:
            raise UserError(
                f"--effect {key}: not a key of any run{did_you_mean(key, known)}; expected a key "
                "such as augment.flip"
            )
        values = dict.fromkeys(shown(run.values[key]) for run in runs if key in run.values)
        if len(values) < 2:
            raise UserError(
                f"--effect {key}: all runs have {key}={next(iter(values))}\n"
                f"  expected two or more values: tinylab train -m {key}=VALUE,VALUE"
            )


def of_key(runs: Sequence[Run], key: str) -> Effect | None:
    """Return the effect of a key on runs of one dataset; None if all have the same value.

    Runs are paired if they are equal in everything else, including seeds, and were tested on the
    same images. For a choice such as ``model``, its own keys (``model.*``) are not compared;
    several runs of one value then count by their mean.
    """
    by_value: dict[str, list[Run]] = {}
    values: dict[str, Any] = {}
    having = [run for run in runs if key in run.values]
    for run in sorted(having, key=lambda run: order(run.values[key])):
        values[shown(run.values[key])] = run.values[key]
        by_value.setdefault(shown(run.values[key]), []).append(run)
    if len(by_value) < 2:
        return None
    first = next(
        (text for text in _defaults(having, key) if text in by_value), next(iter(by_value))
    )
    others = [text for text in by_value if text != first]
    trials = [_trial(by_value[text], by_value[first], key) for text in others]
    adjusted, family = adjust([trial for _, trial in trials])
    levels = [
        Level(values[text], pairs, trial, each, family)
        for text, (pairs, trial), each in zip(others, trials, adjusted, strict=True)
    ]
    return Effect(key, values[first], tuple(levels))


def _defaults(runs: Sequence[Run], key: str) -> list[str]:
    """Return the default of a key for each option that the runs chose; none for a choice."""
    group, dot, _ = key.partition(".")
    chosen = dict.fromkeys(["", *(str(run.values.get(group, "")) for run in runs if dot)])
    return [shown(defaults()[key, each]) for each in chosen if (key, each) in defaults()]


def _trial(level: Sequence[Run], reference: Sequence[Run], key: str) -> tuple[int, Trial]:
    """Return the number of pairs, and a test of their differences.

    Pairs with the same split and seed are not independent, so they are first averaged over the
    settings: the repetitions are the splits and seeds, as in every verdict. With a single
    repetition, the settings are the repetitions, and the spread is that of the effect between
    settings.
    """
    a, b = _accuracies(level, key), _accuracies(reference, key)
    both = [pair for pair in a if pair in b and a[pair][1] == b[pair][1]]
    if not both:
        reason = "no two runs differ only in this key and share a test set"
        return 0, Trial("", None, None, f"not compared: {reason}")
    differences = _complete({pair: a[pair][0] - b[pair][0] for pair in both})
    of_settings = list(dict.fromkeys(setting for setting, _, _ in differences))
    of_cells = _by_cell(differences)
    if len(differences) == 1:
        [mean] = differences.values()
        return 1, Trial("", mean, None, "not tested: only one pair; run more seeds of both")
    if len(of_cells) == 1:
        over = {("", setting): value for (setting, _, _), value in differences.items()}
        trial = of_differences(over, 0.0, "t")
        return len(over), replace(
            trial,
            method=trial.method and f"paired t over {len(over)} settings of one run each",
            otherwise="run more seeds" if trial.outcome else trial.otherwise,
            plan=None,
        )
    has_splits = len({a[pair][1] for pair in differences}) > 1
    trial = of_differences(of_cells, test_train_ratio([*level, *reference]) * has_splits, "t")
    if len(of_settings) > 1 and trial.method:
        trial = replace(
            trial, method=f"{trial.method}, each averaged over {len(of_settings)} settings"
        )
    return len(differences), trial


def _accuracies(runs: Sequence[Run], key: str) -> dict[Pair, tuple[float, str]]:
    """Return the mean test accuracy of the runs of each pair, and their test set."""
    by_pair: dict[Pair, list[Run]] = {}
    for run in runs:
        own = {k: v for k, v in run.values.items() if k != key and not k.startswith(f"{key}.")}
        rest = json.dumps({k: v for k, v in own.items() if k not in SEEDS}, sort_keys=True)
        [cell] = cells([run])
        by_pair.setdefault((rest, *cell), []).append(run)
    return {
        pair: (fmean(run.result.test.accuracy for run in same), same[0].test_set)
        for pair, same in by_pair.items()
    }


def _complete(differences: dict[Pair, float]) -> dict[Pair, float]:
    """Return the pairs of settings that have every split and seed."""
    flat = {(setting, f"{split}\0{seed}"): (setting, split, seed)
            for setting, split, seed in differences}  # fmt: skip
    whole = largest_factorial({cell: differences[pair] for cell, pair in flat.items()})
    return differences if whole is None else {flat[cell]: value for cell, value in whole.items()}


def _by_cell(differences: dict[Pair, float]) -> Cells:
    """Return the mean difference over the settings, by split and seed."""
    by_cell: dict[tuple[str, str], list[float]] = {}
    for (_, split, seed), value in differences.items():
        by_cell.setdefault((split, seed), []).append(value)
    return {cell: fmean(values) for cell, values in by_cell.items()}
