"""Metrics of classifiers over all items, with scikit-learn's definitions, in NumPy.

The reliability of probabilities is that of Guo, Pleiss, Sun, Weinberger: On Calibration of Modern
Neural Networks (ICML 2017), section 2.
"""

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Z95 = 1.959963984540054  # two-sided 95% point of the standard normal distribution
NUM_BINS = 15
TOP = 5


@dataclass(frozen=True)
class Score:
    """Means over ``num`` items.

    loss: of the evaluation. accuracy etc.: fractions, 0 to 1. nll: the negative log-likelihood of
    the true classes, in nats. ece: the expected calibration error.
    """

    loss: float
    accuracy: float
    num: int
    balanced_accuracy: float
    macro_f1: float
    top5_accuracy: float | None  # None with 5 classes or fewer
    nll: float
    ece: float

    def as_dict(self) -> dict[str, float | int | None]:
        """Return the metrics for ``result.json``."""
        return dataclasses.asdict(self)


def score(
    labels: NDArray[np.int64],
    predicted: NDArray[np.int64],
    log_probabilities: NDArray[np.float64],
    loss: float,
) -> Score:
    """Compute all metrics. labels, predicted: (N,). log_probabilities: (N, num_classes), in nats.

    ``loss`` is the evaluation's own.
    """
    matrix = confusion_matrix(labels, predicted, log_probabilities.shape[1])
    confidence = np.exp(log_probabilities.max(axis=1))
    return Score(
        loss=loss,
        accuracy=int(matrix.trace()) / len(labels),
        num=len(labels),
        balanced_accuracy=balanced_accuracy(matrix),
        macro_f1=macro_f1(matrix),
        top5_accuracy=top5_accuracy(labels, log_probabilities),
        nll=negative_log_likelihood(labels, log_probabilities),
        ece=reliability(confidence, predicted == labels).error,
    )


def confusion_matrix(
    labels: NDArray[np.int64], predicted: NDArray[np.int64], num_classes: int
) -> NDArray[np.int64]:
    """Counts (num_classes, num_classes): rows are true classes, columns predicted ones."""
    pairs = labels * num_classes + predicted
    return np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)


def per_class_recall(confusion: NDArray[np.int64]) -> list[float | None]:
    """Recall: fraction of each true class predicted correctly; None for a class without items."""
    return _ratios(confusion.diagonal(), confusion.sum(axis=1))


def per_class_f1(confusion: NDArray[np.int64]) -> list[float | None]:
    """Harmonic mean of precision and recall; None for a class neither labeled nor predicted."""
    return _ratios(2 * confusion.diagonal(), confusion.sum(axis=0) + confusion.sum(axis=1))


def _ratios(parts: NDArray[np.int64], totals: NDArray[np.int64]) -> list[float | None]:
    pairs = zip(parts.tolist(), totals.tolist(), strict=True)
    return [part / total if total else None for part, total in pairs]


def balanced_accuracy(confusion: NDArray[np.int64]) -> float:
    """Mean recall over the classes that have items."""
    return _mean(per_class_recall(confusion))


def macro_f1(confusion: NDArray[np.int64]) -> float:
    """Mean F1 over the classes that are labeled or predicted."""
    return _mean(per_class_f1(confusion))


def _mean(values: list[float | None]) -> float:
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known)


def top5_accuracy(
    labels: NDArray[np.int64], log_probabilities: NDArray[np.float64]
) -> float | None:
    """Fraction of items whose class is among the 5 most probable; None for 5 classes or fewer.

    Among equally probable classes the later ones come first, as in scikit-learn.
    """
    num_classes = log_probabilities.shape[1]
    if num_classes <= TOP:
        return None
    true = _of_true_class(labels, log_probabilities)[:, None]
    is_later = np.arange(num_classes) > labels[:, None]
    before = (log_probabilities > true) | ((log_probabilities == true) & is_later)
    return int((before.sum(axis=1) < TOP).sum()) / len(labels)


def negative_log_likelihood(
    labels: NDArray[np.int64], log_probabilities: NDArray[np.float64]
) -> float:
    """Mean of -log p of the true class, in nats."""
    return -float(_of_true_class(labels, log_probabilities).mean())


def _of_true_class(labels: NDArray[np.int64], values: NDArray[np.float64]) -> NDArray[np.float64]:
    return values[np.arange(len(labels)), labels]


@dataclass(frozen=True)
class Reliability:
    """Predictions in bins of equal width by the probability of the predicted class.

    Bin m of M has probabilities in ((m - 1) / M, m / M]. counts: int64 (M,). confidence, accuracy:
    float64 (M,), the mean probability and the accuracy; NaN in an empty bin.
    """

    counts: NDArray[np.int64]
    confidence: NDArray[np.float64]
    accuracy: NDArray[np.float64]

    @property
    def error(self) -> float:
        """ECE: the mean of |accuracy - confidence| over all predictions, bin by bin (eq. 3)."""
        gaps = np.abs(self.accuracy - self.confidence)
        return float(np.nansum(gaps * self.counts) / self.counts.sum())


def reliability(
    confidence: NDArray[np.float64], right: NDArray[np.bool_], num_bins: int = NUM_BINS
) -> Reliability:
    """Sort predictions into bins. confidence: (N,), 0 to 1. right: (N,), whether correct."""
    edges = np.arange(1, num_bins) / num_bins
    bins = np.digitize(confidence, edges, right=True)
    counts = np.bincount(bins, minlength=num_bins)
    empty_as_nan = np.where(counts > 0, counts, np.nan)
    sums = (np.bincount(bins, each, num_bins) for each in (confidence, right))
    means = [each / empty_as_nan for each in sums]
    return Reliability(counts, *means)


def worst_mistakes(
    labels: NDArray[np.int64], predicted: NDArray[np.int64], probability: NDArray[np.floating[Any]]
) -> NDArray[np.int64]:
    """Return the indices of the wrong predictions, most probable first. Each argument: (N,)."""
    wrong = np.flatnonzero(predicted != labels)
    return wrong[np.argsort(-probability[wrong], kind="stable")]


def wilson_interval(num_correct: float, num: float) -> tuple[float, float]:
    """The 95% CI of a fraction (Wilson, 1927), for accuracy on ``num`` independent items.

    Both may be means over runs, and so not integers.
    """
    accuracy, z2 = num_correct / num, Z95**2
    center = (accuracy + z2 / (2 * num)) / (1 + z2 / num)
    half = Z95 / (1 + z2 / num) * math.sqrt(accuracy * (1 - accuracy) / num + z2 / (4 * num**2))
    low = 0.0 if num_correct <= 0 else max(center - half, 0.0)
    high = 1.0 if num_correct >= num else min(center + half, 1.0)
    return low, high
