"""``calibration.npz``: a run's calibration on validation images; the only reader and writer.

It is stored next to the result, which it does not change.
"""

import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tinylab.system.files import write_npz


@dataclass(frozen=True)
class Calibration:
    """The calibration fitted on the validation images for the weights with this digest.

    temperature: the divisor of the logits. features: float16 (M, D), of M training images, of unit
    length; none (M = 0) if validation images were too few for a threshold. threshold: images
    farther from these than this are unlike the training data.
    """

    weights_sha256: str
    temperature: float
    features: NDArray[np.float16]
    threshold: float

    @property
    def tells_unlike(self) -> bool:
        """Whether it can tell which images are unlike the training data."""
        return len(self.features) > 0


def write(path: Path, calibration: Calibration) -> None:
    """Write a calibration atomically. Raises UserError if the disk is full."""
    write_npz(path, **asdict(calibration))


def read(path: Path, weights_sha256: str) -> Calibration | None:
    """Read a calibration; None if absent, damaged, or for other weights."""
    try:
        with path.open("rb") as file, np.load(file) as saved:
            calibration = Calibration(
                str(saved["weights_sha256"]), float(saved["temperature"]),
                saved["features"], float(saved["threshold"]),
            )  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile):
        return None
    return calibration if calibration.weights_sha256 == weights_sha256 else None
