"""Images that differ in appearance from the rest of their dataset: dark, light, blurred."""

import numpy as np
from numpy.typing import NDArray

FENCE = 2.0  # interquartile ranges beyond a quartile; Tukey (1977) has 1.5, and 3 for "far out"
CHUNK = 1024


def brightness(images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return the mean gray level of each image, (N, C, H, W) -> (N,)."""
    return np.concatenate([part.mean(axis=(1, 2, 3)) for part in _chunks(images)])


def sharpness(images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return the logarithm of the variance of the Laplacian, plus 1: (N, C, H, W) -> (N,).

    Low for blurred images (Pech-Pacheco et al., ICPR 2000).
    """
    return np.concatenate([_sharpness(part) for part in _chunks(images)])


def _sharpness(images: NDArray[np.uint8]) -> NDArray[np.float64]:
    gray = images.mean(axis=1, dtype=np.float32)
    inner = gray[:, 1:-1, 1:-1]
    around = gray[:, :-2, 1:-1] + gray[:, 2:, 1:-1] + gray[:, 1:-1, :-2] + gray[:, 1:-1, 2:]
    variance = (around - 4 * inner).var(axis=(1, 2), dtype=np.float64)
    logarithm: NDArray[np.float64] = np.log1p(variance)
    return logarithm


def _chunks(images: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
    return [images[start : start + CHUNK] for start in range(0, len(images), CHUNK)]


def far_out(values: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the indices of values far below and far above the others, farthest first."""
    low, high = np.quantile(values, [0.25, 0.75])
    reach = FENCE * (high - low)
    order = np.argsort(values, kind="stable")
    below = order[values[order] < low - reach]
    above = order[::-1][values[order[::-1]] > high + reach]
    return below, above
