"""What a run gets wrong: the classes it confuses, its worst errors, and their pictures."""

import base64
import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from option_records import DigitsConfig
from run_folders import config, finished_result
from tinylab import data
from tinylab.config.schema import SplitConfig
from tinylab.errors import UserError
from tinylab.reporting import mistakes
from tinylab.reporting.mistakes import Predictions
from tinylab.store.folder import RunFolder
from tinylab.store.result import parse
from tinylab.store.run import Run


def decoded(address: str) -> np.ndarray:
    """The pixels of a data: address, by another library's decoder: (C, H, W)."""
    head, _, body = address.partition(",")
    assert head == "data:image/png;base64"
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(body))))
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


def test_pictures_keep_every_pixel() -> None:
    @given(
        st.sampled_from([1, 3]).flatmap(
            lambda C: hnp.arrays(
                np.uint8, st.tuples(st.just(C), st.integers(1, 9), st.integers(1, 9))
            )
        )
    )
    def check(image: np.ndarray) -> None:
        assert np.array_equal(decoded(mistakes.data_address(image)), image)

    check()


def predictions(
    label: Any, predicted: Any, num_classes: int, probability: Any = None
) -> Predictions:
    label, predicted = np.array(label), np.array(predicted)
    probability = np.full(len(label), 0.5) if probability is None else np.array(probability)
    names = tuple(f"class {k}" for k in range(num_classes))
    return Predictions(np.arange(len(label)) + 100, label, predicted, probability, names)


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=40))
def test_tables_count_what_a_loop_counts(pairs: list[tuple[int, int]]) -> None:
    result = predictions(*zip(*pairs, strict=True), num_classes=5)
    matrix = mistakes.confusion(result)
    assert not isinstance(matrix, str)
    for i, row in enumerate(matrix.rows):
        for j, cell in enumerate(row[1:]):
            assert cell.value == pairs.count((i, j))
            assert cell.fraction == pytest.approx(
                pairs.count((i, j)) / max(1, sum(a == i for a, _ in pairs))
            )
    wrong = {(a, b) for a, b in pairs if a != b}
    rows = mistakes.confused(result).rows
    assert len(rows) == min(len(wrong), mistakes.MOST_PAIRS)
    counts = [row[2].value or 0 for row in rows]
    assert counts == sorted(counts, reverse=True)
    for label, predicted, count, _ in rows:
        pair = int(label.text[-1]), int(predicted.text[-1])
        assert count.value == pairs.count(pair)
    for i, (_, total, recall) in enumerate(mistakes.recall(result).rows):
        of_class = [b for a, b in pairs if a == i]
        assert total.value == len(of_class)
        assert recall.value == (of_class.count(i) / len(of_class) if of_class else None)


def test_many_classes_are_a_picture_a_pixel_a_cell() -> None:
    label = np.repeat(np.arange(100), 2)
    predicted = label.copy()
    predicted[0] = 7  # one of class 0's two
    picture = mistakes.confusion(predictions(label, predicted, 100))
    assert isinstance(picture, str)
    pixels = decoded(picture)[0]
    assert pixels.shape == (100, 100)
    assert (pixels.diagonal()[1:] == 0).all()
    assert pixels[0, 0] == pixels[0, 7] == 128
    assert (pixels == 255).sum() == 100 * 100 - 101


def test_the_picture_of_a_thousand_classes_is_bounded_and_shows_each_confusion() -> None:
    label = np.arange(1600)
    predicted = label.copy()
    predicted[0] = 1599
    picture = mistakes.confusion(predictions(label, predicted, 1600))
    assert isinstance(picture, str)
    pixels = decoded(picture)[0]
    assert pixels.shape == (800, 800)
    assert pixels[0, 799] == 0
    assert len(picture) < 100_000


DIGITS = data.load(DigitsConfig(), SplitConfig())


def run(tmp_path: Path, label: Any, predicted: Any, probability: Any, **dataset: Any) -> Run:
    """A run that was tested on the first images of digits."""
    probabilities = np.full((len(label), 10), 0.01)
    probabilities[np.arange(len(label)), predicted] = probability
    np.savez(
        tmp_path / "predictions.npz", index=np.arange(len(label)), label=label,
        predicted=predicted, probabilities=probabilities.astype(np.float16),
    )  # fmt: skip
    result = finished_result(config(), test=0.9)
    result["dataset"] |= {
        "classes": list("0123456789"), "fingerprint": DIGITS.fingerprint, **dataset
    }  # fmt: skip
    return Run(RunFolder(tmp_path), parse(result))


def test_the_worst_mistakes_come_first_with_their_pictures(tmp_path: Path) -> None:
    tested = run(tmp_path, [0, 1, 2, 3], [0, 5, 6, 7], [0.9, 0.5, 0.75, 0.625])
    result = mistakes.find([tested])
    assert result.no_pictures == ""
    said = [(m.index, m.label, m.predicted, m.probability) for m in result.worst]
    assert said == [(2, "2", "6", 0.75), (3, "3", "7", 0.625), (1, "1", "5", 0.5)]
    for mistake in result.worst:
        assert mistake.picture is not None
        assert np.array_equal(decoded(mistake.picture), DIGITS.data.pixels[mistake.index])


def test_the_mistakes_are_of_the_best_run_by_validation(tmp_path: Path) -> None:
    runs = []
    for name, accuracy in (("first", 0.8), ("second", 0.9), ("third", 0.8)):
        (tmp_path / name).mkdir()
        each = run(tmp_path / name, [0, 1], [0, 5], [0.9, 0.5])
        assert each.result.val is not None
        val = replace(each.result.val, accuracy=accuracy)
        runs.append(Run(each.files, replace(each.result, val=val)))
    found = mistakes.find(runs)
    assert found.whose == f"the run {runs[1].name}, the best by validation of 3"


@pytest.mark.parametrize("wrong", [1, 9, 10])
def test_the_effect_of_rejection_is_shown_from_ten_mistakes(tmp_path: Path, wrong: int) -> None:
    predicted = [1] * wrong + [0] * (50 - wrong)
    result = mistakes.find([run(tmp_path, [0] * 50, predicted, [0.5] * 50)])
    assert (result.rejecting is not None) == (wrong == 10)


def test_there_are_no_more_pictures_than_a_page_can_bear(tmp_path: Path) -> None:
    result = mistakes.find([run(tmp_path, [0] * 100, [1] * 100, [0.5] * 100)])
    assert len(result.worst) == mistakes.MOST


def test_large_images_are_thinned_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mistakes, "LARGEST", 3)
    [mistake] = mistakes.find([run(tmp_path, [0], [1], [0.5])]).worst
    assert mistake.picture is not None
    assert np.array_equal(decoded(mistake.picture), DIGITS.data.pixels[0][:, ::3, ::3])


def test_changed_data_has_no_pictures_but_words(tmp_path: Path) -> None:
    result = mistakes.find([run(tmp_path, [0, 1], [1, 1], [0.5, 0.5], fingerprint="other")])
    assert result.no_pictures == "the dataset has changed since the run"
    assert [(m.label, m.predicted, m.picture) for m in result.worst] == [("0", "1", None)]


def test_numbers_beyond_the_data_have_no_pictures_but_words(tmp_path: Path) -> None:
    tested = run(tmp_path, [0], [1], [0.5])
    with np.load(tmp_path / "predictions.npz") as arrays:
        np.savez(tmp_path / "predictions.npz", **{**arrays, "index": np.array([9999])})
    assert "no images with these indices" in mistakes.find([tested]).no_pictures


def test_absent_data_is_not_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TINYLAB_DATA", str(tmp_path / "nothing"))
    tested = run(tmp_path, [0], [1], [0.5])
    tested.result.config["dataset"] = {"name": "mnist", "root": None, "image_size": 28}
    result = mistakes.find([tested])
    assert result.no_pictures
    assert result.worst[0].picture is None
    assert not (tmp_path / "nothing").exists()


def test_not_one_mistake(tmp_path: Path) -> None:
    result = mistakes.find([run(tmp_path, [0, 1], [0, 1], [0.5, 0.5])])
    assert result.worst == result.confused.rows == []


@pytest.mark.parametrize("label", [[10], [-1]])
def test_a_class_that_is_none_is_a_damaged_file(tmp_path: Path, label: list[int]) -> None:
    with pytest.raises(UserError, match=r"predictions\.npz cannot be read"):
        mistakes.find([run(tmp_path, label, [1], [0.5])])
