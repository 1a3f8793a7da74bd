"""Image files, decoded with OpenCV, in parallel."""

import importlib.metadata
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from stat import S_ISREG
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from tinylab.config.decorators import dataset
from tinylab.config.values import option
from tinylab.data import content
from tinylab.data.arrays import Dataset, Source
from tinylab.data.class_tree import class_folders
from tinylab.data.decoding import in_threads
from tinylab.data.label_table import table
from tinylab.data.listing import TABLE, Listing, say_first
from tinylab.errors import UserError
from tinylab.system import machine
from tinylab.system.paths import user_path
from tinylab.ui.console import printable, say

MAX_PIXELS = 2**28  # of one file; more is considered a decompression bomb
MAX_BYTES = 2**31  # of one file: 2**28 pixels of 8 bytes
FOURTEEN_BITS = 2**14  # 16-bit files with all values below are reported as dark


@dataset
@dataclass(frozen=True)
class Folder:
    """Image files: root/<class>/*.jpg, root/{train,test}/<class>/*.jpg, or as root/labels.csv."""

    name: ClassVar[str] = "folder"

    root: str | None = option(
        None,
        "folder with class folders or labels.csv (required)",
        required="the folder with the class folders",
        is_place=True,
    )
    image_size: int = option(
        32, "height and width of the prepared images, in pixels", at_least=1, at_most=1024
    )
    source_size: int | None = option(
        None,
        "decode training images at this size, augment them and average down to image_size "
        "(a multiple of it); null: at image_size",
        at_least=1,
        at_most=2048,
        neutral=True,
    )
    interpolation: str = option(
        "linear",
        "OpenCV interpolation: nearest, linear, area, cubic",
        one_of=("nearest", "linear", "area", "cubic", "lanczos"),
    )
    grayscale: bool = option(False, "true: one channel; false: three (RGB)")
    skip_bad: bool = option(False, "leave out files that cannot be read, and list them")
    content: str | None = option(None, "digest of the files' contents; filled in", neutral=True)

    def find(self) -> Source:
        """Find the image files of ``dataset.root``, in class folders or listed by its
        ``labels.csv``.

        Raises UserError for a folder without classes.
        """
        return source_of(self.listed(), self)

    def digest(self) -> str:
        """Return SHA-256 over names, labels, parts and contents of all files."""
        return content.digest(self.listed())

    def listed(self) -> Listing:
        """List the image files and their labels. Raises UserError as ``find`` does."""
        assert self.root is not None
        root = user_path(self.root)
        if (root / TABLE).is_file():
            return table(root, self.skip_bad)
        return class_folders(root)


def source_of(files: Listing, config: Folder) -> Source:
    """Return listed files as a source of images."""
    preparation: dict[str, object] = {
        "image_size": config.image_size,
        "interpolation": config.interpolation,
        "grayscale": config.grayscale,
        "skip_bad": config.skip_bad,
        "opencv": importlib.metadata.version("opencv-python-headless"),
        "listing": files.sha256(),
    }
    if config.source_size is not None:
        _refuse_no_multiple(config)
        preparation["source_size"] = config.source_size
    root = files.root.absolute()
    paths = tuple(f"{root}/{name}" for name in files.names)
    decode = partial(read, files, config)
    return Source(config.name, paths, preparation, decode, files.untrainable())


def read(
    files: Listing, config: Folder, decode: Callable[[Path], NDArray[np.uint8]] | None = None
) -> Dataset:
    """Decode and resize all files: uint8 (N, C, H, W), C 1 or 3 (RGB).

    ``decode`` defaults to ``decoder(config)``. Lists the files that cannot be read, and raises
    UserError if there are any, unless ``skip_bad``; and in any case if a class is left without
    training images, or the memory is insufficient.
    """
    deep: list[int] = []
    N = len(files.names)
    images = _room_for(N, config)
    sources: NDArray[np.uint8] | None = None
    decoders = [(images, decode or decoder(config, deep))]
    if config.source_size is not None:
        # By area averaging, whatever ``interpolation`` is: aliasing in the larger image would not
        # disappear when it is averaged down.
        larger = replace(config, image_size=config.source_size, interpolation="area")
        sources = _room_for(N, larger)
        decoders.append((sources, decoder(larger)))
    faults: dict[int, str] = {}

    def fill(index: int) -> None:
        file = files.root / files.names[index]
        try:
            for decoded, decode_file in decoders:
                decoded[index] = decode_file(file)
        except OSError as error:
            faults[index] = error.strerror or str(error)

    in_threads(fill, N)
    if deep and max(deep) < FOURTEEN_BITS:
        bits = next(bits for bits in (8, 10, 12, 14) if max(deep) < 2**bits)
        say(
            f"{files.root}: {len(deep):,} 16-bit files have no value above {max(deep):,} of "
            "65,535, so they are dark or black\n"
            f"  {bits}-bit cameras save such files; multiply the values by {2 ** (16 - bits)} and "
            "save them again"
        )
    if not faults:
        counts = files.num_test, files.names, files.num_val
        return Dataset(images, files.labels, files.classes, *counts, sources)
    return _without(faults, images, files, config, sources)


def _refuse_no_multiple(config: Folder) -> None:
    source, size = config.source_size or 0, config.image_size
    if source % size:
        raise UserError(
            f"dataset.source_size={source}: expected a multiple of dataset.image_size={size}, such "
            f"as {max(2, round(source / size)) * size}"
        )


def _without(
    faults: dict[int, str],
    images: NDArray[np.uint8],
    files: Listing,
    config: Folder,
    sources: NDArray[np.uint8] | None,
) -> Dataset:
    """Return the readable images, if the user accepts that."""
    bad = sorted(faults)
    first = printable(f"{files.root}/{files.names[bad[0]]}")
    say(f"{files.root}: {len(bad):,} of {len(images):,} files cannot be read as images:")
    say_first([f"{files.names[index]}: {faults[index]}" for index in bad])
    if not config.skip_bad:
        more = f" (and {len(bad) - 1:,} more)" if len(bad) > 1 else ""
        raise UserError(
            f"{first}{more}: cannot be read as an image: {faults[bad[0]]}\n"
            "  fix or remove it, or skip such files with dataset.skip_bad=true"
        )
    say("they are skipped")
    good = np.setdiff1d(np.arange(len(images)), bad)
    num_test = int((good >= len(images) - files.num_test).sum())
    num_val = int((good >= len(images) - files.num_test - files.num_val).sum()) - num_test
    labels, names = files.labels[good], tuple(files.names[index] for index in good)
    _refuse_lost_class(labels[: len(good) - num_test - num_val], files.classes)
    larger = None if sources is None else sources[good]
    return Dataset(images[good], labels, files.classes, num_test, names, num_val, larger)


def _room_for(count: int, config: Folder) -> NDArray[np.uint8]:
    shape = (count, 1 if config.grayscale else 3, config.image_size, config.image_size)
    try:
        return np.empty(shape, np.uint8)
    except MemoryError as error:
        raise UserError(
            f"dataset.image_size={config.image_size}: {count:,} images of this size take "
            f"{math.prod(shape) / 1e9:,.0f} GB, more than the available memory\n"
            "  choose a smaller size, or dataset.grayscale=true"
        ) from error


def _refuse_lost_class(train_labels: NDArray[np.int64], classes: tuple[str, ...]) -> None:
    for label, count in enumerate(np.bincount(train_labels, minlength=len(classes))):
        if count == 0:
            raise UserError(
                f"class {classes[label]}: none of its training images can be read\n"
                "  fix them, or remove the folder"
            )


def decoder(config: Folder, deep: list[int] | None = None) -> Callable[[Path], NDArray[np.uint8]]:
    """Return a function from a file to uint8 (C, H, W); it raises OSError for invalid images.

    Photos are rotated upright by their EXIF data; 16 bits per channel become 8, transparency is
    composed on white, and of several images in a file the first is used. The largest value of each
    16-bit file is appended to ``deep``.
    """
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
        image = _on_white(read_bytes(file), flag, deep)
        resized = np.asarray(cv2.resize(image, size, interpolation=interpolation), np.uint8)
        return resized[None] if resized.ndim == 2 else resized.transpose(2, 0, 1)

    return decode


def _on_white(data: NDArray[np.uint8], flag: int, deep: list[int] | None) -> NDArray[Any]:
    """Return the pixels for ``flag``, with transparency composed on white."""
    cv2 = open_cv()
    if not _may_be_clear_or_deep(data[:4096].tobytes()):
        return decode_bytes(data, flag)
    try:
        whole = decode_bytes(data, cv2.IMREAD_UNCHANGED)
    except OSError:
        return decode_bytes(data, flag)
    if whole.dtype.itemsize > 2:
        raise OSError(f"its pixels are {whole.dtype}; expected 8 or 16 bits")
    if deep is not None and whole.dtype == np.uint16:
        deep.append(int(whole[..., :3].max() if whole.ndim == 3 else whole.max()))
    if whole.ndim != 3 or whole.shape[2] != 4 or whole.dtype not in (np.uint8, np.uint16):
        return decode_bytes(data, flag)
    if whole.dtype == np.uint16:
        whole = (whole >> 8).astype(np.uint8)
    opacity = whole[..., 3:]
    # All opaque, or all clear, as if a program left the fourth channel empty: not transparent.
    if opacity.min() == opacity.max() == 255 or opacity.max() == 0:
        return decode_bytes(data, flag)
    laid = np.rint(255 + (whole[..., :3] - 255.0) * (opacity / 255.0)).astype(np.uint8)
    wanted = cv2.COLOR_BGR2GRAY if flag == cv2.IMREAD_GRAYSCALE else cv2.COLOR_BGR2RGB
    return np.asarray(cv2.cvtColor(laid, wanted))


def _may_be_clear_or_deep(head: bytes) -> bool:
    """Return whether a file may be transparent or 16-bit, by its first 4,096 bytes.

    Most files are classified this way without decoding them twice. The fourth channel of BMP is
    rarely opacity.
    """
    if head.startswith((b"\xff\xd8", b"BM")):
        return False
    if head.startswith(b"\x89PNG") and b"IDAT" in head:
        depth, color = head[24:26]
        return depth == 16 or color in (4, 6) or b"tRNS" in head  # 4, 6: with alpha
    return head[12:16] != b"VP8 "


@cache
def open_cv() -> Any:
    """Import OpenCV, set up for many small images; ``Any``, because it has few types."""
    with machine.default_variable("OPENCV_IO_MAX_IMAGE_PIXELS", str(MAX_PIXELS)):  # read on import
        import cv2

    cv2.setNumThreads(1)  # images are small: the pool's threads provide the parallelism
    if hasattr(cv2, "setLogLevel"):  # OpenCV 4
        cv2.setLogLevel(0)  # silent: faults are reported here, once
    else:
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    return cv2


def png_bytes(image: NDArray[np.uint8]) -> bytes:
    """Encode an image, uint8 (C, H, W) with C 1 (gray) or 3 (RGB), as PNG."""
    cv2 = open_cv()
    pixels_HWC = np.ascontiguousarray(image[::-1].transpose(1, 2, 0))  # OpenCV uses BGR
    _, encoded = cv2.imencode(".png", pixels_HWC, [cv2.IMWRITE_PNG_COMPRESSION, 9])
    return bytes(encoded)


def read_bytes(file: Path) -> NDArray[np.uint8]:
    """Read an image file. Raises OSError if it is empty or too large.

    Read by NumPy, because OpenCV cannot open all file names on all systems.
    """
    status = file.stat()
    if not S_ISREG(status.st_mode):
        raise OSError("not a file")  # a pipe or a device
    if status.st_size > MAX_BYTES:
        raise OSError(f"larger than {MAX_BYTES:,} bytes")
    data = np.fromfile(file, np.uint8)
    if len(data) == 0:
        raise OSError("the file is empty")
    return data


def decode_bytes(data: NDArray[np.uint8], flag: int) -> NDArray[Any]:
    """Decode with OpenCV's ``flag``. Raises OSError if ``data`` is not an image."""
    cv2 = open_cv()
    try:
        image: NDArray[Any] | None = cv2.imdecode(data, flag)
    except cv2.error as error:
        too_large = "MAX_IMAGE_PIXELS" in str(error)
        raise OSError("too many pixels" if too_large else "damaged") from error
    if image is None:
        raise OSError(_unreadable(data[:64].tobytes()))
    return image


def _unreadable(head: bytes) -> str:
    """Say why a file that starts so is no image, or none that OpenCV can read."""
    if head.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer instead of the image; run git lfs pull"
    if head[4:8] == b"ftyp" and head[8:11] in (b"hei", b"hev"):
        return "a HEIC image, whatever its suffix; convert it to JPEG"
    if head.lstrip().startswith(b"<"):
        return "HTML or XML instead of an image, as failed downloads are"
    return "damaged, or in a format that OpenCV cannot read"
