"""Groups are never divided: against scikit-learn's splitters, by property, and what is refused."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import GroupKFold, StratifiedGroupKFold

from image_files import encoded, fill, picture
from option_records import DigitsConfig, FolderConfig
from tinylab import data
from tinylab.config.schema import SplitConfig
from tinylab.data import groups, listing
from tinylab.data.arrays import Dataset
from tinylab.data.split import Indices, Split, split
from tinylab.errors import UserError

# ---------------------------------------------------------------- splits


def divide(
    labels: Indices, together: Indices, num_official_test: int = 0, num_val: int = 0, **options: Any
) -> Split:
    config = SplitConfig(group="writer", **options)
    return split(labels, num_official_test, config, np.arange(len(labels)), num_val, together)


def parts_of(result: Split) -> list[Indices]:
    return [result.train, result.val, result.test]


@st.composite
def grouped(draw: st.DrawFn) -> tuple[Indices, Indices]:
    """Labels of 60 to 150 images, and for each the first image of its group, of 8 to 20 groups."""
    num_groups = draw(st.integers(8, 20))
    sizes = draw(st.lists(st.integers(5, 10), min_size=num_groups, max_size=num_groups))
    members = np.random.default_rng(draw(st.integers(0, 99))).permutation(
        np.repeat(np.arange(num_groups), sizes)
    )
    _, first, inverse = np.unique(members, return_index=True, return_inverse=True)
    return np.arange(len(members)) % 3, first[inverse]


def are_disjoint(result: Split, together: Indices) -> bool:
    sides = [set(together[part]) for part in parts_of(result)]
    return not (sides[0] & sides[1] or sides[0] & sides[2] or sides[1] & sides[2])


@given(
    drawn=grouped(), seed=st.integers(0, 2**63 - 1), stratified=st.booleans(),
    test=st.sampled_from([0.1, 0.25, 0.6]), val=st.sampled_from([0, 0.1, 0.3]),
)  # fmt: skip
def test_a_group_is_never_on_two_sides_and_no_image_is_lost(
    drawn: tuple[Indices, Indices], seed: int, stratified: bool, test: float, val: float
) -> None:
    labels, together = drawn
    result = divide(labels, together, seed=seed, stratified=stratified, test=test, val=val)
    assert are_disjoint(result, together)
    assert sorted(np.concatenate(parts_of(result))) == list(range(len(labels)))
    assert (len(result.val) == 0) == (val == 0)


@given(drawn=grouped(), seed=st.integers(0, 999), test=st.sampled_from([0.1, 0.25, 0.6]))
def test_a_fraction_is_met_to_half_a_group(
    drawn: tuple[Indices, Indices], seed: int, test: float
) -> None:
    labels, together = drawn
    result = divide(labels, together, seed=seed, test=test)
    largest = np.bincount(together).max()
    assert len(result.test) > 0
    assert abs(len(result.test) - test * len(labels)) <= max(
        largest / 2, largest - test * len(labels)
    )


@given(drawn=grouped(), seed=st.integers(0, 2**63 - 1), stratified=st.booleans())
@settings(max_examples=20)
def test_the_folds_test_every_image_once_and_no_group_twice(
    drawn: tuple[Indices, Indices], seed: int, stratified: bool
) -> None:
    labels, together = drawn
    options: dict[str, Any] = {"seed": seed, "stratified": stratified, "folds": 4, "val": 0.2}
    results = [divide(labels, together, **options, fold=fold) for fold in range(4)]
    tested = np.concatenate([result.test for result in results])
    assert sorted(tested) == list(range(len(labels)))
    assert all(are_disjoint(result, together) for result in results)


@pytest.mark.parametrize("stratified", [False, True])
def test_the_folds_are_those_of_scikit_learn(stratified: bool) -> None:
    rng = np.random.default_rng(0)
    members = rng.integers(0, 12, 200)
    _, first, inverse = np.unique(members, return_index=True, return_inverse=True)
    labels, together = rng.integers(0, 3, 200), first[inverse]
    kind = StratifiedGroupKFold if stratified else GroupKFold
    random = np.random.RandomState(np.random.MT19937(5))
    expected = kind(4, shuffle=True, random_state=random).split(labels, labels, together)
    for fold, (_, test) in enumerate(expected):
        result = divide(labels, together, seed=5, folds=4, fold=fold, stratified=stratified)
        assert result.test.tolist() == sorted(test)


def test_a_stratified_share_keeps_the_classes_near_their_proportions() -> None:
    rng = np.random.default_rng(1)
    members = np.repeat(np.arange(40), 10)
    labels = (rng.random(400) < np.repeat(rng.random(40), 10)).astype(int)
    together = members * 10
    result = divide(labels, together, test=0.2, stratified=True)
    assert len(result.test) == pytest.approx(80, abs=10)
    assert labels[result.test].mean() == pytest.approx(labels.mean(), abs=0.05)


def test_groups_of_an_official_test_set_are_left_out_of_the_other_parts() -> None:
    labels, together = np.arange(60) % 3, np.arange(60) // 6 * 6
    together[50:] = 0  # the writer of the first six wrote the official test set
    result = divide(labels, together, num_official_test=10)
    assert result.test.tolist() == list(range(50, 60))
    assert not set(range(6)) & set(result.train) | set(range(6)) & set(result.val)
    assert are_disjoint(result, together)


def test_the_seed_decides_which_groups_are_tested() -> None:
    together = np.arange(100) // 5 * 5
    tests = {divide(np.arange(100) % 2, together, seed=seed).sha256() for seed in range(10)}
    assert len(tests) == 10


def test_duplicates_join_their_groups() -> None:
    one = np.array([0, 0, 2, 2, 4, 4, 6, 7])
    other = np.array([0, 1, 1, 3, 4, 5, 6, 6])
    assert groups.joined(one, other).tolist() == [0, 0, 0, 0, 4, 4, 6, 6]
    labels, together = np.arange(60) % 2, np.arange(60) // 6 * 6
    duplicates = np.arange(60)
    duplicates[59] = 0
    config = SplitConfig(group="writer", group_duplicates=True)
    result = split(labels, 0, config, duplicates, groups=together)
    assert sum({0, 59} <= set(part) for part in parts_of(result)) == 1


def test_a_fraction_is_nested_within_the_groups_that_train() -> None:
    labels, together = np.arange(100) % 2, np.arange(100) // 5 * 5
    whole, part = (divide(labels, together, train_fraction=f) for f in (1, 0.3))
    assert set(part.train) < set(whole.train)
    assert part.test.tolist() == whole.test.tolist()


def test_splits_by_group_are_the_same_for_ever() -> None:
    labels, together = np.arange(100) % 5, np.arange(100) // 7 * 7
    options: list[dict[str, Any]] = [
        {}, {"stratified": True}, {"folds": 4, "fold": 1},
        {"folds": 4, "fold": 1, "stratified": True},
    ]  # fmt: skip
    results = [divide(labels, together, **each).sha256()[:16] for each in options]
    assert results == GOLDEN


GOLDEN = ["e8e9a415714b8667", "bd0dd449e6eed348", "d8d249c6f949a635", "9e92820fb283a979"]


# ---------------------------------------------------------------- whose image it is


def images(*names: str) -> Dataset:
    count = len(names) or 6
    return Dataset(
        np.zeros((count, 1, 2, 2), np.uint8), np.arange(count) % 2, ("a", "b"), names=names
    )


def test_a_pattern_finds_the_group_in_the_file_names() -> None:
    known = images("a/writer1_x.png", "b/writer12_x.png", "a/writer1_y.png", "b/writer2_x.png")
    result = groups.of(known, FolderConfig(root="x"), r"writer(\d+)_")
    assert result is not None
    assert result.tolist() == [0, 1, 0, 3]


@pytest.fixture
def letters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Letters of six writers with a ``labels.csv``: path, label, Writer."""
    monkeypatch.chdir(tmp_path)
    rows = []
    for number in range(36):
        name = f"img{number}_w{number % 6}.png"
        fill(tmp_path / "letters", name, content=encoded(image=picture(seed=number)))
        rows.append([name, "ab"[number // 6 % 2], f"writer {number % 6}"])
    write_table(tmp_path / "letters", rows)
    return tmp_path / "letters"


def write_table(root: Path, rows: list[list[str]], head: str = "Writer") -> None:
    with (root / listing.TABLE).open("w", newline="") as file:
        csv.writer(file).writerows([["path", "label", head], *rows])


def test_a_column_and_a_pattern_that_say_the_same_give_the_same_split(letters: Path) -> None:
    config = FolderConfig(root=str(letters), image_size=8)
    by_column, by_pattern = (
        data.load(config, SplitConfig(group=group)) for group in ("writer", r"_w(\d)\.png")
    )
    assert by_column.split.sha256() == by_pattern.split.sha256()
    assert by_column.grouping() == "groups by split.group=writer: train 4, val 1, test 1"
    writers = [
        {int(by_column.data.names[i][-5]) for i in part} for part in parts_of(by_column.split)
    ]
    assert sorted(len(each) for each in writers) == [1, 1, 4]
    assert set.union(*writers) == set(range(6))


def test_the_digest_of_the_data_has_the_column(letters: Path) -> None:
    config = FolderConfig(root=str(letters), image_size=8)
    before = groups.digest("abc", config, "writer")
    assert groups.digest("abc", config, "Writer") == before
    table = letters / listing.TABLE
    table.write_text(table.read_text().replace("writer 5", "writer 4"))
    assert groups.digest("abc", config, "writer") != before


@pytest.mark.parametrize(
    ("group", "message"),
    [
        ("writr", r"labels.csv has no such column \(did you mean 'Writer'\?\)\n  its columns: pa"),
        (r"(\d+)\.jpg", r"no group in 36 of 36 file names\n  expected a pattern that matches each"),
        (r"(img)", r"all 36 images are in one group, img\n  expected at least two"),
    ],
)
def test_groups_that_the_data_does_not_have_are_refused(
    letters: Path, group: str, message: str
) -> None:
    with pytest.raises(UserError, match=message) as error:
        data.load(FolderConfig(root=str(letters), image_size=8), SplitConfig(group=group))
    assert len(str(error.value).splitlines()) == 2


def test_a_row_without_a_group_is_refused(letters: Path) -> None:
    table = letters / listing.TABLE
    table.write_text(table.read_text().replace("writer 5", ""))
    with pytest.raises(UserError, match=r"no value in 6 rows, such as line 7\n  expected one"):
        data.load(FolderConfig(root=str(letters), image_size=8), SplitConfig(group="writer"))


def test_data_without_file_names_has_no_groups() -> None:
    with pytest.raises(UserError, match=r"the images of digits have no file names\n  expected"):
        groups.of(images(), DigitsConfig(), "writer")


def test_a_column_needs_a_table() -> None:
    with pytest.raises(
        UserError, match=r"a column of labels.csv, but folder has no such file here\n"
    ):
        groups.of(images("a/1.png", "b/2.png"), FolderConfig(root="nowhere"), "writer")


def test_fewer_groups_than_folds_or_parts_are_refused() -> None:
    labels, together = np.arange(60) % 3, np.arange(60) // 20 * 20
    with pytest.raises(UserError, match=r"split.folds=4: split.group=writer gives 3 groups\n"):
        divide(labels, together, folds=4)
    with pytest.raises(
        UserError, match=r"only 1 group is left to split\n  expected at least one per"
    ):
        divide(labels, np.arange(60) // 30 * 30)
    assert len(divide(labels, np.arange(60) // 30 * 30, val=0).test) == 30


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"group": r"(\d+"}, r"expected a pattern with one .*\n  it has an error: "),
        ({"group": r"(\d)(\d)"}, r"expected a pattern with one .*\n  it has 2 groups"),
        ({"group": "w", "train_per_class": 3}, r"split.group=w: whole groups cannot give equal"),
    ],
)
def test_a_wrong_pattern_is_refused_before_any_data_is_read(
    options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        SplitConfig(**options)
