"""Whether a network's probabilities are what they say: reliability and calibration error.

Guo, Pleiss, Sun, Weinberger: On Calibration of Modern Neural Networks (ICML 2017), section 2.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

NUM_BINS = 15


@dataclass(frozen=True)
class Reliability:
    """Predictions in bins of equal width by their confidence, the largest probability.

    Bin m of M holds confidences in ((m - 1) / M, m / M]. counts: int64 (M,). confidence, accuracy:
    float64 (M,), their means; NaN in an empty bin.
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
    """Sort predictions into bins. confidence: (N,), 0 to 1. right: (N,), whether they are so."""
    edges = np.arange(1, num_bins) / num_bins
    bins = np.digitize(confidence, edges, right=True)
    counts = np.bincount(bins, minlength=num_bins)
    empty_as_nan = np.where(counts > 0, counts, np.nan)
    sums = (np.bincount(bins, each, num_bins) for each in (confidence, right))
    means = [each / empty_as_nan for each in sums]
    return Reliability(counts, *means)
