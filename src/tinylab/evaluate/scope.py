"""Which images an evaluation scores: labelled ones, and none unsaid that a network has learnt."""

import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tinylab import data
from tinylab.config import options
from tinylab.config.schema import DatasetConfig
from tinylab.data.cache import Decoded
from tinylab.data.split import Split, split
from tinylab.errors import UserError
from tinylab.inference import Ensemble, Trained
from tinylab.system.paths import user_path

PARTS = ("test", "val", "train", "all")


@dataclass(frozen=True)
class Scope:
    """images: uint8 (N, C, H, W). labels: int64 (N,), by the ensemble's classes.

    index: int64 (N,), their places in the dataset. paths: their files, if they are files. part: one
    of PARTS. learnt: how many of them some network was trained on or chosen by. is_own: whether
    it is the data of its training.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    index: NDArray[np.int64]
    paths: dict[str, NDArray[np.str_]]
    part: str
    learnt: int
    is_own: bool
    fingerprint: str


def choose(ensemble: Ensemble, dataset: DatasetConfig, part: str | None) -> Scope:
    """The images of ``part``; by default the test part of the networks' own data, or all of other.

    Raises UserError where the data does not fit the networks, where images that one of them is
    tested on have trained another, or where the own data is not that of the training any more.
    """
    decoded = data.load_undivided(dataset)
    labels = _labels(ensemble, decoded, dataset)
    _refuse_other_shape(ensemble.first, decoded, dataset)
    owners = [each for each in ensemble.members if _is_own(each, dataset, decoded.fingerprint)]
    part = part or ("test" if owners else "all")
    index = _indices(owners[0] if owners else ensemble.first, decoded, part, bool(owners))
    learnt = _learnt(owners, decoded, part, index)
    return Scope(
        images=decoded.images.images[index],
        labels=labels[index],
        index=index,
        paths=decoded.images.paths(index),
        part=part,
        learnt=learnt,
        is_own=bool(owners),
        fingerprint=decoded.fingerprint,
    )


def _labels(ensemble: Ensemble, decoded: Decoded, dataset: DatasetConfig) -> NDArray[np.int64]:
    """The data's labels in the networks' order of classes, matched by name."""
    known, given = ensemble.classes, decoded.images.classes
    strange = [name for name in given if name not in known]
    if strange:
        raise UserError(
            f"dataset={dataset.name}: {len(strange)} of its {len(given)} classes are not among the "
            f"network's {len(known)}, matched by name\n"
            f"  data: {', '.join(given)}\n  network: {', '.join(known)}"
        )
    return np.array([known.index(name) for name in given], np.int64)[decoded.images.labels]


def _refuse_other_shape(first: Trained, decoded: Decoded, dataset: DatasetConfig) -> None:
    shape = decoded.images.images.shape[1:]
    if shape != first.image_shape:
        sizes = ["x".join(map(str, each)) for each in (shape, first.image_shape)]
        raise UserError(
            f"dataset={dataset.name}: images of {sizes[0]}, but the network takes {sizes[1]}\n"
            "  expected the same dataset.image_size (and dataset.grayscale) as in its training"
        )


def _is_own(member: Trained, dataset: DatasetConfig, fingerprint: str) -> bool:
    """Whether a network was trained on this data, perhaps prepared in another way."""
    own = member.config.dataset
    if fingerprint == member.result.dataset.fingerprint:
        return True
    if not options.of(own).is_users_own:
        return own.name == dataset.name  # there is only one of that name
    return _real(own) is not None and _real(own) == _real(dataset)


def _real(config: DatasetConfig) -> str | None:
    root: str | None = getattr(config, "root", None)
    return None if root is None else os.path.realpath(user_path(root))


def _indices(member: Trained, decoded: Decoded, part: str, is_own: bool) -> NDArray[np.int64]:
    """The places of a part's images, by the split of ``member``."""
    if part == "all":
        return np.arange(len(decoded.images.labels))
    parts = _split(member, decoded)
    if is_own and parts.sha256() != member.result.split_sha256:
        raise UserError(
            f"{member.name}: its data has changed since, so which images have trained it cannot be "
            "told any more\n  bring the old data back, or score it on all images with --part all"
        )
    index: NDArray[np.int64] = getattr(parts, part)
    if len(index) == 0:
        raise UserError(f"--part {part}: no image is in it, by the split of {member.name}")
    return index


def _split(member: Trained, decoded: Decoded) -> Split:
    images = decoded.images
    return split(images.labels, images.num_official_test, member.config.split, decoded.first_twins)


def _learnt(
    owners: Sequence[Trained], decoded: Decoded, part: str, index: NDArray[np.int64]
) -> int:
    """How many of the images some network was trained on or chosen by."""
    learnt = np.zeros(len(decoded.images.labels), bool)
    for member in owners:
        parts = _split(member, decoded)
        if parts.sha256() != member.result.split_sha256:
            return len(index)  # all of them, as far as can be told
        learnt[parts.train] = learnt[parts.val] = True
        if part == "test" and learnt[index].any():
            raise UserError(
                f"{learnt[index].sum():,} test images of {owners[0].name} have trained "
                f"{member.name}\n  average runs of one split.seed, or score them with --part all"
            )
    return int(learnt[index].sum())
