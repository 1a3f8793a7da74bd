"""MNIST (LeCun, Cortes, Burges): 60,000 training and 10,000 official test images, 28x28.

The IDX files are found in place or downloaded by torchvision, and checked by their MD5 sums.
torchvision is not asked to read them: its import takes seconds, and an IDX file is a header of
known length before the bytes.
"""

import contextlib
import hashlib
import io
import socket
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from tinylab.config.options import dataset
from tinylab.config.values import option
from tinylab.data.arrays import DataAbsentError, Images, Ink, Source, pad_to
from tinylab.data.paths import data_root, user_path
from tinylab.errors import UserError
from tinylab.system.torchvision import import_torchvision
from tinylab.ui.console import say

# File name -> MD5 of the unpacked file: training images and labels, then those of the test set.
FILES = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}
IMAGE_HEADER, LABEL_HEADER = 16, 8  # bytes
TIMEOUT = 30.0  # seconds without an answer


@dataset
@dataclass(frozen=True)
class Mnist:
    """MNIST: 60,000 training and 10,000 official test images of 28x28 pixels."""

    ink: ClassVar[Ink] = Ink(28, 20, by_mass=True)  # LeCun et al. (1998), section III.A

    root: str | None = option(None, "folder with MNIST/raw/*-ubyte; null: the data root")
    image_size: int = option(28, "28, or more: zero-padded to this size", at_least=28, at_most=1024)

    def find(self) -> Source:
        """The four IDX files. Raises DataAbsentError where one is absent."""
        files = tuple(_root(self.root) / "MNIST" / "raw" / name for name in FILES)
        for file in files:
            if not file.is_file():
                raise DataAbsentError(
                    f"{file}: absent; MNIST has {', '.join(FILES)} beside each other"
                )
        preparation: dict[str, object] = {"image_size": self.image_size}
        return Source(
            "mnist",
            tuple(str(file.absolute()) for file in files),
            preparation,
            lambda: read(files, self.image_size),
        )

    def fetch(self) -> None:
        """Download the files into their place. Raises UserError where that fails."""
        fetch(_root(self.root))


def read(files: tuple[Path, ...], image_size: int) -> Images:
    """All images as uint8 (70000, 1, image_size, image_size), the official test set last.

    Raises UserError for a file that is not the official one, bit for bit.
    """
    for file in files:
        _check(file)
    pixels = np.concatenate([np.fromfile(f, np.uint8, offset=IMAGE_HEADER) for f in files[::2]])
    labels = [np.fromfile(f, np.uint8, offset=LABEL_HEADER) for f in files[1::2]]
    return Images(
        images=pad_to(pixels.reshape(-1, 1, 28, 28), image_size),
        labels=np.concatenate(labels).astype(np.int64),
        classes=tuple("0123456789"),
        num_official_test=len(labels[1]),
    )


def _check(file: Path) -> None:
    with file.open("rb") as stream:
        found = hashlib.file_digest(stream, "md5").hexdigest()
    if found != FILES[file.name]:
        raise UserError(
            f"{file}: not the official MNIST file ({file.stat().st_size:,} bytes, MD5 {found})\n"
            "  delete it and repeat the command, which downloads it again"
        )


def fetch(root: Path) -> None:
    """Download the files into ``root``. Raises UserError where that fails."""
    import http.client  # and with it ssl and email: 20 ms at every start

    raw = root / "MNIST" / "raw"
    say(f"MNIST is not in {raw}: downloading it (11 MB)")
    mnist = import_torchvision("torchvision.datasets.mnist")
    try:
        with _patient(), _no_bar_in_a_file():
            mnist.MNIST(root, download=True)
    except (OSError, RuntimeError, http.client.HTTPException) as error:
        raise UserError(
            f"MNIST cannot be downloaded: {' '.join(str(error).split())}\n"
            f"  put {', '.join(FILES)} into {raw}, or set TINYLAB_DATA to where MNIST/raw is"
        ) from error


@contextlib.contextmanager
def _patient() -> Iterator[None]:
    """Give up on a silent host after TIMEOUT; torchvision itself would wait for ever."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _no_bar_in_a_file() -> contextlib.AbstractContextManager[object]:
    """Drop torchvision's progress bar where standard error is no terminal."""
    if sys.stderr.isatty():
        return contextlib.nullcontext()
    return contextlib.redirect_stderr(io.StringIO())


def _root(root: str | None) -> Path:
    return data_root() if root is None else user_path(root)
