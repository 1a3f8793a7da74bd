"""Figures of classifiers against scikit-learn and SciPy."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import binomtest
from sklearn import metrics as reference

from tinylab.training.metrics import confusion_matrix, per_class_recall, score, wilson_interval

Classes = NDArray[np.int64]


@st.composite
def answers(draw: st.DrawFn) -> tuple[Classes, Classes, int]:
    """Labels, predictions and the number of classes; some classes may be absent."""
    num_classes = draw(st.integers(2, 12))
    pair = st.tuples(*[st.integers(0, num_classes - 1)] * 2)
    pairs = np.array(draw(st.lists(pair, min_size=1, max_size=60)), dtype=np.int64)
    return pairs[:, 0], pairs[:, 1], num_classes


@given(answers())
def test_the_confusion_matrix_is_that_of_scikit_learn(case: tuple[Classes, Classes, int]) -> None:
    labels, predicted, num_classes = case
    expected = reference.confusion_matrix(labels, predicted, labels=range(num_classes))
    matrix = confusion_matrix(labels, predicted, num_classes)
    assert matrix.dtype == np.int64
    np.testing.assert_array_equal(matrix, expected)


@given(answers())
def test_its_diagonal_gives_the_accuracy_of_scikit_learn(
    case: tuple[Classes, Classes, int],
) -> None:
    matrix = confusion_matrix(*case)
    accuracy = score(0.0, int(matrix.trace()), int(matrix.sum())).accuracy
    assert accuracy == pytest.approx(reference.accuracy_score(*case[:2]), abs=1e-15)


@given(answers())
def test_recall_is_that_of_scikit_learn(case: tuple[Classes, Classes, int]) -> None:
    labels, predicted, num_classes = case
    expected = reference.recall_score(
        labels, predicted, labels=range(num_classes), average=None, zero_division=0.0
    )
    recall = per_class_recall(confusion_matrix(labels, predicted, num_classes))
    for number, (found, wanted) in enumerate(zip(recall, expected, strict=True)):
        assert found == (pytest.approx(wanted) if (labels == number).any() else None)


def test_rows_are_true_classes_and_columns_predicted_ones() -> None:
    matrix = confusion_matrix(np.array([0, 0, 2]), np.array([1, 1, 0]), 3)
    assert matrix.tolist() == [[0, 2, 0], [0, 0, 0], [1, 0, 0]]
    assert confusion_matrix(np.array([0, 0]), np.array([0, 0]), 1).tolist() == [[2]]


def test_recall_of_a_class_without_items_is_none() -> None:
    assert per_class_recall(np.array([[3, 1], [0, 0]])) == [0.75, None]


def test_recall_is_made_of_plain_numbers() -> None:
    assert [type(value) for value in per_class_recall(np.array([[1]]))] == [float]


@given(st.integers(1, 100_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_the_interval_is_the_wilson_interval_of_scipy(case: tuple[int, int]) -> None:
    num_correct, num = case
    expected = binomtest(num_correct, num).proportion_ci(0.95, method="wilson")
    assert wilson_interval(num_correct, num) == pytest.approx((expected.low, expected.high))


@given(st.integers(1, 10_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_the_interval_holds_the_share_and_stays_within_0_and_1(case: tuple[int, int]) -> None:
    num_correct, num = case
    low, high = wilson_interval(num_correct, num)
    assert 0 <= low <= num_correct / num <= high <= 1


def test_the_interval_of_no_mistakes_ends_at_1_and_of_no_successes_begins_at_0() -> None:
    assert wilson_interval(10, 10)[1] == 1.0
    assert wilson_interval(0, 10)[0] == 0.0


def test_the_interval_narrows_with_the_root_of_the_number() -> None:
    low, high = wilson_interval(80_000, 100_000)
    assert high - low == pytest.approx(2 * 1.96 * math.sqrt(0.8 * 0.2 / 100_000), rel=1e-3)


def test_a_score_is_the_mean_over_all_items() -> None:
    found = score(loss_sum=6.0, num_correct=3, num=4)
    assert found.as_dict() == {"loss": 1.5, "accuracy": 0.75, "num": 4}
