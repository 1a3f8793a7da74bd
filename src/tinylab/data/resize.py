"""Resize one image to the size of the prepared images."""

import importlib.metadata

import numpy as np
from numpy.typing import NDArray

from tinylab.data.folder import open_cv


def resized(image: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """uint8 (H, W) or (H, W, C) -> the same, ``size`` high and wide.

    With OpenCV: area averaging when shrinking, so that no pixel is skipped, and linear
    interpolation when enlarging. Aspect ratios are not kept, as for image files in class folders.
    """
    if image.shape[:2] == (size, size):
        return image
    cv2 = open_cv()
    way = cv2.INTER_AREA if min(image.shape[:2]) >= size else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(np.ascontiguousarray(image), (size, size), interpolation=way))


def version() -> str:
    """Return OpenCV's version, which affects the pixels."""
    return importlib.metadata.version("opencv-python-headless")
