"""Which of two settings is better on the test set, and with what confidence.

Single runs are compared by the images they classify correctly, settings with repetitions by the
accuracies of their runs, paired by split and seed. Pairs that are tested on different images, or
that share a split or a seed, are not independent; the test is chosen accordingly.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, stdev, variance

from tinylab.comparison import statistics
from tinylab.comparison.settings import Setting, cells
from tinylab.comparison.statistics import Adjusted, Cell, Cells, Outcome, Posterior
from tinylab.store.run import Run

DETECT = 0.01  # one point of accuracy, of which a verdict speaks beside the difference seen
TESTS = ("t", "wilcoxon")
DECISIVE = 0.95  # the probability needed to decide better, or practically equal
LEAST_RANKS = 6  # pairs, for which the smallest possible p is 2 / 2^6
Pairs = Sequence[tuple[Setting, Setting]]


@dataclass(frozen=True)
class Plan:
    """How many repetitions a t test needs to detect a difference.

    ``std`` is the standard deviation of the pairs' differences or, if not ``is_paired``, of each
    group; ``have`` the number of repetitions, whose name is ``unit``; ``test_train_ratio`` as in
    ``statistics.corrected_t``.
    """

    std: float
    have: int
    unit: str
    besides: str = ""
    test_train_ratio: float = 0.0
    is_paired: bool = True

    def words(self, difference: float, family: int) -> str:
        """What it takes for the difference that was seen, and for DETECT.

        The level is 5% divided by the number of tests in the family (Bonferroni), since the
        p-values are adjusted for it, too.
        """
        seen, other = (self._needed(each, family) for each in (abs(difference), DETECT))
        power = f"with {statistics.POWER:.0%} power"
        if points(abs(difference)) == points(0.0) or (seen is not None and seen <= self.have):
            if other is not None and other <= self.have:
                return f"these {self.unit}s detect a 1-point difference {power}"
            return f"{self._more(other)} needed to detect a 1-point difference {power}"
        beside = "enough for 1 point"
        if other is None or other > self.have:
            most = f"more than {statistics.MOST:,}"
            beside = f"{most if other is None else f'{other - self.have:,} more'} for 1 point"
        return f"{self._more(seen)} needed to detect this difference {power} ({beside})"

    def _needed(self, detect: float, family: int) -> int | None:
        alpha = statistics.ALPHA / family
        if detect == 0:
            return None
        if self.is_paired:
            return statistics.pairs_needed(self.std, detect, self.test_train_ratio, alpha)
        return statistics.group_size_needed(self.std, detect, alpha)

    def _more(self, needed: int | None) -> str:
        if needed is None:
            return f"more than {statistics.MOST:,} {self.unit}s"
        more = needed - self.have
        return f"{more:,} more {self.unit}{'s' * (more > 1)}{self.besides}"


@dataclass(frozen=True)
class Trial:
    """The test of two settings. ``outcome`` is None if no test was possible.

    ``difference`` is first minus second in test accuracy, a fraction. Where no difference is
    shown, ``plan`` tells what more repetitions would show, or else ``otherwise`` what there is to
    say.
    """

    method: str
    difference: float | None
    outcome: Outcome | None
    otherwise: str = ""
    plan: Plan | None = None

    def advice(self, family: int) -> str:
        """What there is to say where no difference is shown in a family of so many tests."""
        if self.plan is None or self.difference is None:
            return self.otherwise
        return self.plan.words(self.difference, family)


@dataclass(frozen=True)
class Verdict:
    """A trial as one of a ``family`` of tests, ``adjusted`` for their number.

    ``posterior`` is of first minus second; None without a region of practical equivalence, or
    without a t test.
    """

    first: Setting
    second: Setting
    trial: Trial
    adjusted: Adjusted | None
    family: int
    posterior: Posterior | None = None

    @property
    def p(self) -> float | None:
        """The adjusted p-value (Holm)."""
        return None if self.adjusted is None else self.adjusted.p

    @property
    def winner(self) -> Setting | None:
        """The better setting, if shown at the 5% level."""
        if self.trial.outcome is None or self.p is None or self.p >= statistics.ALPHA:
            return None
        return self.first if self.trial.outcome.difference > 0 else self.second

    def words(self, first: str | None = None, second: str | None = None) -> str:
        """As in ``A beats B (p = 0.003)``, with other names than the settings' labels if given."""
        first, second = first or self.first.label, second or self.second.label
        if self.p is None:
            return self.trial.otherwise
        if self.winner is None:
            return f"no difference shown ({p_text(self.p)}): {self.trial.advice(self.family)}"
        if self.winner is self.second:
            first, second = second, first
        return f"{first} beats {second} ({p_text(self.p)})"

    def decision(self, first: str, second: str) -> str:
        """``A is better``, ``practically equal`` or ``unknown``, by probability ``DECISIVE``."""
        if self.posterior is None:
            return "unknown: needs repeated runs whose accuracies differ"
        known = {
            f"{first} is better": self.posterior.better,
            "practically equal": self.posterior.equal,
            f"{second} is better": self.posterior.worse,
        }
        return next(
            (words for words, probability in known.items() if probability >= DECISIVE), "unknown"
        )


def p_text(p: float) -> str:
    """As in ``p = 0.003``."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def judge(pairs: Pairs, test: str = "t", rope: float | None = None) -> list[Verdict]:
    """Return verdicts on a family of pairs of settings; ``test`` is one of TESTS.

    ``rope``: differences of accuracy up to this fraction count as equal; None: not requested.
    """
    trials = [run_test(first, second, test) for first, second in pairs]
    adjusted, family = adjust(trials)
    return [
        Verdict(first, second, trial, each, family, _posterior(trial, rope))
        for (first, second), trial, each in zip(pairs, trials, adjusted, strict=True)
    ]


def adjust(trials: Sequence[Trial]) -> tuple[list[Adjusted | None], int]:
    """Each trial adjusted for the number of those that were tested, and this number.

    With few runs, Student's interval may exceed the range of a difference, -1 to 1; it is clipped.
    """
    tested = [trial.outcome for trial in trials if trial.outcome is not None]
    adjusted = (
        replace(each, low=max(each.low, -1.0), high=min(each.high, 1.0))
        for each in statistics.adjust(tested)
    )
    return [None if trial.outcome is None else next(adjusted) for trial in trials], len(tested)


def _posterior(trial: Trial, rope: float | None) -> Posterior | None:
    if rope is None or trial.outcome is None:
        return None
    return statistics.posterior(trial.outcome, rope)


def run_test(first: Setting, second: Setting, test: str = "t") -> Trial:
    """Return the test that the design allows, on the test sets that both settings have."""
    common = first.by_test_set.keys() & second.by_test_set.keys()
    if not common:
        return _refused("no common test split")
    a, b = ([run for run in each.runs if run.test_set in common] for each in (first, second))
    pooled = list(dict.fromkeys(first.pooled + second.pooled))
    by_cell, other_by_cell = cells(a, pooled), cells(b, pooled)
    both = [cell for cell in by_cell if cell in other_by_cell]
    differences = {cell: _accuracy(by_cell[cell]) - _accuracy(other_by_cell[cell]) for cell in both}
    used = 2 * len(both)
    if len(a) == len(b) == 1:
        trial, used = _single(a[0], b[0]), 2
    elif len(common) > 1 and len({split for split, _ in both}) < 2:
        return _refused("fewer than two test splits with a common training seed")
    elif len(common) > 1:
        trial = of_differences(differences, test_train_ratio([*a, *b]), test)
    elif len(both) == len(a) == len(b):
        trial = of_differences(differences, 0.0, test)
    else:
        trial, used = _unpaired(by_cell, other_by_cell, test), len(a) + len(b)
    total = len(first.runs) + len(second.runs)
    if used == total or not trial.method:
        return trial
    return replace(trial, method=f"{trial.method}, by {used} of their {total} runs")


def _refused(reason: str) -> Trial:
    return Trial("", None, None, f"not compared: {reason}")


def _accuracy(run: Run) -> float:
    return run.result.test.accuracy


def test_train_ratio(runs: Sequence[Run]) -> float:
    """Return the ratio of test to training images, of the means over all runs."""
    datasets = [run.result.dataset for run in runs]
    return fmean(each.num_test for each in datasets) / fmean(each.num_train for each in datasets)


def _single(a: Run, b: Run) -> Trial:
    first, second = a.predictions, b.predictions
    if first is None or second is None:
        lacking = a if first is None else b
        return _refused(f"{lacking.files.predictions_file} cannot be read")
    right = first.predicted == first.label
    other_right = second.predicted == second.label
    outcome = statistics.mcnemar(right, other_right)
    method = f"exact McNemar on {len(right):,} test images"
    return Trial(method, outcome.difference, outcome, "run more seeds of both")


def of_differences(differences: Cells, test_train_ratio: float, test: str) -> Trial:
    """Test paired differences; a ratio above 0 means that their test sets differ."""
    values = list(differences.values())
    n, mean = len(values), fmean(values)
    if not statistics.have_spread(values):
        same = "equal accuracy" if abs(mean) < 1e-12 else f"the same {points(mean)} points"
        return Trial("", mean, None, f"not tested: {same} in all {n} pairs")
    if test == "wilcoxon":
        return _by_ranks(values, test_train_ratio == 0 and not statistics.is_crossed(differences))
    if statistics.is_crossed(differences):
        return _crossed(differences, test_train_ratio)
    if test_train_ratio > 0:
        method = f"corrected resampled t (Nadeau and Bengio 2003) over {n} splits"
        outcome = statistics.corrected_t(values, test_train_ratio)
        plan = Plan(stdev(values), n, "split", test_train_ratio=test_train_ratio)
        return Trial(method, mean, outcome, plan=plan)
    method = f"paired t over {n} pairs, on one test set"
    plan = Plan(stdev(values), n, "seed" if statistics.design(differences)[0] == 1 else "split")
    return Trial(method, mean, statistics.paired_t(values), plan=plan)


def _by_ranks(differences: Sequence[float], are_independent: bool) -> Trial:
    n, mean = len(differences), fmean(differences)
    if not are_independent:
        reason = "the Wilcoxon test needs independent pairs, and these share splits or images"
        return Trial("", mean, None, f"not tested: {reason}")
    outcome = replace(statistics.paired_t(differences), p=statistics.wilcoxon(differences))
    method = f"Wilcoxon signed-rank over {n} pairs (CI: Student's t), on one test set"
    if n < LEAST_RANKS:
        return Trial(method, mean, outcome, f"at least {LEAST_RANKS} seeds are needed to show one")
    return Trial(method, mean, outcome, plan=Plan(stdev(differences), n, "seed"))


def _crossed(differences: Cells, test_train_ratio: float) -> Trial:
    splits, seeds = statistics.design(differences)
    outcome = statistics.crossed_t(differences, test_train_ratio)
    method = f"min F' (Clark 1973) over {splits} splits and {seeds} seeds"
    if test_train_ratio > 0:
        method += ", corrected for resampling (Nadeau and Bengio 2003)"
    # As if each of the fewer levels gave one independent difference.
    fewer = min(splits, seeds)
    error, _ = statistics.crossed_error(differences, test_train_ratio)
    std = error / math.sqrt(1 / fewer + test_train_ratio)
    plan = Plan(std, fewer, "split", " and as many more seeds", test_train_ratio)
    return Trial(method, outcome.difference, outcome, plan=plan)


def _unpaired(a: Mapping[Cell, Run], b: Mapping[Cell, Run], test: str) -> Trial:
    if min(len(a), len(b)) == 1:
        return _refused("one setting has a single run, so its spread is unknown")
    if statistics.is_crossed(dict.fromkeys((*a, *b), 0.0)):
        return _refused("crossed splits and seeds are compared in pairs, and theirs differ")
    first, second = ([_accuracy(run) for run in runs.values()] for runs in (a, b))
    difference = fmean(first) - fmean(second)
    if not (statistics.have_spread(first) or statistics.have_spread(second)):
        return Trial("", difference, None, "not tested: neither varies over its runs")
    outcome = statistics.welch(first, second)
    method = "Welch's t"
    if test == "wilcoxon":
        outcome = replace(outcome, p=statistics.mann_whitney(first, second))
        method = "Mann-Whitney rank-sum (CI: Welch's t)"
    std = math.sqrt((variance(first) + variance(second)) / 2)
    plan = Plan(std, min(len(first), len(second)), "seed", " of each", is_paired=False)
    seeds = f"{len(first)} and {len(second)} unpaired seeds"
    return Trial(f"{method} over {seeds}, on one test set", difference, outcome, plan=plan)


def points(difference: float) -> str:
    """A difference of accuracies in points: ``+1.25``."""
    return f"{100 * difference:+.2f}"


def points_span(adjusted: Adjusted) -> str:
    """As in ``+0.08 to +1.93``."""
    return f"{points(adjusted.low)} to {points(adjusted.high)}"
