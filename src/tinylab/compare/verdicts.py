"""Which of two settings is better on the test set, and how sure that is.

Single runs are judged by the images they have right, settings with repetitions by the accuracies
of their runs: paired by seed where all were tested on the same images, and by split where the
split decides the test images, for then a difference on one split is one observation.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean, stdev, variance

from tinylab.compare import statistics
from tinylab.compare.collect import Run
from tinylab.compare.schema import SEEDS
from tinylab.compare.settings import Setting, varied
from tinylab.compare.statistics import Outcome

DETECT = 0.01  # one point of accuracy: what a verdict without difference speaks of
TESTS = ("t", "wilcoxon")
LEAST_RANKS = 6  # pairs, of which the smallest possible p is 2 / 2^6
Pairs = Sequence[tuple[Setting, Setting]]


@dataclass(frozen=True)
class Trial:
    """What a test of two settings found. ``outcome`` is None where no test could be made.

    ``difference`` is first minus second in test accuracy, as a share; ``otherwise`` what there
    is to say where no difference is shown.
    """

    method: str
    difference: float | None
    outcome: Outcome | None
    otherwise: str


@dataclass(frozen=True)
class Verdict:
    """A trial with its place in a family: ``p`` is adjusted for their number (Holm)."""

    first: Setting
    second: Setting
    trial: Trial
    p: float | None

    @property
    def winner(self) -> Setting | None:
        """The better one, where that is shown at the 5 % level."""
        if self.trial.outcome is None or self.p is None or self.p >= statistics.ALPHA:
            return None
        return self.first if self.trial.outcome.difference > 0 else self.second

    def words(self, first: str | None = None, second: str | None = None) -> str:
        """``A beats B (p = 0.003)``, with other names than the settings' labels if given."""
        first, second = first or self.first.label, second or self.second.label
        if self.p is None:
            return self.trial.otherwise
        if self.winner is None:
            return f"no difference shown ({p_text(self.p)}): {self.trial.otherwise}"
        if self.winner is self.second:
            first, second = second, first
        return f"{first} beats {second} ({p_text(self.p)})"


def p_text(p: float) -> str:
    """``p = 0.003``."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def judge(pairs: Pairs, test: str = "t") -> list[Verdict]:
    """The verdicts on a family of pairs of settings; ``test`` is one of TESTS."""
    trials = [try_out(first, second, test) for first, second in pairs]
    tested = [trial.outcome.p for trial in trials if trial.outcome is not None]
    adjusted = iter(statistics.holm(tested))
    return [
        Verdict(first, second, trial, next(adjusted) if trial.outcome is not None else None)
        for (first, second), trial in zip(pairs, trials, strict=True)
    ]


def try_out(first: Setting, second: Setting, test: str = "t") -> Trial:
    """The test that the design of two settings allows, on the test sets that both have."""
    common = [test_set for test_set in first.by_test_set if test_set in second.by_test_set]
    if not common:
        return _refused("they have no test split in common")
    if len(common) > 1:
        return _by_split(first, second, common, test)
    a, b = first.by_test_set[common[0]], second.by_test_set[common[0]]
    if len(a) == len(b) == 1:
        return _single(a[0], b[0])
    if min(len(a), len(b)) == 1:
        return _refused("one of them has a single run, whose spread over seeds is not known")
    keys = [*SEEDS, *varied([run.values for run in a]), *varied([run.values for run in b])]
    by_seed, other_by_seed = _by_values(a, keys), _by_values(b, keys)
    if by_seed.keys() == other_by_seed.keys():
        return _paired([(by_seed[key], other_by_seed[key]) for key in by_seed], test)
    return _unpaired(a, b, test)


def _refused(reason: str) -> Trial:
    return Trial("", None, None, f"not compared: {reason}")


def _accuracy(runs: Sequence[Run]) -> float:
    return fmean(run.result["test"]["accuracy"] for run in runs)


def _by_values(runs: Sequence[Run], keys: Sequence[str]) -> dict[tuple[str, ...], Run]:
    return {tuple(repr(run.values.get(key)) for key in keys): run for run in runs}


def _single(a: Run, b: Run) -> Trial:
    first, second = a.predictions, b.predictions
    if first is None or second is None:
        lacking = a if first is None else b
        return _refused(f"{lacking.folder / 'predictions.npz'} cannot be read")
    right = first["predicted"] == first["label"]
    other_right = second["predicted"] == second["label"]
    outcome = statistics.mcnemar(right, other_right)
    counts = f"{int((right & ~other_right).sum())} to {int((other_right & ~right).sum())}"
    method = f"exact McNemar on {len(right):,} test images ({counts})"
    return Trial(method, outcome.difference, outcome, "more seeds of both would tell more")


def _paired(pairs: Sequence[tuple[Run, Run]], test: str) -> Trial:
    differences = [_accuracy([a]) - _accuracy([b]) for a, b in pairs]
    return _of_differences(differences, "seed", 0.0, test)


def _by_split(first: Setting, second: Setting, common: Sequence[str], test: str) -> Trial:
    runs = [run for each in common for run in (*first.by_test_set[each], *second.by_test_set[each])]
    num_test, num_train = (
        fmean(run.result["dataset"][part] for run in runs) for part in ("num_test", "num_train")
    )
    differences = [
        _accuracy(first.by_test_set[each]) - _accuracy(second.by_test_set[each]) for each in common
    ]
    trial = _of_differences(differences, "split", num_test / num_train, test)
    if len(runs) == 2 * len(common):
        return trial
    return replace(trial, method=f"{trial.method}, each the mean of its seeds")


def _of_differences(
    differences: Sequence[float], unit: str, test_train_ratio: float, test: str
) -> Trial:
    """The test of paired differences; a ratio above 0 says that they are of random splits."""
    n, mean = len(differences), fmean(differences)
    if not statistics.have_spread(differences):
        same = "equal accuracy" if abs(mean) < 1e-12 else f"the same {points(mean)} points"
        return Trial("", mean, None, f"not tested: {same} on each of {n} {unit}s")
    outcome = statistics.paired_t(differences)
    method = "paired t"
    if test_train_ratio > 0:
        outcome = statistics.corrected_t(differences, test_train_ratio)
        method = "corrected resampled t (Nadeau and Bengio 2003)"
    needed = statistics.pairs_needed(stdev(differences), DETECT, test_train_ratio)
    advice = _more(needed, n, unit)
    if test == "wilcoxon":
        outcome = replace(outcome, p=statistics.wilcoxon(differences))
        method = "Wilcoxon signed-rank"
        advice = advice if n >= LEAST_RANKS else f"it takes {LEAST_RANKS} {unit}s to show any"
    return Trial(f"{method} over {n} {unit}s", mean, outcome, advice)


def _unpaired(a: Sequence[Run], b: Sequence[Run], test: str) -> Trial:
    first, second = ([run.result["test"]["accuracy"] for run in runs] for runs in (a, b))
    difference = fmean(first) - fmean(second)
    if not (statistics.have_spread(first) or statistics.have_spread(second)):
        return Trial("", difference, None, "not tested: no spread over the seeds of either")
    outcome = statistics.welch(first, second)
    method = "Welch's t"
    if test == "wilcoxon":
        outcome = replace(outcome, p=statistics.mann_whitney(first, second))
        method = "Mann-Whitney's rank-sum"
    std = math.sqrt((variance(first) + variance(second)) / 2)
    smaller = min(len(first), len(second))
    advice = _more(statistics.group_size_needed(std, DETECT), smaller, "seed", " of each")
    seeds = f"{len(first)} and {len(second)} unpaired seeds"
    return Trial(f"{method} over {seeds}", difference, outcome, advice)


def _more(needed: int | None, have: int, unit: str, of_each: str = "") -> str:
    """What it takes to show a difference of DETECT."""
    shows = f"detect {DETECT * 100:.0f} point with {statistics.POWER * 100:.0f} % power"
    if needed is None:
        return f"{statistics.MOST:,} {unit}s{of_each} would not {shows}"
    if needed <= have:
        return f"these {have} {unit}s{of_each} would {shows}"
    plural = "s" if needed > have + 1 else ""
    return f"{needed - have} more {unit}{plural}{of_each} would {shows}"


def points(difference: float) -> str:
    """A difference of shares in points: ``+1.25``."""
    return f"{100 * difference:+.2f}"
