"""Selective prediction: error by coverage when uncertain images are rejected."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class RiskCoverage:
    """The error of the most confident predictions by their fraction.

    coverage, risk: float64 (T,), 0 to 1, at the T distinct probabilities, highest first. area:
    under the step curve, AURC, the mean risk over the coverage.
    """

    coverage: NDArray[np.float64]
    risk: NDArray[np.float64]

    @property
    def area(self) -> float:
        """The sum of the risk over the steps of the coverage."""
        return float(self.risk @ np.diff(self.coverage, prepend=0.0))


def risk_coverage(confidence: NDArray[np.floating[Any]], right: NDArray[np.bool_]) -> RiskCoverage:
    """The curve of Geifman, El-Yaniv: Selective Classification for Deep Neural Networks (2017).

    confidence: (N,), the probability of the predicted class; right: (N,). Equal probabilities are
    kept or rejected together.
    """
    order = np.argsort(-confidence, kind="stable")
    last = np.append(np.flatnonzero(np.diff(confidence[order])), len(order) - 1)
    kept = last + 1
    return RiskCoverage(kept / len(order), np.cumsum(~right[order])[last] / kept)
