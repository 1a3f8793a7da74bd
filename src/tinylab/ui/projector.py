"""Images in TensorBoard's embedding projector: its files, and the sprite of thumbnails."""

import math
import re
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

LARGEST = 64  # maximum side of a thumbnail in pixels; browsers show sprites of up to 8192


def sprite(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Arrange images, uint8 (N, C, H, W), by row in a square sprite, (C, S * h, S * w).

    S is the square root of N, rounded up; images larger than LARGEST pixels are subsampled.
    """
    step = -(-max(images.shape[2:]) // LARGEST)
    small = images[:, :, ::step, ::step]
    N, C, h, w = small.shape
    side = math.isqrt(N - 1) + 1
    cells = np.zeros((side * side, C, h, w), np.uint8)
    cells[:N] = small
    return cells.reshape(side, side, C, h, w).transpose(2, 0, 3, 1, 4).reshape(C, side * h, -1)


def config(vectors: Mapping[str, str], metadata: str, sheet: str, size: tuple[int, int]) -> str:
    """Return ``projector_config.pbtxt``: the files of the vectors by name, of the images' metadata,
    and the sprite of images of ``size``, (width, height).
    """
    return "".join(
        f'embeddings {{\n  tensor_name: "{name}"\n  tensor_path: "{file}"\n'
        f'  metadata_path: "{metadata}"\n  sprite {{\n    image_path: "{sheet}"\n'
        f"    single_image_dim: {size[0]}\n    single_image_dim: {size[1]}\n  }}\n}}\n"
        for name, file in vectors.items()
    )


def rows(values: NDArray[np.float32]) -> str:
    """Return vectors (N, D) as tab-separated lines."""
    return "".join("\t".join(f"{value:.5g}" for value in row) + "\n" for row in values)


def table(columns: Mapping[str, Sequence[str]]) -> str:
    """Return columns of equal length with their names as tab-separated lines."""
    cells = [
        [re.sub(r"\s", " ", cell) for cell in row] for row in zip(*columns.values(), strict=True)
    ]
    return "".join("\t".join(row) + "\n" for row in [list(columns), *cells])
