"""Decoded arrays on disk, so that the second start takes milliseconds.

One npz file a dataset and preparation. Its name is a hash of the source files (names, sizes,
times), the preparation and this package's reading code, so a stale file is never asked for; zip's
CRC-32 covers every array, so a damaged one is noticed and made again.
"""

import contextlib
import hashlib
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tinylab.data.arrays import Images, Source
from tinylab.data.places import cache_root
from tinylab.errors import UserError
from tinylab.files import atomic_path


@dataclass(frozen=True)
class Decoded:
    """Images with what is worth computing only once about them."""

    images: Images
    first_twins: NDArray[np.int64]
    fingerprint: str


def load(source: Source) -> Decoded:
    """The decoded images of ``source``, from the cache where it is there and whole."""
    path = _path(source)
    return _read(path) or _build(source, path)


def fingerprint(source: Source) -> str | None:
    """The fingerprint of the images of ``source`` if they are in the cache, in milliseconds."""
    with contextlib.suppress(OSError, ValueError, KeyError, zipfile.BadZipFile, EOFError):
        with np.load(_path(source), allow_pickle=False) as arrays:
            return str(arrays["fingerprint"])
    return None


def _path(source: Source) -> Path:
    stats = [(str(file.absolute()), file.stat()) for file in source.files]
    files = [(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats]
    code = [hashlib.sha256(file.read_bytes()).hexdigest() for file in _reading_code()]
    key = json.dumps([source.dataset, source.preparation, files, code], sort_keys=True)
    digest = hashlib.sha256(key.encode()).hexdigest()
    return cache_root() / "decoded" / f"{source.dataset}-{digest[:16]}.npz"


def _reading_code() -> list[Path]:
    names = ("arrays", "digits", "folder", "mnist", "scene15")
    return [Path(__file__).with_name(f"{name}.py") for name in names]


def _read(path: Path) -> Decoded | None:
    with contextlib.suppress(OSError, ValueError, KeyError, zipfile.BadZipFile, EOFError):
        with np.load(path, allow_pickle=False) as arrays:
            images = Images(
                images=arrays["images"],
                labels=arrays["labels"],
                classes=tuple(str(name) for name in arrays["classes"]),
                num_official_test=int(arrays["num_official_test"]),
            )
            return Decoded(images, arrays["first_twins"], str(arrays["fingerprint"]))
    return None


def _build(source: Source, path: Path) -> Decoded:
    images = source.read()
    decoded = Decoded(images, images.first_twins(), images.fingerprint())
    # Without a place to keep it the next start is slower, and nothing else is lost.
    with contextlib.suppress(UserError), atomic_path(path) as temporary, temporary.open("wb") as f:
        np.savez(
            f,
            images=images.images,
            labels=images.labels,
            classes=np.array(images.classes),
            num_official_test=images.num_official_test,
            first_twins=decoded.first_twins,
            fingerprint=decoded.fingerprint,
        )
    return decoded
