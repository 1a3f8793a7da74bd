"""Confident learning against the published definition, image by image."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tinylab.evaluate import labels


def drawn(seed: int, num: int, K: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Labels, not of all classes, and probabilities that somewhat know them."""
    rng = np.random.default_rng(seed)
    given_labels = rng.integers(0, max(1, K - rng.integers(0, 2)), num)
    logits = rng.normal(size=(num, K)) + 2 * np.eye(K)[given_labels]
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return given_labels, probabilities


CASES = st.tuples(st.integers(0, 9999), st.integers(1, 40), st.integers(2, 5))


@given(CASES)
def test_the_confident_joint_is_that_of_equation_1(case: tuple[int, int, int]) -> None:
    label, probability = drawn(*case)
    K = probability.shape[1]
    expected = np.zeros((K, K), int)
    thresholds = {
        j: np.mean([p[j] for p, given_label in zip(probability, label, strict=True)
                    if given_label == j])
        for j in set(label.tolist())
    }  # fmt: skip
    for p, i in zip(probability, label, strict=True):
        reached = [j for j in thresholds if p[j] >= thresholds[j]]
        if reached:
            expected[i, max(reached, key=lambda j: p[j])] += 1
    assert np.array_equal(labels.confident_joint(label, probability), expected)


@given(CASES)
def test_the_estimated_joint_has_the_labels_own_frequencies(case: tuple[int, int, int]) -> None:
    label, probability = drawn(*case)
    joint = labels.estimated_joint(label, probability)
    counts = np.bincount(label, minlength=probability.shape[1])
    assert joint.sum() == pytest.approx(1)
    assert joint.sum(axis=1) == pytest.approx(counts / len(label))
    raw = labels.confident_joint(label, probability)
    for i in np.flatnonzero(raw.sum(axis=1)):
        assert joint[i] / joint[i].sum() == pytest.approx(raw[i] / raw[i].sum())


@given(CASES)
def test_label_errors_are_what_is_off_the_diagonal_by_margin(case: tuple[int, int, int]) -> None:
    label, probability = drawn(*case)
    result = labels.label_errors(label, probability)
    joint = labels.confident_joint(label, probability)
    assert len(result.position) == joint.sum() - joint.trace()
    assert (result.suggested != label[result.position]).all()
    assert (np.diff(result.margin) <= 0).all()
    others = labels.doubtful_labels(label, probability)
    assert (np.diff(others.margin) <= 0).all()
    assert (others.margin > 0).all()
    mistakes = np.flatnonzero(probability.argmax(axis=1) != label)
    assert {*others.position} == {*mistakes} - {*result.position}
    overlaps = labels.overlapping(label, probability)
    estimated = labels.estimated_joint(label, probability)
    assert sum(fraction for _, _, fraction in overlaps) == pytest.approx(1 - estimated.trace())
    probabilities = [fraction for _, _, fraction in overlaps]
    assert probabilities == sorted(probabilities, reverse=True)


def test_a_hand_worked_example() -> None:
    label = np.array([0, 0, 0, 1, 1, 1])
    probability = np.array([[0.9, 0.1], [0.8, 0.2], [0.1, 0.9], [0.2, 0.8], [0.3, 0.7], [0.7, 0.3]])
    # Thresholds: (0.9 + 0.8 + 0.1) / 3 = 0.6 and (0.8 + 0.7 + 0.3) / 3 = 0.6.
    assert labels.confident_joint(label, probability).tolist() == [[2, 1], [1, 2]]
    result = labels.label_errors(label, probability)
    assert result.position.tolist() == [2, 5]
    assert result.suggested.tolist() == [1, 0]
    assert result.margin == pytest.approx([0.8, 0.4])
    assert labels.overlapping(label, probability) == [(0, 1, pytest.approx(1 / 3))]
