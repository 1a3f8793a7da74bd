"""One image to the size of the prepared images."""

import importlib.metadata

import numpy as np
from numpy.typing import NDArray

from tinylab.data.folder import open_cv


def resized(image: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """uint8 (H, W) or (H, W, C) -> the same, ``size`` high and wide.

    By OpenCV: areas are averaged where the image shrinks, so that nothing is skipped, and pixels
    interpolated linearly where it grows. The proportions are not kept, as those of image files in
    class folders are not.
    """
    if image.shape[:2] == (size, size):
        return image
    cv2 = open_cv()
    way = cv2.INTER_AREA if min(image.shape[:2]) >= size else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(np.ascontiguousarray(image), (size, size), interpolation=way))


def version() -> str:
    """Of OpenCV, which decides the pixels."""
    return importlib.metadata.version("opencv-python-headless")
