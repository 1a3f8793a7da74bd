"""Near-duplicate images, such as re-encoded or slightly resized copies."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# A root mean square difference of this fraction of the image's own standard deviation. As JPEG of
# quality 75, 98% of 400 15-Scene photos and all of 400 MNIST digits differ by less from the
# original; resized by one pixel, 93% of the photos. Of the test images that are not copies, the
# nearest to a training image differ by 0.14 (MNIST), 0.16 (digits) and 0.37 (15-Scene).
ALIKE = 0.12
PLAIN = 4.0  # standard deviation in gray levels; images below have too little contrast to compare
CELLS = 8  # number of cells compared first, approximately: MNIST 8 s, its pixels 38 s
CHUNK = 128


def alike(images: NDArray[np.uint8], others: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return which of ``images``, uint8 (N, C, H, W), nearly equal one of ``others``, (M, C, H, W).

    A lower bound: only the image of ``others`` that is nearest by averages over cells is compared
    pixel by pixel. Cropped or mirrored copies are not recognized.
    """
    near = np.zeros(len(images), bool)
    if len(others) == 0:
        return near
    coarse = _cells(others)
    squares = np.square(coarse).sum(axis=1)
    for start in range(0, len(images), CHUNK):
        chunk = images[start : start + CHUNK]
        nearest = (squares - 2 * _cells(chunk) @ coarse.T).argmin(axis=1)
        near[start : start + CHUNK] = _nearly_equal(chunk, others[nearest])
    return near


@dataclass(frozen=True)
class Neighbors:
    """The nearest other image of each of N by averages over cells, without exact copies.

    nearest: int64 (N,). distance: float64 (N,), the root mean square difference of the averages in
    gray levels. near: bool (N,), whether the two are nearly equal, as in ``alike``.
    """

    nearest: NDArray[np.int64]
    distance: NDArray[np.float64]
    near: NDArray[np.bool_]


def neighbors(images: NDArray[np.uint8], first_duplicates: NDArray[np.int64]) -> Neighbors:
    """Return the neighbors of images, uint8 (N, C, H, W).

    ``first_duplicates``: for every image the index of its first exact copy, (N,).
    """
    N = len(images)
    coarse = _cells(images)
    squares = np.square(coarse).sum(axis=1)
    nearest, distance, near = np.zeros(N, np.int64), np.zeros(N), np.zeros(N, bool)
    for start in range(0, N, CHUNK):
        here = slice(start, start + CHUNK)
        far = squares[here, None] + squares - 2 * coarse[here] @ coarse.T
        far[first_duplicates[here, None] == first_duplicates] = np.inf
        nearest[here] = far.argmin(axis=1)
        distance[here] = np.sqrt(np.maximum(far.min(axis=1), 0) / coarse.shape[1])
        near[here] = _nearly_equal(images[here], images[nearest[here]])
    return Neighbors(nearest, distance, near)


def _nearly_equal(images: NDArray[np.uint8], others: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return whether each image nearly equals the other at its position, (N, C, H, W) -> (N,)."""
    pixels = images.reshape(len(images), -1).astype(np.float32)
    difference = pixels - others.reshape(len(others), -1)
    contrast = pixels.std(axis=1)
    far = np.sqrt(np.square(difference).mean(axis=1))
    close: NDArray[np.bool_] = (far < ALIKE * contrast) & (contrast > PLAIN)
    return close


def _cells(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return means over square cells: float32 (N, C * rows * columns); drops leftover pixels."""
    N, C, H, W = images.shape
    side = max(1, min(H, W) // CELLS)
    h, w = H // side, W // side
    cells = images[:, :, : h * side, : w * side].reshape(N, C, h, side, w, side)
    means: NDArray[np.float32] = cells.mean(axis=(3, 5), dtype=np.float32).reshape(N, -1)
    return means
