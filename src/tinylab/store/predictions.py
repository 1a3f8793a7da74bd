"""``predictions.npz``: the predictions for the test images; the only reader and writer."""

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinylab.system.files import write_npz


@dataclass(frozen=True)
class Predictions:
    """index, label, predicted: int64 (N,). probabilities: float16 (N, K), None if not requested.

    ``index``: positions in the dataset. path: (N,), the images' files; None without files.
    """

    index: NDArray[np.int64]
    label: NDArray[np.int64]
    predicted: NDArray[np.int64]
    probabilities: NDArray[np.float16] | None = None
    path: NDArray[np.str_] | None = None


def write(
    path: Path,
    index: NDArray[np.int64],
    label: NDArray[np.int64],
    predicted: NDArray[np.int64],
    probabilities: NDArray[Any],
    paths: Mapping[str, NDArray[np.str_]],
) -> None:
    """Write predictions durably; ``paths`` are the images' files, if any."""
    write_npz(
        path, index=index, label=label, predicted=predicted,
        probabilities=probabilities.astype(np.float16), **paths,
    )  # fmt: skip


def read(path: Path, with_probabilities: bool = False) -> Predictions | None:
    """Read predictions; None if absent or damaged."""
    names = ["index", "label", "predicted", *["probabilities"] * with_probabilities]
    try:
        # Opened here, because np.load leaves a damaged file open.
        with path.open("rb") as file, np.load(file) as saved:
            arrays = [saved[name] for name in names]
            files = saved["path"] if with_probabilities and "path" in saved else None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    is_whole = len({len(array) for array in (*arrays, *[files] * (files is not None))}) == 1
    index, label, predicted, *rest = arrays
    probabilities = rest[0] if rest else None
    return Predictions(index, label, predicted, probabilities, files) if is_whole else None
