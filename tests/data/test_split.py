"""Who is in train, validation and test: sizes, fairness, and the same answer for ever."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinylab.config.schema import SplitConfig
from tinylab.data.split import Indices, Split, count_shared, permutation, split
from tinylab.errors import UserError


def divide(
    labels: Indices, num_official_test: int = 0, duplicates: Indices | None = None, **options: Any
) -> Split:
    """A split by options of the section ``split``; by default no two images are equal."""
    alone = np.arange(len(labels)) if duplicates is None else duplicates
    return split(labels, num_official_test, SplitConfig(**options), alone)


def test_an_official_validation_part_stays_whole_but_for_the_duplicates_of_the_test_set() -> None:
    labels = np.arange(60) % 3
    duplicates = np.arange(60)
    duplicates[[45, 55]] = 3, 46  # 45 validates and equals 3 of training; 55 tests and equals 46
    config = SplitConfig(group_duplicates=True)
    parts = split(labels, 10, config, duplicates, num_official_val=10)
    assert parts.test.tolist() == list(range(50, 60))
    assert parts.val.tolist() == [i for i in range(40, 50) if i != 46]
    assert parts.train.tolist() == [i for i in range(40) if i != 3]


def test_null_is_the_default_of_val_and_the_same_run() -> None:
    assert SplitConfig(val=None) == SplitConfig()


def test_folds_stand_for_an_official_validation_part_where_a_test_set_is_given() -> None:
    labels = np.arange(60) % 3
    both = split(labels, 10, SplitConfig(folds=5), np.arange(60), num_official_val=10)
    assert (len(both.val), len(both.test), len(both.train)) == (10, 10, 40)
    assert both.val.tolist() != list(range(40, 50))
    no_test = split(labels, 0, SplitConfig(folds=5), np.arange(60), num_official_val=10)
    assert no_test.val.tolist() == list(range(50, 60))
    assert len(no_test.test) == 10


def uneven(count: int = 100, num_classes: int = 5) -> Indices:
    """Labels of which the first classes have the most images."""
    return np.arange(count) ** 2 % 97 % num_classes


@st.composite
def labelings(draw: st.DrawFn) -> Indices:
    """Labels of 40 to 150 images of up to 6 classes; every class has at least 5."""
    num_classes = draw(st.integers(2, 6))
    drawn = draw(st.lists(st.integers(0, num_classes - 1), min_size=10, max_size=120))
    return np.array([*np.repeat(np.arange(num_classes), 5), *drawn, *[0] * 20])


seeds = st.integers(0, 2**63 - 1)
part_fractions = st.sampled_from([0.1, 0.2, 0.25, 1 / 3])
maybe = st.booleans()
official = st.sampled_from([0, 10])


def parts_of(result: Split) -> list[Indices]:
    return [result.train, result.val, result.test]


def together(result: Split) -> list[int]:
    """All images of all parts; one that is in two parts comes twice."""
    return sorted(np.concatenate(parts_of(result)).tolist())


def counts(labels: Indices, part: Indices) -> Indices:
    return np.bincount(labels[part], minlength=labels.max() + 1)


# ---------------------------------------------------------------- for every split


@given(labels=labelings(), seed=seeds, val=part_fractions, stratified=maybe, num_official=official)
def test_parts_are_sorted_disjoint_and_complete(
    labels: Indices, seed: int, val: float, stratified: bool, num_official: int
) -> None:
    result = divide(labels, num_official, seed=seed, val=val, stratified=stratified)
    for part in parts_of(result):
        assert part.dtype == np.int64
        assert (np.diff(part) > 0).all()
    assert together(result) == list(range(len(labels)))


@given(labels=labelings(), seed=seeds, test=part_fractions, val=part_fractions, stratified=maybe)
def test_sizes_are_fractions_rounded_down(
    labels: Indices, seed: int, test: float, val: float, stratified: bool
) -> None:
    result = divide(labels, seed=seed, test=test, val=val, stratified=stratified)
    assert len(result.test) == int(len(labels) * test)
    assert len(result.val) == int((len(labels) - len(result.test)) * val)


@given(labels=labelings(), seed=seeds, stratified=maybe)
def test_an_official_test_set_stays_what_it_is(
    labels: Indices, seed: int, stratified: bool
) -> None:
    result = divide(labels, 10, seed=seed, val=0.2, stratified=stratified)
    assert result.test.tolist() == list(range(len(labels) - 10, len(labels)))
    assert len(result.val) == int((len(labels) - 10) * 0.2)


@given(labels=labelings(), seed=seeds, test=part_fractions, val=part_fractions)
def test_stratified_shares_are_within_one_image_in_every_class(
    labels: Indices, seed: int, test: float, val: float
) -> None:
    result = divide(labels, seed=seed, test=test, val=val, stratified=True)
    everybody = np.arange(len(labels))
    rest = np.setdiff1d(everybody, result.test)
    for part, pool in ((result.test, everybody), (result.val, rest)):
        exact = counts(labels, pool) * len(part) / len(pool)
        assert (np.abs(counts(labels, part) - exact) < 1 + 1e-9).all()


@given(labels=labelings(), seed=seeds, per_class=st.integers(2, 4), num_official=official)
def test_train_per_class_takes_as_many_of_each_class_and_the_rest_tests(
    labels: Indices, seed: int, per_class: int, num_official: int
) -> None:
    labels = np.concatenate([labels, labels[:num_official]])
    result = divide(labels, num_official, seed=seed, train_per_class=per_class, val=0)
    assert counts(labels, result.train).tolist() == [per_class] * (labels.max() + 1)
    if num_official:
        assert result.test.tolist() == list(range(len(labels) - 10, len(labels)))
    else:
        assert together(result) == list(range(len(labels)))


def test_train_per_class_counts_the_validation_images_too() -> None:
    result = divide(np.arange(300) % 3, train_per_class=50, val=0.2, stratified=True)
    assert counts(np.arange(300) % 3, result.train).tolist() == [40, 40, 40]
    assert counts(np.arange(300) % 3, result.val).tolist() == [10, 10, 10]


# ---------------------------------------------------------------- folds


@given(labels=labelings(), seed=seeds, folds=st.integers(2, 7), stratified=maybe)
def test_the_folds_test_every_image_once(
    labels: Indices, seed: int, folds: int, stratified: bool
) -> None:
    options: dict[str, Any] = {"seed": seed, "folds": folds, "stratified": stratified}
    results = [divide(labels, **options, fold=fold) for fold in range(folds)]
    tested = np.concatenate([result.test for result in results])
    assert sorted(tested.tolist()) == list(range(len(labels)))
    assert np.ptp([len(result.test) for result in results]) <= 1
    assert all(together(result) == list(range(len(labels))) for result in results)


@given(labels=labelings(), seed=seeds, folds=st.integers(2, 7))
def test_stratified_folds_have_each_class_within_one_image(
    labels: Indices, seed: int, folds: int
) -> None:
    for fold in range(folds):
        result = divide(labels, seed=seed, folds=folds, fold=fold, stratified=True)
        exact = counts(labels, np.arange(len(labels))) / folds
        assert (np.abs(counts(labels, result.test) - exact) < 1).all()


def test_with_an_official_test_set_the_fold_validates() -> None:
    results = [divide(uneven(), 20, folds=4, fold=fold) for fold in range(4)]
    assert all(result.test.tolist() == list(range(80, 100)) for result in results)
    validated = np.concatenate([result.val for result in results])
    assert sorted(validated.tolist()) == list(range(80))
    assert [len(result.train) for result in results] == [60] * 4


# ---------------------------------------------------------------- duplicates


@st.composite
def with_duplicates(draw: st.DrawFn) -> tuple[Indices, Indices]:
    """Labels, and for each image the first one with the same pixels."""
    labels = draw(labelings())
    pictures = draw(
        st.lists(st.integers(0, 60), min_size=len(labels), max_size=len(labels)).map(np.array)
    )
    _, first, inverse = np.unique(pictures, return_index=True, return_inverse=True)
    return labels, first[inverse]


@given(drawn=with_duplicates(), seed=seeds, num_official=official)
def test_grouped_duplicates_are_never_on_two_sides(
    drawn: tuple[Indices, Indices], seed: int, num_official: int
) -> None:
    labels, duplicates = drawn
    try:
        result = divide(labels, num_official, duplicates, seed=seed, group_duplicates=True)
    except UserError:
        return  # all of a part moved to another
    assert set(count_shared(result, duplicates).values()) == {0}
    everybody = set(range(len(labels)))
    if num_official:
        assert result.test.tolist() == list(range(len(labels) - 10, len(labels)))
        everybody -= set(np.flatnonzero(np.isin(duplicates, duplicates[result.test]))) - set(
            result.test
        )
    assert together(result) == sorted(everybody)


def test_a_group_follows_its_first_image() -> None:
    labels, duplicates = np.arange(60) % 2, np.arange(60)
    duplicates[[20, 40, 59]] = 3
    before = divide(labels, duplicates=duplicates)
    after = divide(labels, duplicates=duplicates, group_duplicates=True)
    for old, new in zip(parts_of(before), parts_of(after), strict=True):
        moved = {3, 20, 40, 59} if 3 in old else set()
        assert set(new.tolist()) == set(old.tolist()) - {3, 20, 40, 59} | moved


def test_duplicates_of_each_pair_of_parts_are_counted() -> None:
    result = Split(train=np.array([0, 1, 2]), val=np.array([3, 4]), test=np.array([5, 6, 7]))
    duplicates = np.array([0, 1, 2, 0, 4, 0, 4, 1])
    assert count_shared(result, duplicates) == {
        "val_in_train": 1,
        "test_in_train": 2,
        "test_in_val": 2,
    }


# ---------------------------------------------------------------- the seed


def test_the_split_seed_decides_who_is_where() -> None:
    hashes = {divide(uneven(), seed=seed).sha256() for seed in range(20)}
    assert len(hashes) == 20
    assert divide(uneven(), seed=7).sha256() in hashes


def test_the_test_set_does_not_depend_on_the_validation_fraction() -> None:
    tests = [divide(uneven(), val=val).test.tolist() for val in (0, 0.1, 0.5)]
    assert tests[0] == tests[1] == tests[2]


def test_a_permutation_is_the_order_of_raw_pcg64_draws() -> None:
    draws = np.random.PCG64(3).random_raw(1000)
    order = permutation(1000, seed=3)
    assert sorted(order.tolist()) == list(range(1000))
    assert (np.diff(draws[order].astype(object)) > 0).all()


GOLDEN: list[tuple[dict[str, Any], int, str]] = [
    ({}, 0, "36037514022bfc7b"),
    ({"seed": 1}, 0, "9070ddb11f4162b1"),
    ({"val": 0, "test": 0.3}, 0, "75ab324534cad2cc"),
    ({"stratified": True}, 0, "76427cca296e6051"),
    ({"train_per_class": 10}, 0, "0fbf7fd51e5601a4"),
    ({"folds": 5, "fold": 2}, 0, "7ae0c8d0c3820b63"),
    ({"folds": 5, "fold": 2, "stratified": True}, 20, "355b8a8cecbc1b21"),
    ({}, 20, "1298566e946e0bba"),
]


@pytest.mark.parametrize(("options", "num_official", "start"), GOLDEN)
def test_splits_are_the_same_on_every_machine_and_for_ever(
    options: dict[str, Any], num_official: int, start: str
) -> None:
    assert divide(uneven(), num_official, **options).sha256()[:16] == start


def test_the_first_of_the_permutation_test_and_the_next_validate() -> None:
    order = permutation(100, seed=0)
    result = divide(uneven())
    assert result.test.tolist() == sorted(order[:10])
    assert result.val.tolist() == sorted(order[10:19])
    assert result.train.tolist() == sorted(order[19:])


def test_the_rule_of_15_scene_gives_448_and_4037() -> None:
    result = divide(np.arange(4485) % 15, val=0)
    assert (len(result.train), len(result.val), len(result.test)) == (4037, 0, 448)


def test_the_hash_distinguishes_the_parts() -> None:
    one, two, none = np.array([1]), np.array([2]), np.array([], dtype=np.int64)
    parts = [Split(one, two, none), Split(one, none, two), Split(two, one, none)]
    assert len({part.sha256() for part in parts}) == 3


# ---------------------------------------------------------------- what cannot be


@pytest.mark.parametrize(
    ("count", "num_official", "options", "message"),
    [
        (9, 0, {}, r"split\.test=0\.1: none of 9 images is left for testing; expected a larger"),
        (20, 0, {"test": 0.01}, r"split\.test=0\.01: none of 20 images is left for testing"),
        (20, 5, {"test": 0.2}, r"split\.test=0\.2: this dataset has a fixed official test set"),
        (20, 0, {"val": 0.01}, r"split\.val=0\.01: of 18 images, none is left for validation"),
        (20, 0, {"train_per_class": 9}, r"smallest class has 4 images; expected at most 4"),
        (
            20,
            0,
            {"train_per_class": 4, "val": 0},
            r"train_per_class=4: none of 20 images .*; expected fewer",
        ),
        (20, 0, {"folds": 21}, r"split\.folds=21: expected at most 20, the number of images"),
        (20, 5, {"folds": 16}, r"split\.folds=16: expected at most 15, the number of images"),
        (20, 0, {"val": 0.9}, r"2 training images for 5 classes: .* lower split.val and split.te"),
        (20, 0, {"test": 0.9, "val": 0}, r"2 training images for 5 classes: expected at least one"),
    ],
)
def test_an_impossible_request_is_refused_with_the_numbers(
    count: int, num_official: int, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        divide(np.arange(count) % 5, num_official, **options)


def test_duplicates_that_leave_nobody_to_test_are_refused() -> None:
    labels, one_picture = np.arange(40) % 2, np.zeros(40, dtype=np.int64)
    with pytest.raises(UserError, match="none of 40 images is left for testing"):
        divide(labels, duplicates=one_picture, group_duplicates=True)


# ---------------------------------------------------------------- a fraction of the training images

fractions = st.tuples(st.floats(0.3, 1), st.floats(0.3, 1)).map(sorted)


@given(labels=labelings(), seed=seeds, both=fractions, stratified=maybe, num_official=official)
def test_smaller_training_sets_are_parts_of_larger_ones_beside_the_same_other_parts(
    labels: Indices, seed: int, both: list[float], stratified: bool, num_official: int
) -> None:
    options: dict[str, Any] = {"seed": seed, "stratified": stratified}
    whole = divide(labels, num_official, **options)
    small, large = (divide(labels, num_official, **options, train_fraction=f) for f in both)
    assert set(small.train) <= set(large.train) <= set(whole.train)
    for result, fraction in zip((small, large), both, strict=True):
        assert len(result.train) == int(len(whole.train) * fraction)
        assert (np.diff(result.train) > 0).all()
        assert result.val.tolist() == whole.val.tolist()
        assert result.test.tolist() == whole.test.tolist()


@given(labels=labelings(), seed=seeds, fraction=st.floats(0.2, 1))
def test_a_stratified_fraction_has_every_class_near_its_proportion(
    labels: Indices, seed: int, fraction: float
) -> None:
    whole = divide(labels, seed=seed, stratified=True)
    result = divide(labels, seed=seed, stratified=True, train_fraction=fraction)
    expected = counts(labels, whole.train) * len(result.train) / len(whole.train)
    assert (counts(labels, result.train) >= 1).all()
    assert (np.abs(counts(labels, result.train) - expected) <= 2).all()


def test_the_whole_fraction_is_the_split_of_before() -> None:
    assert divide(uneven(), train_fraction=1).sha256() == divide(uneven()).sha256()


def test_a_fraction_of_grouped_duplicates_is_nested_too() -> None:
    labels, duplicates = np.arange(60) % 2, np.arange(60)
    duplicates[[20, 40, 59]] = 3
    options: dict[str, Any] = {"duplicates": duplicates, "group_duplicates": True}
    small, large = (divide(labels, **options, train_fraction=f) for f in (0.2, 0.7))
    assert set(small.train) < set(large.train) < set(divide(labels, **options).train)


def test_a_fraction_with_fewer_images_than_classes_is_refused() -> None:
    with pytest.raises(UserError, match=r"split\.train_fraction=0\.01: 0 training images for 5"):
        divide(uneven(), train_fraction=0.01)
