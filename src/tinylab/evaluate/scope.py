"""Which images an evaluation uses: labeled ones, and no training images silently."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tinylab import data
from tinylab.config import options
from tinylab.config.base_records import DatasetConfig
from tinylab.data import cache, folder
from tinylab.data.cache import Decoded
from tinylab.data.listing import composed
from tinylab.data.split import Split
from tinylab.errors import UserError
from tinylab.evaluate.alike import alike
from tinylab.inference import Ensemble, Trained, few
from tinylab.store.folder import RunFolder
from tinylab.system.paths import user_path

PARTS = ("test", "val", "train", "all")


@dataclass(frozen=True)
class Scope:
    """images: uint8 (N, C, H, W). labels: int64 (N,), by the ensemble's classes.

    index: int64 (N,), their indices in the dataset. paths: their files, if any. part: one of PARTS.
    trained: how many of them some network was trained on, by index in its data or by pixels.
    learnt: these, and those used to select it. alike: how many others resemble training images, if
    these are available. is_own: whether it is the training data. is_known: whether the training
    images of every network are known.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    index: NDArray[np.int64]
    paths: dict[str, NDArray[np.str_]]
    part: str
    trained: int
    learnt: int
    alike: int
    is_own: bool
    is_known: bool
    fingerprint: str


def choose(
    ensemble: Ensemble,
    dataset: DatasetConfig,
    part: str | None,
    read: Callable[[Path], NDArray[np.uint8]] | None = None,
) -> Scope:
    """Select the images of ``part``; by default the own data's test set, or all other data.

    ``read`` reads the image files of a folder, if they are not read as class folders are. Raises
    UserError if the data does not fit the networks, if test images of one were used to train
    another, or if the own data has changed since training.
    """
    decoded = data.load_undivided(dataset) if read is None else _decoded(dataset, read)
    labels = _labels(ensemble, decoded, dataset)
    _refuse_other_shape(ensemble.first, decoded, dataset)
    owners = [each for each in ensemble.members if _is_own(each, dataset, decoded.fingerprint)]
    part = part or ("test" if owners else "all")
    index = _indices(owners[0] if owners else ensemble.first, decoded, dataset, part, bool(owners))
    trained, chosen_by = _learnt(owners, decoded, dataset, part, index)
    seen = [_seen(member) for member in ensemble.members]
    for member in seen:
        trained |= np.isin(decoded.digests[:, 0], member[0])
        chosen_by |= np.isin(decoded.digests[:, 0], member[1])
    return Scope(
        images=decoded.dataset.pixels[index],
        labels=labels[index],
        index=index,
        paths=decoded.dataset.paths(index),
        part=part,
        trained=int(trained[index].sum()),
        learnt=int((trained | chosen_by)[index].sum()),
        alike=0 if owners else _alike(ensemble, decoded, index[~(trained | chosen_by)[index]]),
        is_own=bool(owners),
        is_known=bool(owners) or all(len(member[0]) > 0 for member in seen),
        fingerprint=decoded.fingerprint,
    )


def _decoded(dataset: DatasetConfig, read: Callable[[Path], NDArray[np.uint8]]) -> Decoded:
    part = data.part_of(dataset)
    assert isinstance(part, folder.Folder)
    return cache.build(folder.read(part.listed(), part, read))


def _labels(ensemble: Ensemble, decoded: Decoded, dataset: DatasetConfig) -> NDArray[np.int64]:
    """Return the data's labels in the networks' order of classes, matched by name."""
    known = [composed(name) for name in ensemble.classes]
    given = [composed(name) for name in decoded.dataset.classes]
    strange = [name for name in given if name not in known]
    if strange:
        raise UserError(
            f"dataset={dataset.name}: {len(strange)} of its {len(given)} classes are not among the "
            f"network's {len(known)}, matched by name\n"
            f"  data: {few(given)}\n  network: {few(known)}"
        )
    return np.array([known.index(name) for name in given], np.int64)[decoded.dataset.labels]


def _refuse_other_shape(first: Trained, decoded: Decoded, dataset: DatasetConfig) -> None:
    shape = decoded.dataset.pixels.shape[1:]
    if shape != first.image_shape:
        sizes = ["x".join(map(str, each)) for each in (shape, first.image_shape)]
        raise UserError(
            f"dataset={dataset.name}: images of {sizes[0]}, but the network takes {sizes[1]}\n"
            "  expected the same dataset.image_size (and dataset.grayscale) as in its training"
        )


def _is_own(member: Trained, dataset: DatasetConfig, fingerprint: str) -> bool:
    """Return whether a network was trained on this data, perhaps preprocessed differently."""
    own = member.config.dataset
    if fingerprint == member.result.dataset.fingerprint:
        return True
    if not options.of(own).is_users_own:
        return options.which_data(own) == options.which_data(dataset)
    return _real(own) is not None and _real(own) == _real(dataset)


def _real(config: DatasetConfig) -> str | None:
    location = options.of(config).location(config)
    return None if location is None else os.path.realpath(user_path(location))


def _indices(
    member: Trained, decoded: Decoded, dataset: DatasetConfig, part: str, is_own: bool
) -> NDArray[np.int64]:
    """Return the indices of a part's images, by the split of ``member``."""
    if part == "all":
        return np.arange(len(decoded.dataset.labels))
    parts = data.divide(decoded, member.config.split, dataset)
    if is_own and parts.sha256() != member.result.split_sha256:
        raise UserError(
            f"{member.name}: its data has changed since, so its training images are no longer "
            "known\n  restore the old data, or evaluate on all images with --part all"
        )
    index: NDArray[np.int64] = getattr(parts, part)
    if len(index) == 0:
        raise UserError(f"--part {part}: contains no images in the split of {member.name}")
    return index


def _learnt(
    owners: Sequence[Trained],
    decoded: Decoded,
    dataset: DatasetConfig,
    part: str,
    index: NDArray[np.int64],
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return which images some network was trained on, and selected by: bool (num_images,)."""
    trained, chosen_by = np.zeros((2, len(decoded.dataset.labels)), bool)
    for member in owners:
        parts = data.divide(decoded, member.config.split, dataset)
        if parts.sha256() != member.result.split_sha256:
            trained[:] = True  # all of them, as far as known
            continue
        trained[parts.train] = chosen_by[parts.val] = True
        learnt = (trained | chosen_by)[index]
        if part == "test" and learnt.any():
            raise UserError(
                f"{learnt.sum():,} test images of {owners[0].name} were used to train "
                f"{member.name}\n  average runs with the same split.seed, or use --part all"
            )
    return trained, chosen_by


def _seen(member: Trained) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Return hashes of the pixels that a network was trained on and selected by; none if unknown.

    Older runs have not stored them: they are computed from the run's data, if unchanged.
    """
    kept = RunFolder(member.folder).learnt_digests()
    if kept is not None:
        return kept
    own = _own_data(member)
    if own is None:
        return np.zeros(0, np.uint64), np.zeros(0, np.uint64)
    decoded, parts = own
    return decoded.digests[parts.train, 0], decoded.digests[parts.val, 0]


def _own_data(member: Trained) -> tuple[Decoded, Split] | None:
    """Return the data of a network's training, if it is available and unchanged."""
    try:
        own = data.load_present(member.config.dataset)
        if own.fingerprint != member.result.dataset.fingerprint:
            return None
        return own, data.divide(own, member.config.split, member.config.dataset)
    except UserError:
        return None


def _alike(ensemble: Ensemble, decoded: Decoded, unlearnt: NDArray[np.int64]) -> int:
    """Count the ``unlearnt`` images that resemble one that a network was trained on."""
    images = decoded.dataset.pixels[unlearnt]
    near = np.zeros(len(images), bool)
    by_split = {member.result.split_sha256: member for member in ensemble.members}
    for member in by_split.values():
        if (own := _own_data(member)) is not None:
            theirs, parts = own
            near |= alike(images, theirs.dataset.pixels[parts.train])
    return int(near.sum())
