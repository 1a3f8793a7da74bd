"""Which setting beats which: the test that fits the design, its words, and what is refused."""

from pathlib import Path
from typing import Any

import pytest
from scipy import stats

from compare_kit import write_run
from tinylab.comparison import statistics
from tinylab.comparison.settings import Setting, group
from tinylab.comparison.verdicts import Plan, Trial, judge, p_text, run_test
from tinylab.store.collect import collect

pytestmark = pytest.mark.costly


def settings_of(outputs: Path, *by: str) -> dict[Any, Setting]:
    """The settings by their model.filters."""
    runs, skipped = collect([outputs])
    assert skipped == []
    made = group(runs, by or None)
    return {setting.runs[0].values["model.filters"]: setting for setting in made}


def write_pairs(outputs: Path, fours: list[int], eights: list[int], seed: str, **more: Any) -> None:
    """Runs of two settings with these numbers of right test images, over a kind of seed."""
    for filters, rights in ((4, fours), (8, eights)):
        for number, right in enumerate(rights):
            write_run(outputs, right, model__filters=filters, **{seed: number}, **more)


def tried(outputs: Path, test: str = "t") -> Trial:
    made = settings_of(outputs)
    return run_test(made[8], made[4], test)


def test_two_single_runs_are_judged_image_by_image(tmp_path: Path) -> None:
    write_run(tmp_path, range(2, 62), model__filters=4)
    write_run(tmp_path, range(12, 94), model__filters=8)
    trial = tried(tmp_path)
    assert trial.method == "exact McNemar on 100 test images"
    assert trial.outcome is not None
    assert trial.outcome.p == pytest.approx(stats.binomtest(10, 42).pvalue)
    assert trial.difference == pytest.approx(0.22)


def test_equal_predictions_show_no_difference(tmp_path: Path) -> None:
    write_pairs(tmp_path, [90], [90], "seed")
    made = settings_of(tmp_path)
    [verdict] = judge([(made[4], made[8])])
    assert verdict.words("A", "B") == ("no difference shown (p = 1.000): run more seeds of both")


def test_equal_seeds_on_one_test_set_are_paired(tmp_path: Path) -> None:
    write_pairs(tmp_path, [90, 80, 85], [92, 83, 86], "seed")
    trial = tried(tmp_path)
    assert trial.method == "paired t over 3 pairs, on one test set"
    assert trial.outcome is not None
    assert trial.outcome.p == pytest.approx(stats.ttest_rel([92, 83, 86], [90, 80, 85]).pvalue)
    assert trial.difference == pytest.approx(0.02)
    assert trial.advice(family=1) == (
        "2 more seeds needed to detect this difference with 80% power (7 more for 1 point)"
    )
    assert trial.advice(family=3) == (
        "3 more seeds needed to detect this difference with 80% power (11 more for 1 point)"
    )


def test_an_official_test_set_pairs_over_split_seeds_without_correction(tmp_path: Path) -> None:
    write_pairs(tmp_path, [90, 80, 85], [92, 83, 86], "split__seed", official_test=True)
    assert tried(tmp_path).method == "paired t over 3 pairs, on one test set"


def test_random_test_splits_are_paired_with_the_correction(tmp_path: Path) -> None:
    write_pairs(tmp_path, [90, 80, 85], [92, 83, 86], "split__seed")
    trial = tried(tmp_path)
    assert trial.method == "corrected resampled t (Nadeau and Bengio 2003) over 3 splits"
    assert trial.outcome == statistics.corrected_t([0.92 - 0.9, 0.83 - 0.8, 0.86 - 0.85], 1 / 9)


def test_folds_are_splits(tmp_path: Path) -> None:
    write_pairs(tmp_path, [90, 80, 85], [92, 83, 86], "split__fold", split__folds=3)
    assert "over 3 splits" in tried(tmp_path).method


def test_splits_crossed_with_seeds_share_their_luck(tmp_path: Path) -> None:
    gains = [[2, 3, 4], [5, 6, 4]]
    for split, row in enumerate(gains):
        write_pairs(tmp_path, [80] * 3, [80 + gain for gain in row], "seed", split__seed=split)
    trial = tried(tmp_path)
    assert trial.method == (
        "min F' (Clark 1973) over 2 splits and 3 seeds, "
        "corrected for resampling (Nadeau and Bengio 2003)"
    )
    fractions = {
        (str(i), str(j)): g / 100 for i, row in enumerate(gains) for j, g in enumerate(row)
    }
    expected = statistics.crossed_t(fractions, 1 / 9)
    assert trial.outcome is not None
    assert (trial.outcome.p, trial.outcome.low) == pytest.approx((expected.p, expected.low))
    assert trial.advice(family=1) == (
        "2 more splits and as many more seeds needed to detect this difference with 80% power "
        "(more than 1,024 for 1 point)"
    )


def test_an_official_test_set_crosses_without_correction(tmp_path: Path) -> None:
    for split, row in enumerate([[2, 3, 4], [5, 6, 4]]):
        rights = [80 + gain for gain in row]
        more = {"split__seed": split, "official_test": True}
        write_pairs(tmp_path, [80] * 3, rights, "seed", **more)
    assert tried(tmp_path).method == "min F' (Clark 1973) over 2 splits and 3 seeds"


def test_only_the_seeds_that_both_have_count_in_each_split(tmp_path: Path) -> None:
    for split in range(3):
        write_pairs(tmp_path, [80, 90, 70], [82 + split], "seed", split__seed=split)
    trial = tried(tmp_path)
    assert trial.difference == pytest.approx(0.03)
    assert trial.method.endswith("over 3 splits, by 6 of their 12 runs")


def test_splits_without_a_common_seed_are_refused(tmp_path: Path) -> None:
    for split in range(3):
        write_run(tmp_path, model__filters=4, split__seed=split, seed=0)
        write_run(tmp_path, model__filters=8, split__seed=split, seed=1)
    assert "with a common training seed" in tried(tmp_path).otherwise


def test_unpaired_factorials_are_refused(tmp_path: Path) -> None:
    for split in range(2):
        for seed in range(2):
            more = {"split__seed": split, "official_test": True}
            write_run(tmp_path, 80 + seed, model__filters=4, seed=seed, **more)
            write_run(tmp_path, 80 + split, model__filters=8, seed=seed + 2, **more)
    assert "crossed splits and seeds" in tried(tmp_path).otherwise


def test_ranks_are_refused_where_pairs_are_not_independent(tmp_path: Path) -> None:
    write_pairs(tmp_path, [90, 80, 85], [92, 83, 86], "split__seed")
    assert tried(tmp_path, "wilcoxon").otherwise == (
        "not tested: the Wilcoxon test needs independent pairs, and these share splits or images"
    )


def test_only_the_splits_that_both_have_count(tmp_path: Path) -> None:
    write_pairs(tmp_path, [90, 80, 85, 10], [92, 83, 86], "split__seed")
    assert tried(tmp_path).method.endswith("over 3 splits, by 6 of their 7 runs")
    assert tried(tmp_path).difference == pytest.approx(0.02)


def test_one_common_split_leaves_two_single_runs(tmp_path: Path) -> None:
    write_pairs(tmp_path, [90, 80], [92], "split__seed")
    trial = tried(tmp_path)
    assert trial.method == "exact McNemar on 100 test images, by 2 of their 3 runs"


def test_unequal_seeds_on_one_test_set_are_welchs(tmp_path: Path) -> None:
    write_pairs(tmp_path, [90, 80, 85, 88], [95, 93, 96], "seed")
    trial = tried(tmp_path)
    assert trial.method == "Welch's t over 3 and 4 unpaired seeds, on one test set"
    expected = stats.ttest_ind([95, 93, 96], [90, 80, 85, 88], equal_var=False)
    assert trial.outcome is not None
    assert trial.outcome.p == pytest.approx(expected.pvalue)
    assert trial.advice(family=1) == (
        "1 more seed of each needed to detect this difference with 80% power (165 more for 1 point)"
    )
    rank_trial = tried(tmp_path, "wilcoxon")
    assert rank_trial.outcome is not None
    assert rank_trial.outcome.p == pytest.approx(stats.mannwhitneyu([5, 6, 7], [1, 2, 3, 4]).pvalue)


def test_wilcoxon_on_request(tmp_path: Path) -> None:
    write_pairs(tmp_path, [80, 80, 80, 80, 80, 80], [81, 82, 83, 84, 85, 86], "seed")
    trial = tried(tmp_path, "wilcoxon")
    assert trial.method == "Wilcoxon signed-rank over 6 pairs (CI: Student's t), on one test set"
    assert trial.outcome is not None
    assert trial.outcome.p == pytest.approx(2 / 2**6)


def test_too_few_pairs_for_wilcoxon_are_said(tmp_path: Path) -> None:
    write_pairs(tmp_path, [80] * 5, [81, 82, 83, 84, 85], "seed")
    made = settings_of(tmp_path)
    [verdict] = judge([(made[8], made[4])], "wilcoxon")
    assert (
        verdict.words()
        == "no difference shown (p = 0.062): at least 6 seeds are needed to show one"
    )


@pytest.mark.parametrize(
    ("eights", "words"),
    [
        ([80, 70], "not tested: equal accuracy in all 2 pairs"),
        ([83, 73], "not tested: the same +3.00 points in all 2 pairs"),
    ],
)
def test_differences_without_spread_are_not_tested(
    tmp_path: Path, eights: list[int], words: str
) -> None:
    write_pairs(tmp_path, [80, 70], eights, "seed")
    made = settings_of(tmp_path)
    [verdict] = judge([(made[8], made[4])])
    assert verdict.words() == words
    assert verdict.winner is None


def test_unpaired_runs_without_spread_are_not_tested(tmp_path: Path) -> None:
    write_pairs(tmp_path, [80, 80, 80], [70, 70], "seed")
    assert tried(tmp_path).otherwise == "not tested: neither varies over its runs"


def test_what_cannot_be_compared_is_refused_with_the_reason(tmp_path: Path) -> None:
    write_run(tmp_path, model__filters=4, split__seed=0)
    write_run(tmp_path, model__filters=8, split__seed=1)
    write_pairs(tmp_path, [1, 2], [], "seed", split__seed=1)
    made = settings_of(tmp_path)
    [verdict] = judge([(made[4], made[8])])
    assert verdict.p is None
    assert verdict.words() == (
        "not compared: one setting has a single run, so its spread is unknown"
    )


def test_no_common_split_is_refused(tmp_path: Path) -> None:
    write_run(tmp_path, model__filters=4, split__seed=0)
    write_run(tmp_path, model__filters=8, split__seed=1)
    assert tried(tmp_path).otherwise == "not compared: no common test split"


def test_lost_predictions_are_named(tmp_path: Path) -> None:
    write_pairs(tmp_path, [80], [90], "seed")
    for path in tmp_path.rglob("predictions.npz"):
        path.unlink()
    assert tried(tmp_path).otherwise.endswith("predictions.npz cannot be read")


def test_a_family_is_adjusted_by_holm_and_what_was_not_tested_does_not_count(
    tmp_path: Path,
) -> None:
    rights = {4: [80, 70, 75], 8: [90, 82, 84], 16: [88, 80, 83], 32: [80, 70, 75]}
    for filters, each in rights.items():
        for seed, right in enumerate(each):
            write_run(tmp_path, right, model__filters=filters, seed=seed)
    made = settings_of(tmp_path)
    family = judge([(made[8], made[4]), (made[4], made[32]), (made[8], made[16])])
    assert [verdict.family for verdict in family] == [2, 2, 2]
    alone = [judge([(verdict.first, verdict.second)])[0].p for verdict in family]
    assert alone[1] is family[1].p is None
    assert [family[0].p, family[2].p] == pytest.approx(statistics.holm([alone[0], alone[2]]))  # type: ignore[list-item]
    assert family[0].words() == f"model.filters=8 beats model.filters=4 ({p_text(family[0].p)})"  # type: ignore[arg-type]
    [turned] = judge([(made[4], made[8])])
    assert turned.words("A", "B") == f"B beats A ({p_text(turned.p)})"  # type: ignore[arg-type]


def test_pooled_settings_are_paired_by_all_that_varies_in_them(tmp_path: Path) -> None:
    """Grouped by model.filters, the runs pair by seed and learning rate."""
    for filters, gain in ((4, 0), (8, 5)):
        for rate, right in ((0.1, 60), (0.01, 80)):
            for seed in range(2):
                extra = gain * (1 + seed)
                write_run(
                    tmp_path, right + extra, model__filters=filters, optim__lr=rate, seed=seed
                )
    made = settings_of(tmp_path, "model.filters")
    trial = run_test(made[8], made[4])
    assert trial.method == "paired t over 4 pairs, on one test set"
    assert trial.outcome is not None
    assert trial.outcome.p == pytest.approx(stats.ttest_1samp([5, 10, 5, 10], 0).pvalue)


@pytest.mark.parametrize(
    ("difference", "std", "words"),
    [
        (0.002, 0.004, "29 more seeds needed to detect this difference with 80% power "
                       "(enough for 1 point)"),
        (-0.0001, 0.004, "more than 1,024 seeds needed to detect this difference with 80% power "
                         "(enough for 1 point)"),
        (0.0, 0.004, "these seeds detect a 1-point difference with 80% power"),
        (0.0, 0.02, "29 more seeds needed to detect a 1-point difference with 80% power"),
        (0.0001, 0.9, "more than 1,024 seeds needed to detect this difference with 80% power "
                      "(more than 1,024 for 1 point)"),
        (0.04, 0.02, "29 more seeds needed to detect a 1-point difference with 80% power"),
    ],
)  # fmt: skip
def test_what_more_seeds_would_show(difference: float, std: float, words: str) -> None:
    assert Plan(std, 5, "seed").words(difference, family=1) == words


def test_a_small_p_is_not_written_as_zero() -> None:
    assert p_text(0.0001) == "p < 0.001"
    assert p_text(0.0312) == "p = 0.031"
