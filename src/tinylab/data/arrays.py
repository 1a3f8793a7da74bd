"""What a reader returns: the location of the images, and the images as arrays."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tinylab.errors import UserError


class DataAbsentError(UserError):
    """A dataset is not found; some can be downloaded."""


@dataclass(frozen=True)
class Dataset:
    """Decoded images of one dataset.

    pixels: uint8 (N, C, H, W). labels: int64 (N,), indices into ``classes``. The official test
    set, where there is one, is the last ``num_official_test`` images; an official validation part
    is the ``num_official_val`` before them. Images that come from files have names, their paths
    below the dataset's folder. ``sources``, uint8 (N, C, S, S), are the same images at a larger
    size, from which training images are made; the fingerprint leaves them out, since what is
    evaluated and compared is ``pixels``.
    """

    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    num_official_test: int = 0
    names: tuple[str, ...] = ()
    num_official_val: int = 0
    sources: NDArray[np.uint8] | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of all pixels."""
        return self.pixels.nbytes + (0 if self.sources is None else self.sources.nbytes)

    def fingerprint(self) -> str:
        """Return SHA-256 over pixels, labels, class names and the official split."""
        digest = hashlib.sha256()
        shape = (*self.pixels.shape, self.num_official_test, *self.classes)
        if self.num_official_val:
            shape = (*shape, self.num_official_val)
        digest.update(repr(shape).encode())
        digest.update(np.ascontiguousarray(self.pixels).data)
        digest.update(np.ascontiguousarray(self.labels, "<i8").data)
        return digest.hexdigest()

    def paths(self, indices: NDArray[np.int64]) -> dict[str, NDArray[np.str_]]:
        """Return the names of some images as ``path``, for ``predictions.npz``; empty without
        names.
        """
        return {"path": np.array([self.names[index] for index in indices])} if self.names else {}

    def digests(self) -> NDArray[np.uint64]:
        """128 bits per image, equal for equal pixels. uint64 (N, 2)."""
        each = (hashlib.blake2b(image.tobytes(), digest_size=16).digest() for image in self.pixels)
        return np.frombuffer(b"".join(each), "<u8").reshape(-1, 2)


def first_duplicates(digests: NDArray[np.uint64]) -> NDArray[np.int64]:
    """For every image the index of the first image with the same pixels. int64 (N,)."""
    first: dict[bytes, int] = {}
    return np.array(
        [first.setdefault(digest.tobytes(), index) for index, digest in enumerate(digests)],
        dtype=np.int64,
    )


@dataclass(frozen=True)
class Source:
    """The source of a dataset's images, known without decoding them."""

    dataset: str
    files: tuple[str, ...]  # absolute; not Paths, which take half a second for 100,000 files
    preparation: dict[str, object]  # what determines the arrays besides the files
    read: Callable[[], Dataset] = field(repr=False)
    untrainable: str = ""  # why it can be evaluated on, but not trained on
    is_kept: bool = True  # whether to cache the decoded images; false if some files are unknown
    code: str = ""  # a digest of the code that reads them: arrays from other code are stale


@dataclass(frozen=True)
class Ink:
    """The format of a handwritten dataset's images: light ink, scaled into a square box.

    side: of the image, in pixels. box: of the square that the ink fills. by_mass: whether the
    center of mass, rather than the center of the ink's box, is in the image's center.
    """

    side: int
    box: int
    by_mass: bool


def pad_to(images: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Zero-pad square images: uint8 (N, C, S, S) -> (N, C, size, size), size >= S."""
    before = (size - images.shape[-1]) // 2
    after = size - images.shape[-1] - before
    return np.pad(images, ((0, 0), (0, 0), (before, after), (before, after)))
