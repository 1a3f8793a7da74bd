"""Labeled images in memory, part by part: checked, and converted to the common format."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinylab.data.arrays import Dataset
from tinylab.data.resize import resized
from tinylab.errors import UserError
from tinylab.ui.console import say

CHANNELS = (1, 3)
Array = NDArray[Any]


@dataclass(frozen=True)
class Part:
    """The arrays of one part as given, and their names in messages."""

    images: Array
    labels: Array
    images_name: str
    labels_name: str


def joined(
    where: str, parts: dict[str, Part], image_size: int | None, named: Array | None
) -> Dataset:
    """Return all images as uint8 (N, C, S, S), C 1 or 3; official validation and test images last.

    parts: in the order train, val, test. named: the class names, if given. ``where`` starts the
    messages. Raises UserError for arrays that cannot be trained on.
    """
    for each in parts.values():
        _refuse_other_count(each)
    images = _alike(parts, image_size)
    labels, classes = _classes(where, [_labels(each) for each in parts.values()], named)
    counts = {part: len(each.images) for part, each in parts.items()}
    return Dataset(
        images, labels, classes, counts.get("test", 0), num_official_val=counts.get("val", 0)
    )


def _refuse_other_count(part: Part) -> None:
    if part.images.shape[:1] != part.labels.shape[:1] or part.images.size == 0:
        raise UserError(
            f"{part.images_name} has the shape {part.images.shape}, {part.labels_name} "
            f"{part.labels.shape}; expected as many labels as images, and at least one"
        )


# ---------------------------------------------------------------- images


def resized_each(name: str, images: Sequence[Array], size: int) -> NDArray[np.uint8]:
    """Resize images, each uint8 (H, W), (H, W, C) or (C, H, W), to (N, C, size, size).

    Raises UserError for other types, or different numbers of channels.
    """
    dtypes = {str(image.dtype) for image in images}
    if dtypes != {"uint8"}:
        raise UserError(
            f"{name}: images of different sizes and of type {', '.join(sorted(dtypes))}; expected "
            "uint8, or one size"
        )
    parts = [Part(image[None], np.zeros(1, np.int64), name, "") for image in images]
    squares = [_square(part, _channels_first(part), size)[0] for part in parts]
    if len({len(image) for image in squares}) > 1:
        raise UserError(f"{name}: both gray and color images; expected only one kind")
    return np.stack(squares)


def _alike(parts: dict[str, Part], image_size: int | None) -> NDArray[np.uint8]:
    """Return the images of all parts, concatenated: uint8 (N, C, S, S)."""
    factor = _factor([*parts.values()])
    images = []
    for part in parts.values():
        pixels = _channels_first(part)
        if factor is not None:
            pixels = np.rint(pixels.astype(np.float32) * factor)
        images.append(_square(part, pixels.astype(np.uint8), image_size))
    shapes = {each.shape[1:] for each in images}
    if len(shapes) > 1:
        shown = ", ".join("x".join(map(str, shape)) for shape in sorted(shapes))
        raise UserError(
            f"{next(iter(parts.values())).images_name}: the parts differ in shape: {shown}\n"
            "  expected the same number of channels, and the same size or dataset.image_size=SIZE"
        )
    return np.concatenate(images)


def _factor(parts: list[Part]) -> np.float32 | None:
    """Return the factor that scales floats to 0 to 255; None for integers.

    It is the same for all parts. Raises UserError for values that are neither 0 to 1 nor 0 to 255.
    """
    name = parts[0].images_name
    kinds = {part.images.dtype.kind.replace("i", "u") for part in parts}
    if len(kinds) > 1 or not kinds <= {"u", "f", "b"}:
        dtypes = ", ".join(sorted({str(part.images.dtype) for part in parts}))
        raise UserError(f"{name}: values of type {dtypes}; expected uint8, or float in all parts")
    if kinds == {"b"}:
        return np.float32(255)
    if all(part.images.dtype == np.uint8 for part in parts):
        return None
    low = min(float(part.images.min()) for part in parts)
    high = max(float(part.images.max()) for part in parts)
    if not (low >= 0 and high <= 255):  # NaN compares false
        raise UserError(
            f"{name}: values from {low:g} to {high:g}; expected 0 to 255, or 0 to 1\n"
            "  pass the pixels before standardization; dataset.normalize=standard standardizes them"
        )
    if kinds == {"u"}:
        return None
    say(f"{name}: floats from {low:g} to {high:g}, interpreted as 0 to {1 if high <= 1 else 255}")
    return np.float32(255 if high <= 1 else 1)


def _channels_first(part: Part) -> Array:
    """(N, H, W), (N, H, W, C) or (N, C, H, W) -> (N, C, H, W)."""
    images = part.images
    if images.ndim == 3:
        return images[:, None]
    first, last = (images.ndim == 4 and images.shape[axis] in CHANNELS for axis in (1, -1))
    if first == last:
        fault = "channels either first or last" if first else "not 1 or 3 channels"
        raise UserError(
            f"{part.images_name}: shape {images.shape}, {fault}; expected (N, H, W), (N, H, W, C) "
            "or (N, C, H, W) with C 1 or 3"
        )
    return images if first else images.transpose(0, 3, 1, 2)


def _square(part: Part, images: NDArray[np.uint8], size: int | None) -> NDArray[np.uint8]:
    """Resize images (N, C, H, W) if requested. Raises UserError if they are not square.

    They are not padded: padding values would be a guess, and with a size given they are treated
    like image files.
    """
    N, C, H, W = images.shape
    if size is None and H != W:
        raise UserError(
            f"{part.images_name}: images of {H}x{W}; expected square images\n"
            f"  dataset.image_size={max(H, W)} resizes them, or pad them yourself"
        )
    if size is None or H == W == size:
        return images
    room = np.empty((N, C, size, size), np.uint8)
    for image, target in zip(images.transpose(0, 2, 3, 1), room, strict=True):
        target[:] = resized(image, size).reshape(size, size, C).transpose(2, 0, 1)
    return room


# ---------------------------------------------------------------- labels


def _labels(part: Part) -> Array:
    """Return labels (N,) or (N, 1) as integers or strings (N,). Raises UserError for others."""
    labels = part.labels
    name = part.images_name.rpartition(": ")[0] + f": {part.labels_name}"
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1:
        raise UserError(
            f"{name}: shape {labels.shape}; expected one label per image, (N,) or (N, 1)\n"
            "  multi-label data is not supported; if each row has a single 1, pass "
            "labels.argmax(axis=1)"
        )
    kind = labels.dtype.kind
    if (kind == "f" and (labels == np.rint(labels)).all()) or kind == "b":
        return labels.astype(np.int64)
    if kind == "S":
        return np.char.decode(labels, "utf-8", "backslashreplace")
    if kind not in "iuU":
        raise UserError(
            f"{name}: values of type {labels.dtype}; expected integers or strings, one class per "
            "value"
        )
    return labels


def _classes(
    where: str, parts: list[Array], named: Array | None
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Return indices into the class names, int64 (N,), and the names: given, or the labels."""
    if len({each.dtype.kind == "U" for each in parts}) > 1:
        raise UserError(f"{where}: labels are strings in one part and numbers in another")
    labels = np.concatenate(parts)
    values, indices = np.unique(labels, return_inverse=True)
    names = tuple(map(str, values.tolist()))
    if named is not None:
        indices, names = _by_name(where, labels, values, named)
    if len(names) < 2:
        raise UserError(f"{where}: all labels are {names[0]}; expected at least two classes")
    return indices.astype(np.int64), names


def _by_name(
    where: str, labels: Array, values: Array, named: Array
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Return labels as indices into ``named``: strings by name, integers by position.

    Integers that do not start at 0 are mapped in order, if there are as many as names.
    """
    names = tuple(str(name) for name in named.ravel().tolist())
    if named.dtype.kind != "U" or named.ndim != 1 or len({*names}) < len(names):
        raise UserError(f"{where}: classes: expected one array of distinct strings")
    known = np.array(names) if labels.dtype.kind == "U" else np.arange(len(names))
    if not np.isin(values, known).all():
        if labels.dtype.kind == "U" or len(values) != len(names):
            raise UserError(
                f"{where}: labels from {values[0]} to {values[-1]} for {len(names)} classes "
                f"({names[0]} to {names[-1]}); expected 0 to {len(names) - 1}, or the names"
            )
        known = values
    index_of = {value: index for index, value in enumerate(known.tolist())}
    return np.array([index_of[label] for label in labels.tolist()], np.int64), names
