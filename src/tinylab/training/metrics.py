"""Exact figures of classifiers: sums and counts over every item, divided once."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Z95 = 1.959963984540054  # two-sided 95 % point of the standard normal distribution


@dataclass(frozen=True)
class Score:
    """Loss and accuracy over ``num`` items; the loss is cross-entropy in nats, as a mean."""

    loss: float
    accuracy: float
    num: int

    def as_dict(self) -> dict[str, float | int]:
        """For ``result.json``."""
        return {"loss": self.loss, "accuracy": self.accuracy, "num": self.num}


def score(loss_sum: float, num_correct: int, num: int) -> Score:
    """Sums over all items -> their means."""
    return Score(loss_sum / num, num_correct / num, num)


def confusion_matrix(
    labels: NDArray[np.int64], predicted: NDArray[np.int64], num_classes: int
) -> NDArray[np.int64]:
    """Counts (num_classes, num_classes): row the true class, column the predicted one."""
    pairs = labels * num_classes + predicted
    return np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)


def per_class_recall(confusion: NDArray[np.int64]) -> list[float | None]:
    """Share of each true class that was predicted right; None for a class without items."""
    totals = confusion.sum(axis=1)
    return [
        float(right / total) if total else None
        for right, total in zip(confusion.diagonal(), totals, strict=True)
    ]


def wilson_interval(num_correct: int, num: int) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson, 1927), for accuracy on ``num`` independent items."""
    share, z2 = num_correct / num, Z95**2
    centre = (share + z2 / (2 * num)) / (1 + z2 / num)
    half = Z95 / (1 + z2 / num) * math.sqrt(share * (1 - share) / num + z2 / (4 * num**2))
    low = 0.0 if num_correct == 0 else centre - half
    high = 1.0 if num_correct == num else centre + half
    return low, high
