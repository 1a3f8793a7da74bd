"""Likely label errors, by probabilities of networks that were not trained on the images.

Confident learning: Northcutt, Jiang, Chuang: Confident Learning: Estimating Uncertainty in Dataset
Labels (JAIR 2021), sections 3.1 and 3.2. labels: int64 (N,), as given. probabilities: float64 (N,
K), out of sample.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Labels = NDArray[np.int64]
Probabilities = NDArray[np.float64]


@dataclass(frozen=True)
class LabelErrors:
    """Likely label errors, most certain first.

    position: int64 (E,), indices into the N images. suggested: int64 (E,), their likely classes.
    margin: float64 (E,), the probability of the likely class minus that of the given one.
    """

    position: Labels
    suggested: Labels
    margin: NDArray[np.float64]


def confident_joint(labels: Labels, probabilities: Probabilities) -> Labels:
    """Counts (K, K) by given label and confident class (equation 1).

    An image counts for the most probable of the classes whose probability reaches their threshold,
    the mean probability of the class over the images with its label. Others do not count.
    """
    K = probabilities.shape[1]
    confident = confident_class(labels, probabilities)
    counted = confident >= 0
    pairs = labels[counted] * K + confident[counted]
    return np.bincount(pairs, minlength=K**2).reshape(K, K)


def confident_class(labels: Labels, probabilities: Probabilities) -> Labels:
    """Return the confident class of each image, int64 (N,); -1 if there is none."""
    K = probabilities.shape[1]
    counts = np.bincount(labels, minlength=K)
    own = probabilities[np.arange(len(labels)), labels]
    means = np.bincount(labels, own, K) / np.maximum(counts, 1)
    thresholds = np.where(counts > 0, means, np.inf)  # nothing is confidently of an absent class
    reached = np.where(probabilities >= thresholds, probabilities, -1.0)
    return np.where(reached.max(axis=1) >= 0, reached.argmax(axis=1), -1)


def estimated_joint(labels: Labels, probabilities: Probabilities) -> NDArray[np.float64]:
    """The joint distribution (K, K) of given and true labels, which sums to 1 (equation 3)."""
    joint = confident_joint(labels, probabilities).astype(np.float64)
    counts = np.bincount(labels, minlength=len(joint))
    sums = joint.sum(axis=1)
    empty = sums == 0
    joint[empty, empty] = 1  # no confident image: its labels are assumed correct
    scaled = joint * (counts / np.where(empty, 1, sums))[:, None]
    normalized: NDArray[np.float64] = scaled / scaled.sum()
    return normalized


def label_errors(labels: Labels, probabilities: Probabilities) -> LabelErrors:
    """Return images that confidently belong to another class than labeled, largest margin first.

    These are the off-diagonal elements of the confident joint (section 3.2, the second method).
    """
    confident = confident_class(labels, probabilities)
    return _ranked((confident >= 0) & (confident != labels), confident, labels, probabilities)


def doubtful_labels(labels: Labels, probabilities: Probabilities) -> LabelErrors:
    """Return the other images whose label is not the most probable class, largest margin first."""
    confident, predicted = confident_class(labels, probabilities), probabilities.argmax(axis=1)
    is_listed = (confident >= 0) & (confident != labels)
    return _ranked(~is_listed & (predicted != labels), predicted, labels, probabilities)


def _ranked(
    mask: NDArray[np.bool_], suggested: Labels, labels: Labels, probabilities: Probabilities
) -> LabelErrors:
    wrong = np.flatnonzero(mask)
    margin = probabilities[wrong, suggested[wrong]] - probabilities[wrong, labels[wrong]]
    order = np.argsort(-margin, kind="stable")
    return LabelErrors(wrong[order], suggested[wrong][order], margin[order])


def overlapping(labels: Labels, probabilities: Probabilities) -> list[tuple[int, int, float]]:
    """Return pairs of classes and the fraction of all images that are labeled as one and belong to
    the other, by the estimated joint; largest first, without zeros.
    """
    joint = estimated_joint(labels, probabilities)
    mixed = np.triu(joint + joint.T, 1)
    order = np.argsort(-mixed, axis=None, kind="stable")
    pairs = [divmod(int(index), len(joint)) for index in order]
    return [(i, j, float(mixed[i, j])) for i, j in pairs if mixed[i, j] > 0]
