"""Picture files as a trained network wants them: read by the rule of its training data.

Class folders have their own rule. A network of handwritten digits gets photographs and scans in the
form of its training images: light ink on black, cropped, scaled and centred as MNIST was.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinylab import data
from tinylab.config.schema import DatasetConfig
from tinylab.data import folder
from tinylab.data.arrays import Ink, pad_to
from tinylab.errors import UserError

Pixels = NDArray[np.uint8]
Values = NDArray[Any]  # uint8 or floating point, 0 to 255

LONGEST = 512  # pixels of the longer side of a photograph in which the digit is looked for
FAINTEST = 16  # gray levels between the ground and the strongest ink
INK = 0.4  # of the strongest ink: what is fainter is ground
SPECK = 0.05  # of the largest stroke's area: what is smaller is dust


@dataclass(frozen=True)
class Picture:
    """What the network sees of a file: uint8 (C, H, W), and what was done to a digit's image."""

    pixels: Pixels
    inverted: bool = False
    fitted: bool = False


def reader(dataset: DatasetConfig, invert: str, channels: int = 1) -> Callable[[Path], Picture]:
    """A function from a file to its Picture; it raises OSError where the file is no such image.

    ``invert`` says whether a digit's image has dark ink on a light ground: ``yes``, ``no``, or
    ``auto``, which looks at its border. ``channels`` are those of the network's images, for data
    that says nothing of files. Raises UserError for class folders, which know no ink.
    """
    part = data.part_of(dataset)
    if not hasattr(part, "ink"):
        if invert != "auto":
            raise UserError(
                f"--invert {invert}: this network was trained on dataset={dataset.name}, whose "
                "images are taken as they are; only handwritten digits are inverted"
            )
        decode = folder.decoder(
            part if isinstance(part, folder.Folder) else _plain(dataset, channels)
        )
        return lambda file: Picture(decode(file))
    return lambda file: read_digit(_read_gray(file), part.ink, dataset.image_size, invert)


def _plain(dataset: DatasetConfig, channels: int) -> folder.Folder:
    """How the files of a dataset are read that says nothing of files: resized, gray or in color."""
    return folder.Folder(image_size=dataset.image_size, grayscale=channels == 1)


def _read_gray(file: Path) -> Pixels:
    """Gray values (H, W), upright; transparency shows the ground, which is black for light ink."""
    cv2 = folder.open_cv()
    data = folder.read_bytes(file)
    if data[:2].tobytes() != b"\xff\xd8":  # a JPEG file has no transparency
        image = folder.decode_bytes(data, cv2.IMREAD_UNCHANGED)
        if image.ndim == 3 and image.shape[2] == 4:
            white = np.iinfo(image.dtype).max
            gray = cv2.cvtColor(image, cv2.COLOR_BGRA2GRAY) * (255 / white)
            return _on_ground(gray, image[..., 3] / white)
    return np.asarray(folder.decode_bytes(data, cv2.IMREAD_GRAYSCALE), np.uint8)


def _on_ground(gray: Values, opacity: Values) -> Pixels:
    """Lay a partly transparent image on the colour of its border; see through that, on contrast.

    gray: (H, W), 0 to 255. opacity: (H, W), 0 to 1.
    """
    if np.median(_border(opacity)) > 0.5:
        ground = float(np.median(_border(gray)))
    else:
        ground = 255.0 if np.average(gray, weights=opacity + 1e-9) < 128 else 0.0
    return np.rint(ground + (gray - ground) * opacity).astype(np.uint8)


def _border(image: Values) -> Values:
    """The values on the four edges of an image (H, W)."""
    return np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])


def read_digit(gray: Pixels, field: Ink, size: int, invert: str) -> Picture:
    """An image of one digit, gray (H, W), in the form of the training images, (1, size, size).

    One that has the size of the training images already is at most inverted. In any other the
    digit is found, which needs a plain ground; its light may be uneven. Raises OSError where no
    ink is found.
    """
    is_native = gray.shape in ((field.side, field.side), (size, size))
    image = gray if is_native else _scale(gray, min(1.0, LONGEST / max(gray.shape)))
    inverted = _is_ink_dark(image) if invert == "auto" else invert == "yes"
    if not is_native:
        image = fit(image, inverted, field)
    elif inverted:
        image = 255 - image
    return Picture(pad_to(image[None, None], size)[0], inverted, fitted=not is_native)


def _is_ink_dark(image: Pixels) -> bool:
    """Whether the darkest pixel is farther from the border's gray than the lightest is."""
    border = float(np.median(_border(image)))
    return border - float(image.min()) > float(image.max()) - border


def _scale(image: Values, factor: float) -> Values:
    cv2 = folder.open_cv()
    height, width = (max(1, round(side * factor)) for side in image.shape)
    interpolation = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, (width, height), interpolation=interpolation))


def fit(image: Pixels, inverted: bool, field: Ink) -> Pixels:
    """Crop an image to its ink, scale the ink to the field's box, and centre it: (side, side)."""
    crop = _crop_to_ink(image, inverted)
    ink = _scale(crop.astype(np.float64), field.box / max(crop.shape))
    full = np.percentile(ink[ink > 0], 95)  # thin strokes are faint after scaling
    ink = np.minimum(ink * (255 / full), 255)
    fitted = np.zeros((field.side, field.side), np.uint8)
    top, left = (_start(ink.sum(axis), field) for axis in (1, 0))
    height, width = ink.shape
    fitted[top : top + height, left : left + width] = np.rint(ink)
    return fitted


def _crop_to_ink(image: Pixels, inverted: bool) -> Pixels:
    """Light ink on black, without the ground and its shadows, without dust, without a margin."""
    cv2 = folder.open_cv()
    window = np.ones((max(image.shape) // 2 | 1,) * 2, np.uint8)  # wider than any stroke
    operation = cv2.MORPH_BLACKHAT if inverted else cv2.MORPH_TOPHAT
    ink = cv2.morphologyEx(image, operation, window)
    strongest = float(cv2.blur(ink, (3, 3)).max())
    if strongest < FAINTEST:
        raise OSError("no ink is to be seen in it")
    mask = (ink > INK * strongest).astype(np.uint8)
    _, strokes, figures, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    areas = figures[1:, cv2.CC_STAT_AREA]
    large = 1 + np.flatnonzero(areas >= SPECK * areas.max())
    kept = np.isin(strokes, large).astype(np.uint8)
    soft = ink * cv2.dilate(kept, np.ones((3, 3), np.uint8))  # with the strokes' faint edges
    rows, columns = np.flatnonzero(kept.any(1)), np.flatnonzero(kept.any(0))
    return np.asarray(soft[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1], np.uint8)


def _start(mass: Values, field: Ink) -> int:
    """Where a row of summed ink begins in the field, so that it is centred there."""
    middle = float(mass @ np.arange(len(mass)) / mass.sum()) if field.by_mass else len(mass) / 2
    return min(max(round(field.side / 2 - middle), 0), field.side - len(mass))
