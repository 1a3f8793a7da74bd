"""Decoded arrays on disk, so that the second start takes milliseconds.

One npz file per dataset and preprocessing. Its name is a hash of the source files (names, sizes,
times, inodes), the preprocessing and the code that reads them, so a stale file is never used.
Reading checks zip's CRC-32, including headers, so a damaged file is detected and rebuilt.
"""

import contextlib
import hashlib
import io
import json
import os
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinylab.data.arrays import Dataset, Source, first_duplicates
from tinylab.errors import UserError
from tinylab.system.files import write_npz
from tinylab.system.paths import cache_root


@dataclass(frozen=True)
class Decoded:
    """A dataset with derived values that are worth computing only once."""

    dataset: Dataset
    first_duplicates: NDArray[np.int64]
    fingerprint: str
    digests: NDArray[np.uint64]


def load(source: Source, fresh: bool = False) -> Decoded:
    """Return the decoded images of ``source``, from the cache if it is valid.

    ``fresh`` decodes them again. Raises UserError if the images cannot be decoded. A cache that
    cannot be written only costs time.
    """
    if not source.is_kept:
        return build(source.read())
    path = _path(source)
    return (None if fresh else _read(path)) or _build(source, path)


def build(dataset: Dataset) -> Decoded:
    """Derive the values that are worth computing only once."""
    digests = dataset.digests()
    return Decoded(dataset, first_duplicates(digests), dataset.fingerprint(), digests)


def fingerprint(source: Source) -> str | None:
    """Return the fingerprint of the images of ``source`` if they are cached, in milliseconds."""
    if not source.is_kept:
        return None
    path = _path(source)
    with _damage_ignored(), zipfile.ZipFile(path) as archive:
        return str(_array(archive, "fingerprint"))
    return None


def folder() -> Path:
    """Return the folder of decoded images."""
    return cache_root() / "decoded"


def kept() -> list[Path]:
    """Return all cache files, oldest first, including remains of killed processes."""
    files = [*folder().glob("*.npz"), *folder().glob(".*.tmp")]
    dated = [(stamp[1], file) for file in files if (stamp := _stamp(str(file)))]
    return [file for _, file in sorted(dated)]


def _path(source: Source) -> Path:
    files = [(file, *_stamp(file)) for file in source.files]
    key = json.dumps([source.dataset, source.preparation, files, source.code], sort_keys=True)
    digest = hashlib.sha256(key.encode()).hexdigest()
    return folder() / f"{source.dataset}-{digest[:16]}.npz"


def _stamp(file: str) -> tuple[int, ...]:
    """Return facts that change with a file's content.

    Archives with fixed dates and ``cp --preserve`` keep size and modification time; the inode's
    change time cannot be set, and a new file has another inode.
    """
    try:
        stat = os.stat(file)
    except OSError:
        return ()  # deleted since it was listed, or a dangling link: reading it will fail
    return stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino


def _read(path: Path) -> Decoded | None:
    with _damage_ignored(), zipfile.ZipFile(path) as archive:
        dataset = Dataset(
            pixels=_array(archive, "images"),
            labels=_array(archive, "labels"),
            classes=tuple(str(name) for name in _array(archive, "classes")),
            num_official_test=int(_array(archive, "num_official_test")),
            names=_unpacked(_array(archive, "names")),
            num_official_val=int(_array(archive, "num_official_val")),
            sources=_array(archive, "sources") if "sources.npy" in archive.namelist() else None,
        )
        return Decoded(
            dataset,
            _array(archive, "first_twins"),
            str(_array(archive, "fingerprint")),
            _array(archive, "digests"),
        )
    return None


def _array(archive: zipfile.ZipFile, name: str) -> NDArray[Any]:
    """Read one read-only array without a copy.

    ``np.load`` would stop where a damaged header says that the array ends, and miss the end where
    zip checks the CRC; so all bytes are read before the header is parsed.
    """
    data = archive.read(f"{name}.npy")
    stream = io.BytesIO(data)
    np.lib.format.read_magic(stream)
    shape, is_fortran, dtype = np.lib.format.read_array_header_1_0(stream)
    array: NDArray[Any] = np.frombuffer(data, dtype, offset=stream.tell())
    return array.reshape(shape, order="F" if is_fortran else "C")


def _damage_ignored() -> contextlib.suppress:
    """Read a file; None if damaged. A damaged zip raises a dozen kinds of errors."""
    return contextlib.suppress(Exception)


def _build(source: Source, path: Path) -> Decoded:
    dataset = source.read()
    decoded = build(dataset)
    sources = {} if dataset.sources is None else {"sources": dataset.sources}
    # If it cannot be saved, the next start is slower, and nothing else is lost.
    with contextlib.suppress(UserError):
        write_npz(
            path,
            images=dataset.pixels,
            labels=dataset.labels,
            classes=np.array(dataset.classes),
            num_official_test=dataset.num_official_test,
            num_official_val=dataset.num_official_val,
            names=_packed(dataset.names),
            first_twins=decoded.first_duplicates,
            fingerprint=decoded.fingerprint,
            digests=decoded.digests,
            **sources,
        )
    return decoded


def _packed(names: tuple[str, ...]) -> NDArray[np.uint8]:
    """Encode names as bytes: a string array pads all to the longest."""
    return np.frombuffer("\0".join(names).encode("utf-8", "surrogateescape"), np.uint8)


def _unpacked(packed: NDArray[np.uint8]) -> tuple[str, ...]:
    names = packed.tobytes().decode("utf-8", "surrogateescape")
    return tuple(names.split("\0")) if names else ()
