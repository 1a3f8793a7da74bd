"""Figures of classifiers against scikit-learn and SciPy."""

import json
import math
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import binomtest
from sklearn import metrics as reference
from statsmodels.stats.proportion import proportion_confint

from tinylab.config.metrics import METRICS, MONITORED
from tinylab.training.metrics import (
    NUM_BINS,
    balanced_accuracy,
    confusion_matrix,
    macro_f1,
    negative_log_likelihood,
    per_class_f1,
    per_class_recall,
    reliability,
    score,
    top5_accuracy,
    wilson_interval,
    worst_mistakes,
)

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
def test_recall_is_that_of_scikit_learn(case: tuple[Classes, Classes, int]) -> None:
    labels, predicted, num_classes = case
    expected = reference.recall_score(
        labels, predicted, labels=range(num_classes), average=None, zero_division=0.0
    )
    recall = per_class_recall(confusion_matrix(labels, predicted, num_classes))
    for number, (result, wanted) in enumerate(zip(recall, expected, strict=True)):
        assert result == (pytest.approx(wanted) if (labels == number).any() else None)


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


def test_the_interval_is_newcombes_table() -> None:
    """Newcombe, Statistics in Medicine 17 (1998), table I, method 3."""
    assert wilson_interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson_interval(15, 148) == pytest.approx((0.0624, 0.1605), abs=5e-5)
    assert wilson_interval(0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)
    assert wilson_interval(1, 29) == pytest.approx((0.0061, 0.1718), abs=5e-5)


@given(st.floats(0, 1), st.floats(1, 1e5))
def test_the_interval_of_means_over_runs_is_that_of_statsmodels(p: float, num: float) -> None:
    expected = proportion_confint(p * num, num, alpha=0.05, method="wilson")
    result = wilson_interval(p * num, num)
    assert result == pytest.approx(expected, abs=1e-12)
    assert 0 <= result[0] <= result[1] <= 1


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


def test_the_worst_mistakes_are_the_most_probable_ones_equal_ones_in_their_order() -> None:
    labels, predicted = np.array([0, 1, 0, 1, 0]), np.array([1, 1, 1, 0, 1])
    probability = np.array([0.6, 0.99, 0.8, 0.8, 0.9])
    assert worst_mistakes(labels, predicted, probability).tolist() == [4, 2, 3, 0]
    assert worst_mistakes(labels, labels, probability).tolist() == []


# ---------------------------------------------------------------- all metrics of an evaluation


@given(answers())
def test_balanced_accuracy_and_macro_f1_are_those_of_scikit_learn(
    case: tuple[Classes, Classes, int],
) -> None:
    labels, predicted, _ = case
    matrix = confusion_matrix(*case)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn's, of a predicted class without items
        expected = reference.balanced_accuracy_score(labels, predicted)
    assert balanced_accuracy(matrix) == pytest.approx(expected, abs=1e-14)
    expected = reference.f1_score(labels, predicted, average="macro")
    assert macro_f1(matrix) == pytest.approx(expected, abs=1e-14)


@given(answers())
def test_f1_by_class_is_that_of_scikit_learn(case: tuple[Classes, Classes, int]) -> None:
    labels, predicted, num_classes = case
    expected = reference.f1_score(
        labels, predicted, labels=range(num_classes), average=None, zero_division=np.nan
    )
    result = per_class_f1(confusion_matrix(*case))
    np.testing.assert_allclose(np.array(result, float), expected, atol=1e-15)


@st.composite
def outputs(draw: st.DrawFn) -> tuple[Classes, NDArray[np.float64]]:
    """Labels (N,) and log-probabilities (N, K); some of those of an item may be equal."""
    K, N = draw(st.integers(2, 12)), draw(st.integers(1, 30))
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    logits = generator.normal(0, draw(st.sampled_from([0.1, 1, 10])), (N, K))
    logits = logits.round(draw(st.sampled_from([0, 1, 8])))
    return generator.integers(0, K, N), logits - np.logaddexp.reduce(logits, 1, keepdims=True)


@given(outputs())
def test_the_likelihood_is_that_of_scikit_learn(
    case: tuple[Classes, NDArray[np.float64]],
) -> None:
    labels, log_probabilities = case
    expected = reference.log_loss(
        labels, np.exp(log_probabilities), labels=range(log_probabilities.shape[1])
    )
    smallest = np.log(np.finfo(float).eps)  # to which scikit-learn raises what is less
    result = negative_log_likelihood(labels, np.maximum(log_probabilities, smallest))
    assert result == pytest.approx(expected, rel=1e-9, abs=1e-12)


@given(outputs())
def test_the_top_five_are_those_of_scikit_learn(
    case: tuple[Classes, NDArray[np.float64]],
) -> None:
    labels, log_probabilities = case
    classes = range(log_probabilities.shape[1])
    if len(classes) <= 5:
        assert top5_accuracy(*case) is None
    else:
        expected = reference.top_k_accuracy_score(labels, log_probabilities, k=5, labels=classes)
        assert top5_accuracy(*case) == pytest.approx(expected, abs=1e-15)


@given(outputs())
def test_a_score_has_every_metric_and_the_loss_that_it_is_given(
    case: tuple[Classes, NDArray[np.float64]],
) -> None:
    labels, log_probabilities = case
    predicted = log_probabilities.argmax(1)
    result = score(labels, predicted, log_probabilities, loss=1.5)
    assert (result.loss, result.num) == (1.5, len(labels))
    assert result.accuracy == reference.accuracy_score(labels, predicted)
    confidence = np.exp(log_probabilities[np.arange(len(labels)), predicted])
    right = predicted == labels
    assert result.ece == pytest.approx(plain_error(confidence, right, NUM_BINS), abs=1e-12)
    assert result.nll == negative_log_likelihood(labels, log_probabilities)
    named = {metric.path[1] for metric in METRICS.values() if metric.path[0] == "test"}
    assert result.as_dict().keys() == named | {"num"}
    assert set(MONITORED) <= named
    assert json.loads(json.dumps(result.as_dict(), allow_nan=False)) == result.as_dict()


def test_a_probability_too_small_for_a_number_still_has_a_rank_and_a_finite_loss() -> None:
    log_probabilities = np.array([[0.0, -900, -901, -902, -903, -904, -905]])
    result = score(np.array([4]), np.array([0]), log_probabilities, loss=0.0)
    assert (result.top5_accuracy, result.nll) == (1.0, 903.0)


# ---------------------------------------------------------------- calibration


def plain_error(confidence: NDArray[np.float64], right: NDArray[np.bool_], bins: int) -> float:
    """ECE as the paper writes it, item by item."""
    total = 0.0
    for number in range(1, bins + 1):
        low, high = (number - 1) / bins, number / bins
        inside = [i for i, fraction in enumerate(confidence) if low < fraction <= high]
        if inside:
            gap = abs(np.mean(right[inside]) - np.mean(confidence[inside]))
            total += len(inside) / len(confidence) * gap
    return total


PREDICTION = st.tuples(st.floats(0.01, 1), st.booleans())


@given(st.lists(PREDICTION, min_size=1, max_size=60), st.sampled_from([1, 2, 10, NUM_BINS]))
def test_the_calibration_error_is_the_papers(
    predictions: list[tuple[float, bool]], bins: int
) -> None:
    confidence = np.array([fraction for fraction, _ in predictions])
    right = np.array([is_right for _, is_right in predictions])
    result = reliability(confidence, right, bins)
    assert result.counts.sum() == len(predictions)
    assert result.error == pytest.approx(plain_error(confidence, right, bins), abs=1e-12)


def test_a_calibrated_network_has_no_error_and_a_boastful_one_has() -> None:
    confidence = np.full(100, 0.8)
    right = np.arange(100) < 80
    assert reliability(confidence, right).error == pytest.approx(0)
    assert reliability(np.ones(100), right).error == pytest.approx(0.2)
    assert reliability(np.array([1 / 15, 1.0]), np.array([True, True])).counts[[0, 14]].sum() == 2
