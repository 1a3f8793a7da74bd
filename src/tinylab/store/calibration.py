"""``calibration.npz``: what validation says of a run's probabilities, written and read here alone.

It lies beside the result, which it does not change.
"""

import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tinylab.system.files import write_npz


@dataclass(frozen=True)
class Calibration:
    """What was fitted to the validation images of the weights of this digest.

    temperature: what logits are divided by. features: float16 (M, D), of M training images, of
    length 1. threshold: the distance to these from which an image is unlike them.
    """

    weights_sha256: str
    temperature: float
    features: NDArray[np.float16]
    threshold: float


def write(path: Path, found: Calibration) -> None:
    """Write a calibration durably and all at once. Raises UserError where there is no room."""
    write_npz(path, **asdict(found))


def read(path: Path, weights_sha256: str) -> Calibration | None:
    """The calibration in a file; None where it is absent, damaged, or of other weights."""
    try:
        with path.open("rb") as file, np.load(file) as saved:
            found = Calibration(
                str(saved["weights_sha256"]), float(saved["temperature"]),
                saved["features"], float(saved["threshold"]),
            )  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile):
        return None
    return found if found.weights_sha256 == weights_sha256 else None
