"""scikit-learn's 1,797 handwritten digits (Alpaydin and Kaynak, UCI 1998), 8x8 pixels.

They come with the package, so they are available offline.
"""

import importlib.metadata
import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from tinylab.config.decorators import dataset
from tinylab.config.values import option
from tinylab.data.arrays import Dataset, Ink, Source, pad_to


@dataset
@dataclass(frozen=True)
class Digits:
    """scikit-learn's 1,797 handwritten digits of 8x8 pixels, which come with the package."""

    ink: ClassVar[Ink] = Ink(8, 8, by_mass=False)  # the ink of all 1,797 is 8 pixels high

    image_size: int = option(8, "8, or more: zero-padded to this size", at_least=8, at_most=1024)

    def find(self) -> Source:
        """Return the data file inside scikit-learn without importing it (which takes seconds)."""
        package = importlib.util.find_spec("sklearn")
        assert package is not None
        assert package.origin is not None
        file = Path(package.origin).parent / "datasets" / "data" / "digits.csv.gz"
        preparation: dict[str, object] = {
            "image_size": self.image_size,
            "sklearn": importlib.metadata.version("scikit-learn"),
        }
        return Source("digits", (str(file),), preparation, lambda: read(self.image_size))


def read(image_size: int) -> Dataset:
    """Read all images as uint8 (1797, 1, image_size, image_size); ink 0..16 becomes 0..255."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    ink_NHW = digits.images
    images = np.rint(ink_NHW * (255 / 16)).astype(np.uint8)[:, None]
    labels = digits.target.astype(np.int64)
    return Dataset(pad_to(images, image_size), labels, tuple("0123456789"))
