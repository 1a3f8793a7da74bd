"""Images and labels in one NumPy archive, in the layouts of Keras, of MedMNIST, or plain.

Nothing in an archive is unpickled, so a strange one cannot run code.
"""

import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinylab.config.options import dataset
from tinylab.config.values import option
from tinylab.data import content
from tinylab.data.arrays import DataAbsentError, Images, Source
from tinylab.data.listing import Listing
from tinylab.data.resize import resized, version
from tinylab.errors import UserError
from tinylab.system.paths import user_path
from tinylab.ui.console import say

# Part -> the names of its images and labels, in any case; the first layout that is there is read.
LAYOUTS = (
    {"train": ("x_train", "y_train"), "val": ("x_val", "y_val"), "test": ("x_test", "y_test")},
    {
        "train": ("train_images", "train_labels"),
        "val": ("val_images", "val_labels"),
        "test": ("test_images", "test_labels"),
    },
    {"train": ("images", "labels")},
    {"train": ("x", "y")},
)
CLASSES = "classes"  # an optional array of class names
CHANNELS = (1, 3)
Array = NDArray[Any]


@dataclass(frozen=True)
class _Part:
    """The arrays of one part as they are stored, and what they are called in messages."""

    images: Array
    labels: Array
    images_name: str
    labels_name: str


@dataset
@dataclass(frozen=True)
class Arrays:
    """Images and labels in one .npz file, as Keras or MedMNIST lay it out, or images and labels."""

    file: str | None = option(
        None,
        "the .npz file; dataset=arrays needs it",
        required="the .npz file that holds images and labels",
        is_place=True,
    )
    image_size: int | None = option(
        None,
        "height and width of the prepared images, in pixels; null: as stored",
        at_least=1,
        at_most=1024,
    )
    content: str | None = option(
        None, "a digest of the file: what the data is, wherever it lies; filled in", neutral=True
    )

    def find(self) -> Source:
        """The file. Raises DataAbsentError where it is not there."""
        file = self._place()
        preparation: dict[str, object] = {"image_size": self.image_size, "opencv": version()}
        return Source("arrays", (str(file),), preparation, lambda: read(file, self.image_size))

    def digest(self) -> str:
        """What the data is: SHA-256 over the file's content; its name and folder do not matter."""
        # The listing of a folder that is the file itself, in which it has no name of its own.
        return content.digest(Listing(self._place(), ("",), np.zeros(1, np.int64), ("",)))

    def _place(self) -> Path:
        assert self.file is not None
        file = user_path(self.file).absolute()
        if not file.is_file():
            raise DataAbsentError(
                f"dataset.file={self.file}: no such file; expected a NumPy archive, as np.savez "
                "writes it"
            )
        return file


def read(file: Path, image_size: int | None) -> Images:
    """All images as uint8 (N, C, S, S), C 1 or 3; official validation and test images last.

    Raises UserError for an archive without images and labels in one of the ``LAYOUTS``, or with
    arrays that no network here can be trained on.
    """
    with _opened(file) as archive:
        names = _layout(file, archive.files)
        parts = {
            part: _Part(_array(file, archive, x), _array(file, archive, y), f"{file}: {x}", y)
            for part, (x, y) in names.items()
        }
        named = _array(file, archive, CLASSES) if CLASSES in archive.files else None
    for each in parts.values():
        _refuse_other_count(each)
    images = _alike(parts, image_size)
    labels, classes = _classes(file, [_labels(each) for each in parts.values()], named)
    counts = {part: len(each.images) for part, each in parts.items()}
    return Images(
        images, labels, classes, counts.get("test", 0), num_official_val=counts.get("val", 0)
    )


@contextmanager
def _opened(file: Path) -> Iterator[Any]:
    """The archive. Raises UserError for a file that is none, or is damaged."""
    expected = "expected an archive of arrays, as np.savez(FILE, images=..., labels=...) writes it"
    try:
        with file.open("rb") as stream:
            if stream.read(2) != b"PK":  # of zip; NumPy would take any other file for a pickled one
                raise UserError(f"{file}: no .npz file\n  {expected}")
            stream.seek(0)
            with np.load(stream, allow_pickle=False) as archive:
                yield archive
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise UserError(f"{file}: a damaged .npz file: {error}\n  {expected}") from error


def _layout(file: Path, names: list[str]) -> dict[str, tuple[str, str]]:
    """Part -> the names of its images and labels, as the archive spells them."""
    spelt = {name.lower(): name for name in names}
    for layout in LAYOUTS:
        known = {part: [*map(spelt.get, pair)] for part, pair in layout.items()}
        if not any(known["train"]):
            continue
        halves = [pair for part, pair in layout.items() if any(known[part]) - all(known[part])]
        if halves:
            raise UserError(
                f"{file}: has only one of {' and '.join(halves[0])}; expected both\n"
                "  add the other, or leave both out"
            )
        return {part: (str(x), str(y)) for part, (x, y) in known.items() if x and y}
    pairs = [" and ".join(layout["train"]) for layout in LAYOUTS]
    raise UserError(
        f"{file}: holds {', '.join(names) or 'nothing'}\n  expected {', or '.join(pairs)}"
    )


def _array(file: Path, archive: Any, name: str) -> Array:
    try:
        return np.asarray(archive[name])
    except ValueError as error:  # what NumPy raises for objects, and for a damaged header
        raise UserError(
            f"{file}: {name} cannot be read: {error}\n"
            "  Python objects are not unpickled, since that could run code: store numbers or texts "
            "(labels.astype(str))"
        ) from error


def _refuse_other_count(part: _Part) -> None:
    if part.images.shape[:1] != part.labels.shape[:1] or part.images.size == 0:
        raise UserError(
            f"{part.images_name} has the shape {part.images.shape}, {part.labels_name} "
            f"{part.labels.shape}; expected as many labels as images, and one at least"
        )


# ---------------------------------------------------------------- images


def _alike(parts: dict[str, _Part], image_size: int | None) -> NDArray[np.uint8]:
    """The images of all parts, one after another: uint8 (N, C, S, S)."""
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
            "  expected the same channels in all, and the same size, or dataset.image_size=SIZE"
        )
    return np.concatenate(images)


def _factor(parts: list[_Part]) -> np.float32 | None:
    """What real numbers are multiplied by, so that they are 0 to 255; None for whole numbers.

    It is one for all parts. Raises UserError for values that are neither 0 to 1 nor 0 to 255.
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
    if not (low >= 0 and high <= 255):  # not a number compares false
        raise UserError(
            f"{name}: values from {low:g} to {high:g}; expected 0 to 255, or 0 to 1\n"
            "  store the pixels before they are standardized; dataset.normalize=standard does that"
        )
    if kinds == {"u"}:
        return None
    say(f"{name}: real numbers from {low:g} to {high:g}, taken for 0 to {1 if high <= 1 else 255}")
    return np.float32(255 if high <= 1 else 1)


def _channels_first(part: _Part) -> Array:
    """(N, H, W), (N, H, W, C) or (N, C, H, W) -> (N, C, H, W)."""
    images = part.images
    if images.ndim == 3:
        return images[:, None]
    first, last = (images.ndim == 4 and images.shape[axis] in CHANNELS for axis in (1, -1))
    if first == last:
        fault = "channels that may be first or last" if first else "no 1 or 3 channels"
        raise UserError(
            f"{part.images_name}: shape {images.shape}, {fault}; expected (N, H, W), (N, H, W, C) "
            "or (N, C, H, W) with C 1 or 3"
        )
    return images if first else images.transpose(0, 3, 1, 2)


def _square(part: _Part, images: NDArray[np.uint8], size: int | None) -> NDArray[np.uint8]:
    """Images (N, C, H, W) of the size asked for. Raises UserError for other than square ones.

    They are not padded: what is round the pixels would be a guess, and with a size given they are
    treated as image files are.
    """
    N, C, H, W = images.shape
    if size is None and H != W:
        raise UserError(
            f"{part.images_name}: images of {H}x{W}; expected square ones\n"
            f"  dataset.image_size={max(H, W)} resizes them, or pad them before they are stored"
        )
    if size is None or H == W == size:
        return images
    room = np.empty((N, C, size, size), np.uint8)
    for image, place in zip(images.transpose(0, 2, 3, 1), room, strict=True):
        place[:] = resized(image, size).reshape(size, size, C).transpose(2, 0, 1)
    return room


# ---------------------------------------------------------------- labels


def _labels(part: _Part) -> Array:
    """Labels (N,) or (N, 1) as whole numbers or texts (N,). Raises UserError for any other."""
    labels = part.labels
    name = part.images_name.rpartition(": ")[0] + f": {part.labels_name}"
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1:
        raise UserError(
            f"{name}: shape {labels.shape}; expected one label an image, (N,) or (N, 1)\n"
            "  several labels an image cannot be learnt here; if each row has a single 1, store "
            "labels.argmax(axis=1)"
        )
    kind = labels.dtype.kind
    if (kind == "f" and (labels == np.rint(labels)).all()) or kind == "b":
        return labels.astype(np.int64)
    if kind == "S":
        return np.char.decode(labels, "utf-8", "backslashreplace")
    if kind not in "iuU":
        raise UserError(
            f"{name}: values of type {labels.dtype}; expected whole numbers or texts, a class each"
        )
    return labels


def _classes(
    file: Path, parts: list[Array], named: Array | None
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Indices into the class names, int64 (N,), and these: the archive's own, or the labels."""
    if len({each.dtype.kind == "U" for each in parts}) > 1:
        raise UserError(f"{file}: labels are texts in one part and numbers in another")
    labels = np.concatenate(parts)
    values, indices = np.unique(labels, return_inverse=True)
    names = tuple(map(str, values.tolist()))
    if named is not None:
        indices, names = _by_name(file, labels, values, named)
    if len(names) < 2:
        raise UserError(f"{file}: all labels are {names[0]}; expected at least two classes")
    return indices.astype(np.int64), names


def _by_name(
    file: Path, labels: Array, values: Array, named: Array
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Labels as indices into an archive's ``classes``: texts by name, numbers by place.

    Numbers that do not start at 0 are taken in their order, where there are as many as names.
    """
    names = tuple(str(name) for name in named.ravel().tolist())
    if named.dtype.kind != "U" or named.ndim != 1 or len({*names}) < len(names):
        raise UserError(f"{file}: {CLASSES}: expected one array of texts, each another name")
    known = np.array(names) if labels.dtype.kind == "U" else np.arange(len(names))
    if not np.isin(values, known).all():
        if labels.dtype.kind == "U" or len(values) != len(names):
            raise UserError(
                f"{file}: labels from {values[0]} to {values[-1]} for {len(names)} {CLASSES} "
                f"({names[0]} to {names[-1]}); expected 0 to {len(names) - 1}, or the names"
            )
        known = values
    place = {value: index for index, value in enumerate(known.tolist())}
    return np.array([place[label] for label in labels.tolist()], np.int64), names
