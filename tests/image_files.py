"""Image files and folders of them, for tests."""

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]


def picture(seed: int = 0, height: int = 12, width: int = 9) -> Pixels:
    """A smooth picture that is no two times the same, (H, W, 3) as blue, green, red."""
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    return cv2.blur(noise, (3, 3)).astype(np.uint8)


def encoded(suffix: str = ".png", image: Pixels | None = None) -> bytes:
    ok, content = cv2.imencode(suffix, picture() if image is None else image)
    assert ok
    return content.tobytes()


def fill(root: Path, *names: str, content: bytes | None = None) -> Path:
    """Write an image, or ``content``, under each name."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(encoded() if content is None else content)
    return root
