"""MNIST (LeCun, Cortes, Burges): 60,000 training and 10,000 official test images, 28x28.

The IDX files are found in any common layout, or downloaded, and checked by their hashes: an IDX
file is a header of known length followed by the bytes.
"""

import gzip
import hashlib
import os
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from tinylab.config.decorators import dataset
from tinylab.config.values import option
from tinylab.data.arrays import DataAbsentError, Dataset, Ink, Source, pad_to
from tinylab.errors import UserError
from tinylab.system.paths import data_root, user_path
from tinylab.ui.console import say

# File name -> SHA-256 of the unpacked file: training images and labels, then the test set's.
FILES = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
RAW = "MNIST/raw"  # below the root, as in torchvision; searched first, and used for downloads
FOLDERS = (RAW, "MNIST", "mnist/raw", "mnist", "raw", "")
IMAGE_HEADER, LABEL_HEADER = 16, 8  # bytes
MAX_BYTES = 2**26  # of an unpacked file; the largest has 47 million


@dataset
@dataclass(frozen=True)
class Mnist:
    """MNIST: 60,000 training and 10,000 official test images of 28x28 pixels."""

    ink: ClassVar[Ink] = Ink(28, 20, by_mass=True)  # LeCun et al. (1998), section III.A

    root: str | None = option(
        None, "folder with MNIST/raw/*-ubyte; null: the data root", is_place=True
    )
    image_size: int = option(28, "28, or more: zero-padded to this size", at_least=28, at_most=1024)

    def find(self) -> Source:
        """Return the four IDX files. Raises DataAbsentError if one is missing."""
        root = _root(self.root)
        located = {name: _located(root, name) for name in FILES}
        absent = [name for name, file in located.items() if file is None]
        if absent:
            raise DataAbsentError(
                f"{root / RAW / absent[0]}: not found; MNIST consists of {', '.join(FILES)}, "
                "each optionally with .gz"
            )
        files = tuple(file for file in located.values() if file is not None)
        preparation: dict[str, object] = {"image_size": self.image_size}
        return Source(
            "mnist",
            tuple(str(file.absolute()) for file in files),
            preparation,
            lambda: read(files, self.image_size),
        )

    def fetch(self) -> None:
        """Download the missing files. Raises UserError."""
        root = _root(self.root)
        if self.root is not None and not any(_located(root, name) for name in FILES):
            _refuse_other_folder(root)
        fetch(root)


def _located(root: Path, name: str) -> Path | None:
    """Find a file: compressed or not, with a dot before ``idx``, or in a folder of its own name."""
    dotted = name.replace("-idx", ".idx")
    names = [name, dotted, f"{name}.gz", f"{dotted}.gz"]
    for folder in FOLDERS:
        for path in (root / folder / each for each in names):
            inside = [path / each for each in names] if path.is_dir() else [path]
            for file in inside:
                if file.is_file():
                    return file
    return None


def read(files: tuple[Path, ...], image_size: int) -> Dataset:
    """Read all images as uint8 (70000, 1, image_size, image_size), official test set last.

    Raises UserError for a file that is not bit-identical to the official one.
    """
    contents = [_content(file, sha256) for file, sha256 in zip(files, FILES.values(), strict=True)]
    pixels = np.concatenate([content[IMAGE_HEADER:] for content in contents[::2]])
    labels = [content[LABEL_HEADER:] for content in contents[1::2]]
    return Dataset(
        pixels=pad_to(pixels.reshape(-1, 1, 28, 28), image_size),
        labels=np.concatenate(labels).astype(np.int64),
        classes=tuple("0123456789"),
        num_official_test=len(labels[1]),
    )


def _content(file: Path, sha256: str) -> NDArray[np.uint8]:
    """Return the unpacked bytes of an official file. Raises UserError for any other file."""
    data = file.read_bytes()
    fault = ""
    if data[:2] == b"\x1f\x8b":  # by content: browsers decompress without renaming
        try:
            with gzip.open(file) as stream:
                data = stream.read(MAX_BYTES)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            fault = f", a damaged gzip file: {error}"
    digest = hashlib.sha256(data).hexdigest()
    if fault or digest != sha256:
        raise UserError(
            f"{file}: not the official MNIST file ({len(data):,} bytes, SHA-256 {digest[:12]}..."
            f"{fault})\n"
            "  other datasets use the same names: read Fashion-MNIST by dataset=torchvision "
            "dataset.set=FashionMNIST; to download MNIST, set dataset.root to an empty "
            "folder"
        )
    return np.frombuffer(data, np.uint8)


def fetch(root: Path) -> None:
    """Download the missing files. Raises UserError on failure."""
    from tinylab.data.download import fetch_gz  # imports urllib, ssl and email

    say(f"MNIST is not in {root / RAW}: downloading it (11 MB)")
    for name, sha256 in FILES.items():
        if _located(root, name) is None:
            try:
                urls = [f"{mirror}{name}.gz" for mirror in MIRRORS]
                fetch_gz(urls, root / RAW / name, sha256, MAX_BYTES)
            except UserError as error:
                raise UserError(
                    f"MNIST cannot be downloaded: {error}\n"
                    f"  put {', '.join(FILES)} into {root / RAW}, or set TINYLAB_DATA to where "
                    "MNIST/raw is"
                ) from error


def _refuse_other_folder(root: Path) -> None:
    """Refuse to download into a mistyped folder."""
    if not root.is_dir():
        raise UserError(
            f"dataset.root={root}: no such folder; expected one with MNIST's files\n"
            "  create it to download them there, or leave dataset.root out"
        )
    names = sorted(name for name in os.listdir(root) if name[0] != ".")
    others = [name for name in names if name.lower() not in ("mnist", "raw")]
    if others:
        raise UserError(
            f"dataset.root={root}: contains none of MNIST's files ({', '.join(FILES)}; also not in "
            f"{RAW}), but {others[0]}\n"
            "  use an empty folder to download them there, or leave dataset.root out"
        )


def _root(root: str | None) -> Path:
    return data_root() if root is None else user_path(root)
