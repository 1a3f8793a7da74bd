"""Images and labels in a NumPy archive, in the layout of Keras, of MedMNIST, or plain.

Nothing in an archive is unpickled, so it cannot run code.
"""

import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tinylab.config.decorators import dataset
from tinylab.config.values import option
from tinylab.data import content
from tinylab.data.arrays import DataAbsentError, Dataset, Source
from tinylab.data.listing import Listing
from tinylab.data.parts import Array, Part, joined
from tinylab.data.resize import version
from tinylab.errors import UserError
from tinylab.system.paths import user_path

# Part -> the names of its images and labels, in any case; the first matching layout is used.
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


@dataset
@dataclass(frozen=True)
class Arrays:
    """Images and labels in an .npz file, in the layout of Keras or MedMNIST, or plain."""

    file: str | None = option(
        None,
        "the .npz file (required)",
        required="the .npz file with images and labels",
        is_place=True,
    )
    image_size: int | None = option(
        None,
        "height and width of the prepared images, in pixels; null: as stored",
        at_least=1,
        at_most=1024,
    )
    content: str | None = option(None, "digest of the file's contents; filled in", neutral=True)

    def find(self) -> Source:
        """Return the file. Raises DataAbsentError if it does not exist."""
        file = self._path()
        preparation: dict[str, object] = {"image_size": self.image_size, "opencv": version()}
        return Source("arrays", (str(file),), preparation, lambda: read(file, self.image_size))

    def digest(self) -> str:
        """Return the data's identity: SHA-256 over the file's content; name and folder do not
        matter.
        """
        # The listing of a folder that is the file itself, without a name.
        return content.digest(Listing(self._path(), ("",), np.zeros(1, np.int64), ("",)))

    def _path(self) -> Path:
        assert self.file is not None
        file = user_path(self.file).absolute()
        if not file.is_file():
            raise DataAbsentError(
                f"dataset.file={self.file}: no such file; expected a NumPy archive "
                "written by np.savez"
            )
        return file


def read(file: Path, image_size: int | None) -> Dataset:
    """Read all images as uint8 (N, C, S, S), C 1 or 3; official validation and test images last.

    Raises UserError for an archive without images and labels in one of the ``LAYOUTS``, or with
    arrays that cannot be trained on.
    """
    with _opened(file) as archive:
        names = _layout(file, archive.files)
        parts = {
            part: Part(_array(file, archive, x), _array(file, archive, y), f"{file}: {x}", y)
            for part, (x, y) in names.items()
        }
        named = _array(file, archive, CLASSES) if CLASSES in archive.files else None
    return joined(str(file), parts, image_size, named)


@contextmanager
def _opened(file: Path) -> Iterator[Any]:
    """Open the archive. Raises UserError if it is not one, or damaged."""
    expected = "expected an archive of arrays, as np.savez(FILE, images=..., labels=...) writes it"
    try:
        with file.open("rb") as stream:
            if stream.read(2) != b"PK":  # of zip; NumPy would treat any other file as a pickle
                raise UserError(f"{file}: not an .npz file\n  {expected}")
            stream.seek(0)
            with np.load(stream, allow_pickle=False) as archive:
                yield archive
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise UserError(f"{file}: a damaged .npz file: {error}\n  {expected}") from error


def _layout(file: Path, names: list[str]) -> dict[str, tuple[str, str]]:
    """Return part -> the names of its images and labels, as spelled in the archive."""
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
    except ValueError as error:  # raised by NumPy for objects, and for a damaged header
        raise UserError(
            f"{file}: {name} cannot be read: {error}\n"
            "  Python objects are not unpickled, since that could run code: store numbers or "
            "strings (labels.astype(str))"
        ) from error
