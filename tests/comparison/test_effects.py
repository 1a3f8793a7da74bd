"""Main effects: what is paired, what counts as a repetition, against SciPy's paired t test."""

from pathlib import Path
from typing import Any

import pytest
from scipy import stats

from compare_kit import write_run
from tinylab.comparison.effects import Effect, of_key
from tinylab.comparison.statistics import corrected_t
from tinylab.store.collect import collect

pytestmark = pytest.mark.costly

# Right images without and with the flip, by model.filters and seed.
PLAIN = {4: [80, 82, 79, 84], 8: [85, 88, 86, 87]}
FLIPPED = {4: [84, 85, 86, 85], 8: [87, 92, 88, 93]}


def write(outputs: Path, seed: str = "seed", **more: Any) -> None:
    for flip, rights in ((False, PLAIN), (True, FLIPPED)):
        for filters, each in rights.items():
            for number, right in enumerate(each):
                repeated = {seed: number}
                write_run(
                    outputs, right, augment__flip=flip, model__filters=filters, **repeated, **more
                )


def effect(outputs: Path, key: str) -> Effect:
    result = of_key(collect([outputs])[0], key)
    assert result is not None
    return result


def by_seed() -> tuple[list[float], list[float]]:
    """The mean accuracies over the settings, of each seed."""
    plain, flipped = (
        [(four + eight) / 200 for four, eight in zip(each[4], each[8], strict=True)]
        for each in (PLAIN, FLIPPED)
    )
    return plain, flipped


def test_an_effect_is_the_mean_over_pairs_tested_over_seeds(tmp_path: Path) -> None:
    write(tmp_path)
    result = effect(tmp_path, "augment.flip")
    assert result.reference is False
    [level] = result.levels
    plain, flipped = by_seed()
    expected = stats.ttest_rel(flipped, plain)
    outcome = level.trial.outcome
    assert outcome is not None
    assert (level.value, level.num_pairs) == (True, 8)
    assert outcome.difference == pytest.approx((700 - 671) / 800)
    assert outcome.p == level.p == pytest.approx(expected.pvalue)
    interval = expected.confidence_interval(0.95)
    assert (outcome.low, outcome.high) == pytest.approx((interval.low, interval.high))
    assert level.trial.method == (
        "paired t over 4 pairs, on one test set, each averaged over 2 settings"
    )
    assert level.words().startswith("raises accuracy (p = 0.0")


def test_over_split_seeds_the_test_is_corrected(tmp_path: Path) -> None:
    write(tmp_path, "split__seed")
    [level] = effect(tmp_path, "augment.flip").levels
    plain, flipped = by_seed()
    expected = corrected_t([b - a for a, b in zip(plain, flipped, strict=True)], 1 / 9)
    outcome = level.trial.outcome
    assert outcome is not None
    assert (outcome.p, outcome.low) == pytest.approx((expected.p, expected.low))


def test_of_single_runs_the_settings_are_the_repetitions(tmp_path: Path) -> None:
    pairs = [(80, 84), (85, 87), (90, 91)]
    for filters, (plain, flipped) in enumerate(pairs, start=4):
        write_run(tmp_path, plain, model__filters=filters)
        write_run(tmp_path, flipped, model__filters=filters, augment__flip=True)
    [level] = effect(tmp_path, "augment.flip").levels
    assert level.trial.method == "paired t over 3 settings of one run each"
    assert level.p == pytest.approx(stats.ttest_rel([84, 87, 91], [80, 85, 90]).pvalue)


def test_what_has_no_partner_is_no_pair(tmp_path: Path) -> None:
    write(tmp_path)
    write_run(tmp_path, 10, augment__flip=True, model__filters=16)
    write_run(tmp_path, 10, augment__flip=True, model__filters=4, seed=9)
    [level] = effect(tmp_path, "augment.flip").levels
    assert level.num_pairs == 8
    assert level.trial.difference == pytest.approx((700 - 671) / 800)


def test_a_setting_without_all_seeds_is_left_out(tmp_path: Path) -> None:
    write(tmp_path)
    write_run(tmp_path, 10, augment__flip=False, model__filters=16)
    write_run(tmp_path, 90, augment__flip=True, model__filters=16)
    [level] = effect(tmp_path, "augment.flip").levels
    assert level.num_pairs == 8
    assert level.trial.difference == pytest.approx((700 - 671) / 800)


def test_several_levels_are_adjusted_and_the_default_is_the_reference(tmp_path: Path) -> None:
    for size, rights in {16: [80, 83, 81], 32: [85, 86, 88], 64: [70, 71, 75]}.items():
        for seed, right in enumerate(rights):
            write_run(tmp_path, right, train__batch_size=size, seed=seed)
    result = effect(tmp_path, "train.batch_size")
    assert result.reference == 32
    assert [level.value for level in result.levels] == [16, 64]
    for level in result.levels:
        assert level.trial.outcome is not None
        assert level.p is not None
        assert level.p >= level.trial.outcome.p


def test_the_default_of_a_models_key_is_the_reference_too(tmp_path: Path) -> None:
    for filters in (4, 28):
        write_run(tmp_path, 90, model__filters=filters)
    assert effect(tmp_path, "model.filters").reference == 28


def test_a_choice_is_compared_without_the_keys_that_belong_to_it(tmp_path: Path) -> None:
    for seed, (baseline, mlp) in enumerate([(90, 80), (91, 84), (93, 83)]):
        write_run(tmp_path, baseline, seed=seed)
        write_run(tmp_path, mlp, model="mlp", seed=seed)
    [level] = effect(tmp_path, "model").levels
    assert (level.value, level.num_pairs) == ("mlp", 3)
    assert level.p == pytest.approx(stats.ttest_rel([80, 84, 83], [90, 91, 93]).pvalue)


def test_runs_on_other_test_images_are_not_paired(tmp_path: Path) -> None:
    write_run(tmp_path, 90)
    write_run(tmp_path, 90, augment__flip=True, official_test=True, split__seed=0)
    [level] = effect(tmp_path, "augment.flip").levels
    assert level.num_pairs == 1  # both test sets begin with image 0
    write_run(tmp_path, 90, split__seed=1)
    write_run(tmp_path, 90, augment__flip=True, official_test=True, split__seed=1)
    [level] = effect(tmp_path, "augment.flip").levels
    assert level.num_pairs == 1
    assert level.words() == "not tested: only one pair; run more seeds of both"
