"""The report's first sentences: the result, its uncertainty, and caveats."""

from collections.abc import Sequence

from tinylab.comparison.columns import pair
from tinylab.comparison.comparison import Comparison, Row
from tinylab.comparison.data_size import KEY, LEAST_RUNS, LEAST_SIZES, DataSize
from tinylab.comparison.show import caveats
from tinylab.comparison.verdicts import Verdict, p_text, points
from tinylab.config.metrics import between

MOST_DOUBLED = 5  # settings whose gain from more data is stated
MOST_NAMED = 2  # settings that a sentence names


def answer(comparison: Comparison) -> list[str]:
    """Return the result in a few sentences."""
    [best, *others] = comparison.rows
    if not others:
        return [f"{best.setting.label}: test accuracy {_test(best)}."]
    if comparison.selected is None:
        undecided = f"{len(comparison.rows)} settings, but no validation set to select one."
        return [undecided, *_of_pairs(comparison)]
    validation = best.metrics["val_accuracy"]
    assert validation is not None
    selection = (
        f"Best of {len(comparison.rows)} settings by validation: {best.setting.label} "
        f"({best.name}), with {validation.mean:.2%}. Its test accuracy is {_test(best)}."
    )
    return [selection, f"On the test set, {_comparison(comparison)}."]


def _of_pairs(comparison: Comparison) -> list[str]:
    """Return the test-set comparison of every pair; pairs without difference in one sentence."""
    pairs = [(pair(comparison, each), each) for each in comparison.verdicts]
    sentences = [f"On the test set, {each.words(*names)}." for names, each in pairs if each.winner]
    alike = [" and ".join(names) for names, each in pairs if each.p and not each.winner]
    if alike:
        sentences.append(f"On the test set, no difference is shown between {', or '.join(alike)}.")
    untested = [" and ".join(names) for names, each in pairs if each.p is None]
    if untested:
        sentences.append(f"No test was possible between {', or '.join(untested)}.")
    return sentences


def _test(row: Row) -> str:
    """Return the test accuracy with its CI: of the mean over runs, otherwise of one test set."""
    low, high = row.test.low, row.test.high
    what = f"mean of {len(row.setting.runs)} runs"
    if low is None or high is None:
        runs = "one run" if row.test.num == 1 else f"{row.test.num} runs of equal accuracy"
        (low, high), what = row.one_test_set, f"{runs}, {row.num_test:,.0f} images"
    return f"{row.test.mean:.2%} (95% CI {between(low, high)}; {what})"


def _comparison(comparison: Comparison) -> str:
    """Return which settings the best one beats, and which it does not."""
    best, verdicts = comparison.rows[0].setting, comparison.verdicts
    alike = [each for each in verdicts if each.p and each.winner is None]
    kinds = [
        ("it beats", "all", [each for each in verdicts if each.winner is best]),
        ("it is beaten by", "all", [each for each in verdicts if each.winner is each.second]),
        ("no difference is shown from", "any of the", alike),
        ("it could not be tested against", "any of the", [v for v in verdicts if v.p is None]),
    ]
    return "; ".join(
        f"{words} {_listed(comparison, inner, every)}" for words, every, inner in kinds if inner
    )


def _listed(comparison: Comparison, verdicts: Sequence[Verdict], every: str) -> str:
    """Name all of a few settings, or their number and the first of them, by validation.

    ``every`` precedes the number of all others.
    """
    if len(verdicts) <= MOST_NAMED:
        return " and ".join(_named(comparison, each) for each in verdicts)
    number = f"{len(verdicts)} others"
    if len(verdicts) == len(comparison.verdicts):
        number = f"{every} {number}"
    first = _named(comparison, verdicts[0])
    return f"{number}, the closest by validation being {first}"


def _named(comparison: Comparison, verdict: Verdict) -> str:
    """As in ``B (model.filters=8; p = 0.237)``."""
    p = "" if verdict.p is None else f"; {p_text(verdict.p)}"
    return f"{comparison.name_of(verdict.second)} ({verdict.second.label}{p})"


def more_data(data_sizes: Sequence[DataSize]) -> list[str]:
    """Return the gain from doubling the training images for the first settings, by power laws."""
    shown = data_sizes[:MOST_DOUBLED]
    return [f"{f'{one.label}: ' if one.label else ''}{_doubled(one)}" for one in shown]


def _doubled(one: DataSize) -> str:
    largest = one.sizes[-1]
    if one.law is None or one.gain is None:
        return f"A power law needs at least {LEAST_SIZES} sizes, such as {KEY}=0.1,0.3,1."
    span = f"no CI, which needs {LEAST_RUNS} seeds per size"
    if one.low is not None and one.high is not None:
        low, high = points(one.low), points(one.high)
        span = f"95% CI {low} to {high}, bootstrap over {one.num_runs} runs per size"
    law = f"{one.law.scale:.3g} n^-{one.law.exponent:.2f}"
    law += f" + {one.law.floor:.2g}" if one.law.floor else ""
    return (
        f"Doubling the training images from {largest:,} to {2 * largest:,} would gain "
        f"{points(one.gain)} points of test accuracy ({span}), if the error keeps falling as "
        f"{law} for n images."
    )


def discipline(comparison: Comparison, num_left_out: int) -> str:
    """Return what readers must know before the column of test accuracies."""
    more = f", not counting {num_left_out} left out below" if num_left_out else ""
    if len(comparison.rows) == 1 and not more:
        return "Only one setting was tried, so its test accuracy has no selection bias."
    tried = f"{comparison.tried}{more}."
    if comparison.selected is None:
        return tried
    return (
        f"{tried} Select by validation only: the test accuracy is unbiased for the setting "
        "selected by validation, and too high for one selected by test accuracy."
    )


def warnings(comparison: Comparison) -> list[str]:
    """Return caveats."""
    sentences = [f"{text[0].upper()}{text[1:]}." for text in comparison.warnings]
    return [*sentences, *caveats(comparison)]
