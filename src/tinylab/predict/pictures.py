"""Preprocessing of image files for a trained network, by the rule of its training data.

Class folders have their own rule. For networks of handwritten digits, photos and scans are brought
to the format of the training images: light ink on black, cropped, scaled and centered as in MNIST,
from the sheet of paper alone if the picture shows its surroundings.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinylab import data
from tinylab.config.base_records import DatasetConfig
from tinylab.data import folder
from tinylab.data.arrays import Ink, pad_to
from tinylab.errors import UserError

Pixels = NDArray[np.uint8]
Values = NDArray[Any]  # uint8 or floating point, 0 to 255

LONGEST = 512  # pixels of the longer side of a photo in which the digit is searched
FAINTEST = 16  # minimum difference in gray levels between the background and the strongest ink
SMALL = 128  # pixels of the longer side: below it, strokes are as wide as tables
INK = 0.4  # of the strongest ink: anything fainter is background
SPECK = 0.05  # of the largest stroke's area: anything smaller is dust
GAP = 0.08  # of the ink's height: components farther apart are several digits
# A sheet, and no thick stroke: so much of the picture, of its rectangle, and of itself not ink;
# so much of the picture's border is not the sheet's; its ink has so much of the edge's contrast.
SHEET, RECTANGLE, EMPTY, BESIDE, MARKED = 0.25, 0.85, 0.65, 0.2, 0.3


@dataclass(frozen=True)
class Picture:
    """The preprocessed file: uint8 (C, H, W), and how a digit's image was processed."""

    pixels: Pixels
    inverted: bool = False
    fitted: bool = False
    several: bool = False  # several digits side by side


def reader(
    dataset: DatasetConfig, invert: str, image_shape: tuple[int, int, int] = (1, 32, 32)
) -> Callable[[Path], Picture]:
    """Return a function from a file to its Picture; it raises OSError for invalid images.

    ``invert`` says whether a digit's image has dark ink on a light background: ``yes``, ``no``, or
    ``auto``, which decides by its border. ``image_shape`` is that of the network's images, for
    datasets without files. Raises UserError for class folders, whose images are not inverted.
    """
    part = data.part_of(dataset)
    if not hasattr(part, "ink"):
        if invert != "auto":
            raise UserError(
                f"--invert {invert}: this network was trained on dataset={dataset.name}, whose "
                "images are never inverted; only handwritten digits are"
            )
        decode = folder.decoder(part if isinstance(part, folder.Folder) else _plain(image_shape))
        return lambda file: Picture(decode(file))
    return lambda file: read_digit(_read_gray(file), part.ink, part.image_size, invert)


def _plain(image_shape: tuple[int, int, int]) -> folder.Folder:
    """Return how to read files for a dataset without files: resized, gray or in color.

    With area averaging, since files are mostly larger than the network's images; an image of the
    same size keeps every pixel.
    """
    channels, side, _ = image_shape
    return folder.Folder(image_size=side, grayscale=channels == 1, interpolation="area")


def _read_gray(file: Path) -> Pixels:
    """Return gray values (H, W), upright; transparency shows the background, black for light ink.

    16-bit files that use at most 14 bits are scaled to the full range.
    """
    cv2 = folder.open_cv()
    data = folder.read_bytes(file)
    if data[:2].tobytes() != b"\xff\xd8":  # JPEG has no transparency
        image = folder.decode_bytes(data, cv2.IMREAD_UNCHANGED)
        if image.ndim == 3 and image.shape[2] == 4:
            white = np.iinfo(image.dtype).max
            gray = cv2.cvtColor(image, cv2.COLOR_BGRA2GRAY) * (255 / white)
            return _on_ground(gray, image[..., 3] / white)
        if image.dtype == np.uint16 and 0 < image.max() < folder.FOURTEEN_BITS:
            gray = image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
            return np.asarray(np.rint(gray * (255 / gray.max())), np.uint8)
    return np.asarray(folder.decode_bytes(data, cv2.IMREAD_GRAYSCALE), np.uint8)


def _on_ground(gray: Values, opacity: Values) -> Pixels:
    """Compose a partly transparent image on the color of its border, or on a contrasting one.

    gray: (H, W), 0 to 255. opacity: (H, W), 0 to 1.
    """
    if np.median(_border(opacity)) > 0.5:
        ground = float(np.median(_border(gray)))
    else:
        ground = 255.0 if np.average(gray, weights=opacity + 1e-9) < 128 else 0.0
    return np.rint(ground + (gray - ground) * opacity).astype(np.uint8)


def _border(image: Values) -> Values:
    """Return the values on the four edges of an image (H, W)."""
    return np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])


def read_digit(gray: Pixels, field: Ink, size: int, invert: str) -> Picture:
    """Bring an image of one digit, gray (H, W), to the training format, (1, size, size).

    One already in the training format is only inverted if needed. In any other the digit is
    searched, which needs a plain background; lighting may be uneven. Raises OSError if no ink is
    found.
    """
    if gray.shape in ((field.side, field.side), (size, size)):
        inverted = _is_ink_dark(gray) if invert == "auto" else invert == "yes"
        image = 255 - gray if inverted else gray
        if _has_form(image, field):
            return Picture(pad_to(image[None, None], size)[0], inverted)
    image = _sheet(_scale(gray, min(1.0, LONGEST / max(gray.shape))))
    inverted = _is_ink_dark(image) if invert == "auto" else invert == "yes"
    fitted, several = fit(image, inverted, field)
    return Picture(pad_to(fitted[None, None], size)[0], inverted, fitted=True, several=several)


def _has_form(ink: Pixels, field: Ink) -> bool:
    """Return whether a square image of light ink is in the training format, with its size.

    In all of MNIST's 70,000 images the border is black, the center of mass within 0.52 pixels of
    (14, 14) and the ink 19 or 20 pixels long; without such a format, no image qualifies.
    """
    if not field.by_mass or not (ink > FAINTEST).any():
        return True
    if np.median(_border(ink)) > FAINTEST:
        return False
    middle = (ink.shape[0] - field.side) // 2 + field.side // 2
    for axis in (0, 1):
        mass = ink.sum(axis, dtype=np.int64)
        inside = np.flatnonzero((ink > 2 * FAINTEST).any(axis))
        is_centered = abs(mass @ np.arange(len(mass)) / mass.sum() - middle) <= 1
        if not is_centered or len(inside) == 0 or np.ptp(inside) >= field.box + 1:
            return False
    return True


def _sheet(image: Pixels) -> Pixels:
    """Return the sheet of paper with the digit, if a picture shows a frame or table around it.

    A sheet is a large even rectangle, possibly rotated, with a sharp edge and ink on it. What is
    left around it gets its color. Other pictures are returned unchanged.
    """
    cv2 = folder.open_cv()
    _, light = cv2.threshold(image, 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    for inside in (light, 255 - light):
        mask = _rectangle(inside)
        if mask is None:
            continue
        margin = max(image.shape) // 50 + 1  # the edge is blurred
        kept = cv2.erode(mask, _square(2 * margin + 1)) > 0
        step = _step(image, inside > 0, mask)
        if (
            not kept.any()
            or step < FAINTEST
            or np.ptp(cv2.blur(image, (3, 3))[kept]) < MARKED * step
        ):
            continue
        rows, columns = np.flatnonzero(kept.any(1)), np.flatnonzero(kept.any(0))
        sheet = np.where(kept, image, np.uint8(np.median(image[kept])))
        return sheet[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return image


def _rectangle(inside: Pixels) -> Pixels | None:
    """Return a mask of the largest region, with its holes; None if it is not a rectangle."""
    cv2 = folder.open_cv()
    opened = cv2.morphologyEx(inside, cv2.MORPH_OPEN, _square(max(inside.shape) // 32 | 1))
    contours, _ = cv2.findContours(opened, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    if not contours:
        return None
    hull = cv2.convexHull(max(contours, key=cv2.contourArea))
    sides = cv2.minAreaRect(hull)[1]
    if cv2.contourArea(hull) < RECTANGLE * max(sides[0] * sides[1], 1):
        return None
    mask = np.zeros_like(inside)
    cv2.fillConvexPoly(mask, hull, 255)
    return mask


def _step(image: Pixels, inside: NDArray[np.bool_], mask: Pixels) -> float:
    """Return the contrast of a rectangle in gray levels; 0 if it cannot be a sheet.

    A sheet is large and mostly without ink. With uneven lighting, the edge is not sharp.
    """
    cv2 = folder.open_cv()
    wide = _square(max(3, max(image.shape) // 25 | 1))
    around = (cv2.dilate(mask, wide) > 0) & (mask == 0)
    within = (mask > 0) & inside
    beside = (
        _border(mask) == 0
    ).mean()  # a frame, or a table at one side, but not the end of a stroke
    beside *= min(1.0, max(image.shape) / SMALL)
    if mask.mean() < SHEET * 255 or within.sum() < EMPTY * (mask > 0).sum() or beside < BESIDE:
        return 0.0
    edge = (mask > 0) & (cv2.dilate(np.where(around, np.uint8(255), np.uint8(0)), wide) > 0)
    step = abs(float(np.median(image[edge])) - float(np.median(image[around])))
    contrast = abs(float(image[inside].mean()) - float(image[~inside].mean()))
    return step if step > contrast / 2 else 0.0


def _square(side: int) -> Pixels:
    return np.ones((side, side), np.uint8)


def _is_ink_dark(image: Pixels) -> bool:
    """Return whether the darkest pixel is farther from the border's gray than the lightest is."""
    border = float(np.median(_border(image)))
    return border - float(image.min()) > float(image.max()) - border


def _scale(image: Values, factor: float) -> Values:
    cv2 = folder.open_cv()
    height, width = (max(1, round(side * factor)) for side in image.shape)
    interpolation = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, (width, height), interpolation=interpolation))


def fit(image: Pixels, inverted: bool, field: Ink) -> tuple[Pixels, bool]:
    """Crop an image to its ink, scale it to the box, and center it: (side, side).

    Also whether the ink is several digits. Raises OSError without ink.
    """
    crop, several = _crop_to_ink(image, inverted)
    ink = _scale(crop.astype(np.float64), field.box / max(crop.shape))
    full = np.percentile(ink[ink > 0], 95)  # thin strokes become faint when scaled
    ink = np.minimum(ink * (255 / full), 255)
    fitted = np.zeros((field.side, field.side), np.uint8)
    top, left = (_start(ink.sum(axis), field) for axis in (1, 0))
    height, width = ink.shape
    fitted[top : top + height, left : left + width] = np.rint(ink)
    return fitted, several


def _crop_to_ink(image: Pixels, inverted: bool) -> tuple[Pixels, bool]:
    """Return light ink on black, without background, shadows, dust and margins.

    Also whether it is several digits.
    """
    cv2 = folder.open_cv()
    window = np.ones((max(image.shape) // 2 | 1,) * 2, np.uint8)  # wider than any stroke
    operation = cv2.MORPH_BLACKHAT if inverted else cv2.MORPH_TOPHAT
    ink = cv2.morphologyEx(image, operation, window)
    strongest = float(cv2.blur(ink, (3, 3)).max())
    if strongest < FAINTEST:
        raise OSError("no ink found in it")
    mask = (ink > INK * strongest).astype(np.uint8)
    _, strokes, statistics, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    areas = statistics[1:, cv2.CC_STAT_AREA]
    large = 1 + np.flatnonzero(areas >= SPECK * areas.max())
    kept = np.isin(strokes, large).astype(np.uint8)
    soft = ink * cv2.dilate(kept, np.ones((3, 3), np.uint8))  # including the faint edges of strokes
    rows, columns = np.flatnonzero(kept.any(1)), np.flatnonzero(kept.any(0))
    crop = np.asarray(soft[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1], np.uint8)
    return crop, _is_several(kept)


def _is_several(strokes: Pixels) -> bool:
    """Return whether two components of at least half the height are apart; gaps in digits are
    small.
    """
    cv2 = folder.open_cv()
    height = int(np.ptp(np.flatnonzero(strokes.any(1)))) + 1
    near = cv2.dilate(strokes, _square(round(GAP * height) | 1))
    _, _, statistics, _ = cv2.connectedComponentsWithStats(near, connectivity=8)
    heights = statistics[1:, cv2.CC_STAT_HEIGHT]
    return bool((heights >= heights.max() / 2).sum() > 1)


def _start(mass: Values, field: Ink) -> int:
    """Return where the summed ink starts in the box, so that it is centered."""
    middle = float(mass @ np.arange(len(mass)) / mass.sum()) if field.by_mass else len(mass) / 2
    return min(max(round(field.side / 2 - middle), 0), field.side - len(mass))
