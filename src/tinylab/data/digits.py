"""scikit-learn's 1,797 handwritten digits (Alpaydin and Kaynak, UCI 1998), 8x8 pixels.

They come with the package, so they are there offline on every machine.
"""

import importlib.metadata
import importlib.util
from pathlib import Path

import numpy as np

from tinylab.config.schema import DigitsConfig
from tinylab.data.arrays import Images, Source, pad_to


def find(config: DigitsConfig) -> Source:
    """The data file inside scikit-learn, found without importing it (which takes seconds)."""
    package = importlib.util.find_spec("sklearn")
    assert package is not None
    assert package.origin is not None
    file = Path(package.origin).parent / "datasets" / "data" / "digits.csv.gz"
    preparation: dict[str, object] = {
        "image_size": config.image_size,
        "sklearn": importlib.metadata.version("scikit-learn"),
    }
    return Source("digits", (str(file),), preparation, lambda: read(config.image_size))


def read(image_size: int) -> Images:
    """All images as uint8 (1797, 1, image_size, image_size); ink 0..16 becomes 0..255."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    ink_NHW = digits.images
    images = np.rint(ink_NHW * (255 / 16)).astype(np.uint8)[:, None]
    labels = digits.target.astype(np.int64)
    return Images(pad_to(images, image_size), labels, tuple("0123456789"))
