"""The user's own dataset: called when its images are needed, and checked.

Its images are not cached on disk. The files it reads are unknown, so only another call can tell
whether they have changed.
"""

import contextlib
import random
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinylab.config import options
from tinylab.config.base_records import DatasetConfig
from tinylab.config.user_code import message_of, mistakes_reported
from tinylab.data.arrays import DataAbsentError, Dataset, Source
from tinylab.data.parts import Array, Part, joined, resized_each
from tinylab.errors import UserError
from tinylab.ui.console import track

PARTS = ("train", "val", "test")  # in the order of the images
VOWELS = (*"aeiouAEIOU", "ndarray")
EXPECTED = (
    "expected (images, labels), a dataset with len() and [], or a dict of these: train, val, test"
)


@dataclass(frozen=True)
class Own:
    """The dataset selected by a record."""

    config: DatasetConfig

    def find(self) -> Source:
        """Return the user's file as the source of whatever it reads."""
        file = str(options.of(self.config).file)
        return Source(self.config.name, (file,), {}, self.read, is_kept=False)

    def read(self) -> Dataset:
        """Read all images as uint8 (N, C, S, S), C 1 or 3; official validation and test images
        last.

        Raises UserError for invalid images and labels, and with the traceback of the user's file if
        it raises; DataAbsentError for FileNotFoundError.
        """
        option, said = options.of(self.config), f"dataset={self.config.name}"
        option.load()
        try:
            with _seeded(), mistakes_reported(said):
                given = option.make(self.config)
                values = given if isinstance(given, dict) else {"train": given}
                _refuse_other_names(said, values)
                size = self.config.image_size
                there = [name for name in PARTS if name == "train" or values.get(name) is not None]
                parts = {name: _part(said, name, values[name], size) for name in there}
        except UserError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                raise DataAbsentError(str(error)) from error
            raise
        named = values.get("classes", getattr(values["train"], "classes", None))
        classes = None if named is None else np.array([str(each) for each in named], str)
        for part in parts.values():
            _refuse_out_of_range(part, classes)
        return joined(said, parts, size, classes)


@contextlib.contextmanager
def _seeded() -> Iterator[None]:
    """Seed the global generators with 0 in the block, so that each call sees the same numbers."""
    torch: Any = sys.modules.get("torch")
    before = random.getstate(), np.random.get_state(), torch and torch.get_rng_state()
    random.seed(0)
    np.random.seed(0)
    if torch:
        torch.manual_seed(0)
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
        if torch:
            torch.set_rng_state(before[2])


def _refuse_other_names(said: str, values: dict[Any, Any]) -> None:
    strange = [str(name) for name in values if name not in (*PARTS, "classes")]
    if strange or "train" not in values:
        raise UserError(
            f"{said}: gave a dict with {', '.join(map(str, values)) or 'nothing'}\n"
            "  expected train, and optionally val, test and classes"
        )


def _part(said: str, name: str, value: Any, size: int | None) -> Part:
    images_name, labels_name = f"{said}: {name} images", f"{name} labels"
    if isinstance(value, tuple) and len(value) == 2:
        images, labels = value
    elif isinstance(value, np.ndarray | str | tuple | dict) or _is_tensor(value):
        raise UserError(f"{said}: {name} is {_kind(value)}\n  {EXPECTED}")
    elif hasattr(value, "__len__") and hasattr(value, "__getitem__"):
        images, labels = _items(f"{said}: {name}", value)
    else:
        raise UserError(
            f"{said}: {name} is {_kind(value)}\n  "
            + (
                "expected the dataset that it loads (loader.dataset), without shuffling and random "
                "transforms; train.batch_size makes the batches"
                if type(value).__name__ == "DataLoader"
                else EXPECTED
            )
        )
    try:
        numbers = _array(labels)
    except ValueError as error:  # lists of different lengths
        raise UserError(f"{said}: {labels_name}: {error}; expected one for each image") from error
    pixels = _images(images_name, images, size)
    return Part(pixels, numbers, images_name, labels_name)


def _items(where: str, value: Any) -> tuple[list[Any], list[Any]]:
    """Read images and labels of an object one by one."""
    images, labels = [], []
    for index in track(range(len(value)), f"reading {where.rpartition(' ')[2]} images", len(value)):
        try:
            item = value[index]
        except Exception as error:
            if message_of(error) is not None:
                raise
            words = f"{type(error).__name__}: {error}".partition("\n")[0]
            raise UserError(f"{where}: item {index} cannot be read: {words}") from error
        if not isinstance(item, tuple | list) or len(item) != 2:
            raise UserError(f"{where}: item {index} is {_kind(item)}\n  expected (image, label)")
        images.append(item[0])
        labels.append(_array(item[1]))
    return images, labels


def _images(name: str, images: Any, size: int | None) -> Array:
    """Convert an array of images, or a list of PIL images, arrays or tensors."""
    if not isinstance(images, list | tuple):
        return _array(images)
    pixels = [_pixels(image) for image in images]
    shapes = {each.shape for each in pixels}
    if len(shapes) < 2:
        return np.stack(pixels) if pixels else np.zeros(0)
    if size is None:
        sizes = sorted("x".join(map(str, shape)) for shape in shapes)
        more = ", ..." if len(sizes) > 3 else ""
        raise UserError(
            f"{name}: different sizes: {', '.join(sizes[:3])}{more}\n  expected one size, or "
            "dataset.image_size=SIZE to resize them all"
        )
    return resized_each(name, pixels, size)


def _pixels(image: Any) -> Array:
    """Convert one image; palettes and transparency of PIL images become colors."""
    mode = getattr(image, "mode", "")
    if mode in ("1", "P", "PA", "LA", "RGBA", "CMYK", "YCbCr", "LAB", "HSV"):
        image = image.convert("L" if mode in ("1", "LA") else "RGB")
    return _array(image)


def _array(value: Any) -> Array:
    return np.asarray(value.detach().cpu() if _is_tensor(value) else value)


def _is_tensor(value: Any) -> bool:
    return hasattr(value, "detach")


def _kind(value: Any) -> str:
    if value is None:
        return "None"
    shape, name = getattr(value, "shape", None), type(value).__name__
    size = f" of {'x'.join(map(str, shape))}" if isinstance(shape, tuple) and shape else ""
    return f"a{'n' * name.startswith(VOWELS)} {name}{size}"


def _refuse_out_of_range(part: Part, classes: Array | None) -> None:
    """Raise UserError for numbers that are not indices into the class names."""
    labels = part.labels
    if labels.dtype.kind not in "iuf" or labels.size == 0:
        return
    low, high = labels.min(), labels.max()
    if low < 0 or (classes is not None and high >= len(classes)):
        few = "" if classes is None else f" for {len(classes)} classes"
        limit = "0 or more" if classes is None else f"0 to {len(classes) - 1}"
        where = part.images_name.rpartition(": ")[0]
        raise UserError(
            f"{where}: {part.labels_name} from {low:g} to {high:g}{few}\n  expected {limit}: each "
            "label is the index of its class"
        )
