"""The metrics of predicted probabilities on labeled images."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinylab.training import metrics, own_metrics
from tinylab.training.metrics import Reliability, reliability

TINY = np.finfo(np.float64).tiny  # a probability of 0 would make the loss infinite


@dataclass(frozen=True)
class Scores:
    """labels: int64 (N,). probabilities: float64 (N, K), for the K ``classes``."""

    labels: NDArray[np.int64]
    probabilities: NDArray[np.float64]
    classes: tuple[str, ...]

    @cached_property
    def predicted(self) -> NDArray[np.int64]:
        """The most probable class of each image, (N,)."""
        predicted: NDArray[np.int64] = self.probabilities.argmax(axis=1)
        return predicted

    @cached_property
    def confusion(self) -> NDArray[np.int64]:
        """Counts (K, K) by true class (rows) and predicted class (columns)."""
        return metrics.confusion_matrix(self.labels, self.predicted, len(self.classes))

    @cached_property
    def log_probabilities(self) -> NDArray[np.float64]:
        """In nats, (N, K)."""
        return np.log(np.maximum(self.probabilities, TINY))

    @cached_property
    def score(self) -> metrics.Score:
        """All metrics; the loss is the negative log-likelihood."""
        loss = metrics.negative_log_likelihood(self.labels, self.log_probabilities)
        return metrics.score(self.labels, self.predicted, self.log_probabilities, loss)

    @cached_property
    def own(self) -> dict[str, float | None]:
        """The metrics of the user's files by name; None if one has no value."""
        return own_metrics.load(len(self.classes)).of(self.labels, self.probabilities)

    @property
    def interval(self) -> tuple[float, float]:
        """The 95% CI of the accuracy (Wilson)."""
        return metrics.wilson_interval(int(self.confusion.trace()), len(self.labels))

    @cached_property
    def reliability(self) -> Reliability:
        """The accuracy by predicted probability."""
        return reliability(
            np.exp(self.log_probabilities.max(axis=1)), self.predicted == self.labels
        )

    def by_class(self) -> list[dict[str, Any]]:
        """Images, recall, precision and F1 of each class; None if undefined."""
        matrix = self.confusion
        recall, precision = metrics.per_class_recall(matrix), metrics.per_class_recall(matrix.T)
        f1 = metrics.per_class_f1(matrix)
        columns = zip(self.classes, matrix.sum(1).tolist(), recall, precision, f1, strict=True)
        keys = ("class", "num", "recall", "precision", "f1")
        return [dict(zip(keys, row, strict=True)) for row in columns]

    def as_dict(self) -> dict[str, Any]:
        """Return the contents of ``evaluation.json``."""
        bins = self.reliability
        return {
            **self.score.as_dict(),
            **self.own,
            "accuracy_ci95": self.interval,
            "per_class": self.by_class(),
            "confusion": self.confusion.tolist(),
            "reliability": [
                {"num": int(num), "confidence": float(probability), "accuracy": float(right)}
                if num
                else {"num": 0, "confidence": None, "accuracy": None}
                for num, probability, right in zip(
                    bins.counts, bins.confidence, bins.accuracy, strict=True
                )
            ],
        }
