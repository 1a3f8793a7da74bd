"""Image files in class folders, read with OpenCV, in parallel."""

import importlib.metadata
import math
import os
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinylab.config import FolderConfig
from tinylab.console import say, track
from tinylab.data.arrays import DataAbsentError, Images, Source
from tinylab.data.places import user_path
from tinylab.errors import UserError

SUFFIXES = (
    ".jpg", ".jpeg", ".jpe", ".png", ".bmp", ".dib", ".webp", ".tif", ".tiff",
    ".pgm", ".ppm", ".pbm", ".pnm", ".jp2", ".gif", ".avif",
)  # fmt: skip
MAX_PIXELS = 2**28  # of one file; more is taken for a decompression bomb


def find(config: FolderConfig) -> Source:
    """The image files under ``dataset.root``. Raises UserError for a folder without classes."""
    assert config.root is not None
    return find_in(user_path(config.root), config)


def find_in(root: Path, config: FolderConfig) -> Source:
    """The image files of ``root/<class>/*``, or of ``root/train`` and ``root/test``.

    Classes and files are in natural order: ``2`` before ``10``. Only file names are read here.
    Raises DataAbsentError where there is no such folder, UserError for a folder without classes, a
    class without images, or classes that differ between ``train`` and ``test``.
    """
    if not root.is_dir():
        raise DataAbsentError(
            f"dataset.root={root}: no such folder; expected one with a folder a class in it"
        )
    if (root / "train").is_dir() and (root / "test").is_dir():
        parts = [_class_files(root / "train"), _class_files(root / "test")]
        _refuse_other_classes(root, set(parts[0]), set(parts[1]))
        others = [name for name in _folders(root) if name not in ("train", "test")]
        if others:
            say(f"{root}: only train/ and test/ are read, not {_first(others)}")
    else:
        parts = [_class_files(root)]
    classes = tuple(parts[0])
    labelled = [
        [(file, label) for label, name in enumerate(classes) for file in part[name]]
        for part in parts
    ]
    files = tuple(file for part in labelled for file, _ in part)
    labels = np.array([label for part in labelled for _, label in part], dtype=np.int64)
    num_test = len(labelled[1]) if len(labelled) == 2 else 0
    preparation: dict[str, object] = {
        "image_size": config.image_size,
        "interpolation": config.interpolation,
        "grayscale": config.grayscale,
        "skip_bad": config.skip_bad,
        "opencv": importlib.metadata.version("opencv-python-headless"),
    }
    read_now = partial(read, files, labels, classes, num_test, config)
    return Source(config.name, files, preparation, read_now)


def natural_key(name: str) -> tuple[list[tuple[int, int | str]], str]:
    """Sort key under which numbers inside names count as numbers; ``1`` and ``01`` differ still."""
    parts = re.split(r"(\d+)", name)
    return [(0, int(part)) if part.isdecimal() else (1, part) for part in parts if part], name


def _folders(root: Path) -> list[str]:
    """The names of the folders in ``root``, in natural order. Hidden ones are passed over."""
    names = [name for name in os.listdir(root) if not name.startswith(".")]
    return sorted((name for name in names if os.path.isdir(root / name)), key=natural_key)


def _image_files(folder: Path) -> list[Path]:
    """The image files in ``folder``, in natural order. Hidden ones are passed over.

    A link that leads nowhere is among them: it is an image that cannot be read.
    """
    with os.scandir(folder) as entries:
        names = [
            entry.name
            for entry in entries
            if entry.name.lower().endswith(SUFFIXES)
            and not entry.name.startswith(".")
            and (
                entry.is_file(follow_symlinks=False)
                or (entry.is_symlink() and not os.path.isdir(entry.path))
            )
        ]
    return [folder / name for name in sorted(names, key=natural_key)]


def _class_files(root: Path) -> dict[str, list[Path]]:
    """Class name -> its image files."""
    classes = {name: _image_files(root / name) for name in _folders(root)}
    if len(classes) < 2:
        found_text = f"only {next(iter(classes))}/" if classes else "no folder"
        raise UserError(
            f"{root}: found {found_text}; expected at least two class folders with images inside"
        )
    for name, files in classes.items():
        if not files:
            raise UserError(
                f"{root / name}: a class folder without an image ({', '.join(SUFFIXES[:4])}, ...)\n"
                "  add images or remove the folder; a given split is read from train/ and test/"
            )
    return classes


def _refuse_other_classes(root: Path, train: set[str], test: set[str]) -> None:
    if train != test:
        only = {"train": train - test, "test": test - train}
        odd = [f"only in {part}/: {_first(sorted(odd))}" for part, odd in only.items() if odd]
        raise UserError(f"{root}: train/ and test/ must have the same classes; {'; '.join(odd)}")


def _first(items: Sequence[object]) -> str:
    """The first few of ``items``, for a message."""
    return ", ".join(map(str, items[:5])) + (", ..." if len(items) > 5 else "")


def read(
    files: tuple[Path, ...],
    labels: NDArray[np.int64],
    classes: tuple[str, ...],
    num_test: int,
    config: FolderConfig,
) -> Images:
    """Decode and resize all files: uint8 (N, C, H, W), C 1 or 3 (red, green, blue).

    A photograph is turned upright by its EXIF data; 16 bits a channel become 8, and transparency
    is dropped. Raises UserError that names the first unreadable file, unless ``skip_bad``; and in
    any case where a class is left without a training image, or the memory does not suffice.
    """
    decode = decoder(config)
    images = _room_for(len(files), config)
    faults: dict[int, str] = {}

    def fill(index: int) -> None:
        try:
            images[index] = decode(files[index])
        except OSError as error:
            faults[index] = error.strerror or str(error)

    pool = ThreadPoolExecutor(os.cpu_count())
    try:
        for _ in track(pool.map(fill, range(len(files))), "decoding images", len(files)):
            pass
    finally:
        pool.shutdown(cancel_futures=True)  # an interrupt waits for nothing that has not begun
    if not faults:
        return Images(images, labels, classes, num_test)
    bad = sorted(faults)
    if not config.skip_bad:
        more = f" (and {len(bad) - 1:,} more)" if len(bad) > 1 else ""
        raise UserError(
            f"{files[bad[0]]}{more}: cannot be read as an image: {faults[bad[0]]}\n"
            "  mend or remove it, or leave such files out with dataset.skip_bad=true"
        )
    say(f"left out {len(bad):,} unreadable files: {_first([files[index] for index in bad])}")
    good = np.setdiff1d(np.arange(len(files)), bad)
    num_test = int((good >= len(files) - num_test).sum())
    _refuse_lost_class(labels[good][: len(good) - num_test], classes)
    return Images(images[good], labels[good], classes, num_test)


def _room_for(count: int, config: FolderConfig) -> NDArray[np.uint8]:
    shape = (count, 1 if config.grayscale else 3, config.image_size, config.image_size)
    try:
        return np.empty(shape, np.uint8)
    except MemoryError as error:
        raise UserError(
            f"dataset.image_size={config.image_size}: {count:,} such images are "
            f"{math.prod(shape) / 1e9:,.0f} GB, more than the memory\n"
            "  choose a smaller size, or dataset.grayscale=true"
        ) from error


def _refuse_lost_class(train_labels: NDArray[np.int64], classes: tuple[str, ...]) -> None:
    for label, count in enumerate(np.bincount(train_labels, minlength=len(classes))):
        if count == 0:
            raise UserError(
                f"class {classes[label]}: none of its training images can be read\n"
                "  mend them, or remove the folder"
            )


def decoder(config: FolderConfig) -> Callable[[Path], NDArray[np.uint8]]:
    """A function from a file to uint8 (C, H, W); it raises OSError where it is no such image."""
    cv2 = open_cv()
    interpolation = {
        "nearest": cv2.INTER_NEAREST,
        "linear": cv2.INTER_LINEAR,
        "area": cv2.INTER_AREA,
        "cubic": cv2.INTER_CUBIC,
        "lanczos": cv2.INTER_LANCZOS4,
    }[config.interpolation]
    flag = cv2.IMREAD_GRAYSCALE if config.grayscale else cv2.IMREAD_COLOR_RGB
    size = (config.image_size, config.image_size)

    def decode(file: Path) -> NDArray[np.uint8]:
        image = decode_bytes(read_bytes(file), flag)
        resized = np.asarray(cv2.resize(image, size, interpolation=interpolation), np.uint8)
        return resized[None] if resized.ndim == 2 else resized.transpose(2, 0, 1)

    return decode


@cache
def open_cv() -> Any:
    """OpenCV, set up for many small images; ``Any``, because it types few of its functions."""
    os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(MAX_PIXELS))  # read at import
    import cv2

    cv2.setNumThreads(1)  # one image is small: the threads of the pool are the parallelism
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # we report faults, once
    return cv2


def read_bytes(file: Path) -> NDArray[np.uint8]:
    """The bytes of an image file. Raises OSError where there are none.

    Read by numpy, because OpenCV cannot open every file name on every system.
    """
    data = np.fromfile(file, np.uint8)
    if len(data) == 0:
        raise OSError("the file is empty")
    return data


def decode_bytes(data: NDArray[np.uint8], flag: int) -> NDArray[Any]:
    """The pixels that ``flag`` asks OpenCV for. Raises OSError where ``data`` is no image."""
    cv2 = open_cv()
    try:
        image: NDArray[Any] | None = cv2.imdecode(data, flag)
    except cv2.error as error:
        too_large = "MAX_IMAGE_PIXELS" in str(error)
        raise OSError("too many pixels" if too_large else "damaged") from error
    if image is None:
        raise OSError("damaged, or of a kind that OpenCV does not know")
    return image
