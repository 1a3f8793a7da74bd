"""Image files in class folders, read with OpenCV, in parallel."""

import importlib.metadata
import os
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tinylab.config import FolderConfig
from tinylab.console import say, track
from tinylab.data.arrays import DataAbsentError, Images, Source
from tinylab.errors import UserError

SUFFIXES = (
    ".jpg", ".jpeg", ".jpe", ".png", ".bmp", ".dib", ".webp", ".tif", ".tiff",
    ".pgm", ".ppm", ".pbm", ".pnm", ".jp2",
)  # fmt: skip


def find(config: FolderConfig) -> Source:
    """The image files under ``dataset.root``. Raises UserError for a folder without classes."""
    assert config.root is not None
    return find_in(Path(config.root).expanduser(), config)


def find_in(root: Path, config: FolderConfig) -> Source:
    """The image files of ``root/<class>/*``, or of ``root/train`` and ``root/test``.

    Classes and files are in natural order: ``2`` before ``10``. Only file names are read here.
    """
    if not root.is_dir():
        raise DataAbsentError(
            f"dataset.root={root}: no such folder; expected one with a folder a class in it"
        )
    if (root / "train").is_dir() and (root / "test").is_dir():
        parts = [_class_files(root / "train"), _class_files(root / "test")]
        _refuse_other_classes(root, list(parts[0]), list(parts[1]))
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


def natural_key(name: str) -> list[tuple[int, int | str]]:
    """Sort key under which numbers inside names count as numbers."""
    parts = re.split(r"(\d+)", name)
    return [(0, int(part)) if part.isdecimal() else (1, part) for part in parts if part]


def _class_files(root: Path) -> dict[str, list[Path]]:
    """Class name -> its image files. Hidden folders are passed over."""
    with os.scandir(root) as entries:
        names = [e.name for e in entries if e.is_dir() and not e.name.startswith(".")]
    classes: dict[str, list[Path]] = {}
    for name in sorted(names, key=natural_key):
        with os.scandir(root / name) as entries:
            found = [e.name for e in entries if e.name.lower().endswith(SUFFIXES) and e.is_file()]
        shown = [file for file in found if not file.startswith(".")]
        classes[name] = [root / name / file for file in sorted(shown, key=natural_key)]
    if len(classes) < 2:
        found_text = f"only {next(iter(classes))}/" if classes else "no folder"
        raise UserError(
            f"{root}: found {found_text}; expected at least two class folders with images inside"
        )
    for name, files in classes.items():
        if not files:
            raise UserError(
                f"{root / name}: a class folder without an image ({', '.join(SUFFIXES[:4])}, ...)\n"
                "  add images, or remove the folder"
            )
    return classes


def _refuse_other_classes(root: Path, train: list[str], test: list[str]) -> None:
    if train != test:
        odd = sorted(set(train) ^ set(test))
        raise UserError(f"{root}: train/ and test/ must have the same classes; differing: {odd}")


def read(
    files: tuple[Path, ...],
    labels: NDArray[np.int64],
    classes: tuple[str, ...],
    num_test: int,
    config: FolderConfig,
) -> Images:
    """Decode and resize all files: uint8 (N, C, H, W), C 1 or 3 (red, green, blue).

    Raises UserError that names the first unreadable file, unless ``skip_bad``.
    """
    decode = _decoder(config)
    channels = 1 if config.grayscale else 3
    images = np.empty((len(files), channels, config.image_size, config.image_size), np.uint8)
    good = np.zeros(len(files), dtype=bool)

    def fill(index: int) -> None:
        image_CHW = decode(files[index])
        if image_CHW is not None:
            images[index] = image_CHW
            good[index] = True

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for _ in track(pool.map(fill, range(len(files))), "decoding images", len(files)):
            pass
    bad = [file for file, ok in zip(files, good, strict=True) if not ok]
    if bad and not config.skip_bad:
        more = f" (and {len(bad) - 1} more)" if len(bad) > 1 else ""
        raise UserError(
            f"{bad[0]}{more}: cannot be read as an image\n"
            "  mend or remove it, or leave such files out with dataset.skip_bad=true"
        )
    if bad:
        say(f"left out {len(bad)} unreadable files: {', '.join(map(str, bad[:5]))}")
        num_test -= int((~good[len(files) - num_test :]).sum())
    return Images(images[good], labels[good], classes, num_test)


def _decoder(config: FolderConfig) -> Callable[[Path], NDArray[np.uint8] | None]:
    """A function from a file to uint8 (C, H, W), or None where it is no readable image."""
    import cv2

    cv2.setNumThreads(1)  # one image is small: the threads of the pool are the parallelism
    interpolation = {
        "nearest": cv2.INTER_NEAREST,
        "linear": cv2.INTER_LINEAR,
        "area": cv2.INTER_AREA,
        "cubic": cv2.INTER_CUBIC,
        "lanczos": cv2.INTER_LANCZOS4,
    }[config.interpolation]
    flag = cv2.IMREAD_GRAYSCALE if config.grayscale else cv2.IMREAD_COLOR_RGB
    size = (config.image_size, config.image_size)

    def decode(file: Path) -> NDArray[np.uint8] | None:
        # Read by numpy, because OpenCV cannot open every file name on every system.
        try:
            image = cv2.imdecode(np.fromfile(file, np.uint8), flag)
        except (cv2.error, OSError):
            return None
        if image is None:
            return None
        resized = np.asarray(cv2.resize(image, size, interpolation=interpolation), np.uint8)
        return resized[None] if resized.ndim == 2 else resized.transpose(2, 0, 1)

    cv2.setLogLevel(0)  # a damaged file is reported by us, once
    return decode
