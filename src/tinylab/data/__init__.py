"""Datasets: finding, downloading, decoding and splitting by config. Does not import torch.

A new dataset is one module here and one test: a dataclass decorated by ``@dataset``, whose fields
are its config keys, with ``find() -> Source`` and, if it can be downloaded, ``fetch()``.
"""

import contextlib
import dataclasses
import importlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinylab.config import code, options
from tinylab.config.base_records import DatasetConfig
from tinylab.config.option import OWN
from tinylab.config.schema import Config, SplitConfig, is_pattern
from tinylab.data import cache, groups
from tinylab.data.arrays import DataAbsentError, Dataset, Source
from tinylab.data.cache import Decoded
from tinylab.data.split import Split, count_shared, keeps_official_val, split
from tinylab.errors import UserError

UNEQUAL = 1.5  # class imbalance, relative to the smallest class, that is reported
DARK = 32  # of 255: a channel with hardly a lighter pixel is nearly black
FEW_LIGHT = 0.0005  # of all pixels
FLAT = 8  # gray levels: a channel with fewer is nearly constant
CHUNK = 1024  # images checked at once


@dataclass(frozen=True)
class Splits:
    """A decoded and split dataset."""

    data: Dataset
    split: Split
    fingerprint: str
    first_duplicates: NDArray[np.int64]
    digests: NDArray[np.uint64]
    config: SplitConfig
    groups: NDArray[np.int64] | None = None  # the first image of the same group

    def grouping(self) -> str:
        """Return the number of groups in each part; empty if there are none."""
        if self.groups is None:
            return ""
        parts = {name: getattr(self.split, name) for name in ("train", "val", "test")}
        counts = [f"{name} {len(np.unique(self.groups[part]))}" for name, part in parts.items()]
        held_out = self.groups[np.concatenate([self.split.val, self.split.test])]
        lost = int(np.isin(self.groups, held_out).sum()) - len(held_out)
        words = f"groups by split.group={self.config.group}: {', '.join(counts)}"
        left_out = f"; {lost:,} images left out, since their group is in an official part"
        return words + left_out if lost else words

    def duplicates(self) -> str:
        """Return a line on duplicate images; empty if there are none."""
        duplicates = np.flatnonzero(self.first_duplicates != np.arange(len(self.first_duplicates)))
        if len(duplicates) == 0:
            return ""
        labels = self.data.labels
        conflicting = int((labels[duplicates] != labels[self.first_duplicates[duplicates]]).sum())
        shared = count_shared(self.split, self.first_duplicates)
        return (
            f"{len(duplicates)} duplicate images, {conflicting} with different labels; in test and "
            f"train {shared['test_in_train']}, in test and val {shared['test_in_val']}, in val and "
            f"train {shared['val_in_train']} (split.group_duplicates=true keeps them together)"
        )

    def imbalance(self) -> str:
        """Return the smallest and the largest class of the training images; empty if similar."""
        labels = self.data.labels[self.split.train]
        counts = np.bincount(labels, minlength=len(self.data.classes))
        few, many = int(counts.argmin()), int(counts.argmax())
        if counts[many] < UNEQUAL * counts[few]:
            return ""
        classes = self.data.classes
        return (
            f"training images per class: {counts[few]:,} ({classes[few]}) to {counts[many]:,} "
            f"({classes[many]})"
        )

    def official_val(self) -> str:
        """Return how an official validation part is used; empty if there is none."""
        count = self.data.num_official_val
        if count == 0:
            return ""
        if keeps_official_val(self.config, self.data.num_official_test > 0):
            return f"validated on the official {count:,} validation images"
        why = f"split.val={self.config.val:g}"
        if self.config.folds is not None:
            why = f"split.folds={self.config.folds}"
        return f"{why}: the official {count:,} validation images are split with the others"

    def blank(self) -> str:
        """Return the channels in which the training images are nearly blank; empty if none."""
        C = self.data.pixels.shape[1]
        low, high, light = np.full(C, 255), np.zeros(C, int), np.zeros(C, int)
        train = self.split.train
        enough = FEW_LIGHT * len(train) * self.data.pixels[0, 0].size
        for start in range(0, len(train), CHUNK):
            if (light > enough).all() and (high - low >= FLAT).all():
                return ""  # mostly after the first chunk
            chunk = self.data.pixels[train[start : start + CHUNK]]
            low = np.minimum(low, chunk.min(axis=(0, 2, 3)))
            high = np.maximum(high, chunk.max(axis=(0, 2, 3)))
            light += (chunk >= DARK).sum(axis=(0, 2, 3))
        channels = {1: ("gray",), 3: ("red", "green", "blue")}
        names = channels.get(C, tuple(f"channel {number}" for number in range(C)))
        said: dict[str, list[str]] = {}
        for name, lowest, highest, is_light in zip(names, low, high, light > enough, strict=True):
            if lowest == highest:
                said.setdefault(f"constant ({lowest})", []).append(name)
            elif highest - lowest < FLAT:
                said.setdefault(f"nearly constant ({lowest} to {highest})", []).append(name)
            elif not is_light:
                said.setdefault("nearly black", []).append(name)
        return "; ".join(f"{', '.join(each)}: {what}" for what, each in said.items())


def load(dataset: DatasetConfig, split_config: SplitConfig) -> Splits:
    """Find, download if necessary, decode (or read from the cache) and split a dataset.

    Raises UserError if the data is missing or damaged, or the split is impossible.
    """
    with _reading():
        source = _trainable(dataset)
        decoded = cache.load(source)
    data, first_duplicates = decoded.dataset, decoded.first_duplicates
    together = groups.of(data, dataset, split_config.group)
    parts = _divided(decoded, split_config, together)
    _refuse_untrained_class(data, parts, split_config)
    return Splits(
        data, parts, decoded.fingerprint, first_duplicates, decoded.digests, split_config, together
    )


def divide(decoded: Decoded, config: SplitConfig, dataset: DatasetConfig) -> Split:
    """Return the split of a dataset. Raises UserError as ``split`` and ``groups.of`` do."""
    return _divided(decoded, config, groups.of(decoded.dataset, dataset, config.group))


def _divided(decoded: Decoded, config: SplitConfig, together: NDArray[np.int64] | None) -> Split:
    data = decoded.dataset
    counts = data.num_official_test, data.num_official_val
    return split(data.labels, counts[0], config, decoded.first_duplicates, counts[1], together)


def load_undivided(dataset: DatasetConfig) -> Decoded:
    """Return all images of a dataset. Raises UserError if the data is missing or damaged."""
    with _reading():
        return cache.load(_find(dataset))


def _refuse_untrained_class(data: Dataset, parts: Split, config: SplitConfig) -> None:
    """Refuse a split with a class without training images, which can happen to small classes."""
    present = np.bincount(data.labels, minlength=len(data.classes))
    trained = np.bincount(data.labels[parts.train], minlength=len(data.classes))
    for label in np.flatnonzero(trained == 0):
        remedy = "add images of it, or lower split.test and split.val"
        if config.train_fraction < 1:
            remedy = f"raise split.train_fraction={config.train_fraction:g}"
        if not config.stratified:
            remedy = f"split.stratified=true keeps class proportions; otherwise {remedy}"
        raise UserError(
            f"split.seed={config.seed}: none of the {present[label]:,} images "
            f"of class {data.classes[label]} is left for training\n  {remedy}"
        )


def make_ready(dataset: DatasetConfig, fresh: bool = False) -> None:
    """Download and decode what is missing, before several processes need it at once.

    ``fresh`` decodes again. Raises UserError as ``load`` does.
    """
    with _reading():
        source = _trainable(dataset)
        if source.is_kept and (fresh or cache.fingerprint(source) is None):
            cache.load(source, fresh)


def fingerprint(dataset: DatasetConfig) -> str:
    """Return the fingerprint of the current data: cached in milliseconds, otherwise decoded.

    Raises DataAbsentError if the data is missing; nothing is downloaded.
    """
    with _reading():
        source = _source(part_of(dataset), dataset)
        return cache.fingerprint(source) or cache.load(source).fingerprint


@contextlib.contextmanager
def _reading() -> Iterator[None]:
    """Convert an operating-system error in reading the data to a UserError that names the file."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{error.filename or 'the data'}: cannot be read: {error.strerror or error}\n"
            "  check that it exists and is readable, then run the command again"
        ) from error


def identified(config: Config) -> Config:
    """Return the config with the identity of its data, if the dataset's name does not determine it.

    Raises UserError if the files are missing, or differ from ``dataset.content``.
    """
    part = part_of(config.dataset)
    if not options.of(config.dataset).is_users_own or not hasattr(part, "digest"):
        return config
    with _reading():
        digest = part.digest()
        if config.split.group is not None and not is_pattern(config.split.group):
            digest = groups.digest(digest, config.dataset, config.split.group)
    if part.content not in (None, digest):
        raise UserError(
            f"dataset.content={part.content}: the files in "
            f"{options.of(config.dataset).location(config.dataset)} differ; leave "
            "dataset.content out, and it is filled in"
        )
    dataset = dataclasses.replace(config.dataset, content=digest)  # type: ignore[call-arg]
    return dataclasses.replace(config, dataset=dataset)


def part_of(dataset: DatasetConfig) -> Any:
    """Return the option's own object: ``find()``, and perhaps ``fetch()`` and ``ink``.

    For the user's own datasets, nothing is called before their images are read.
    """
    option = options.of(dataset)
    if not option.is_builtin:
        # Imported by name, so that it is not part of the code of runs without own data.
        return importlib.import_module(OWN[option.group]).Own(dataset)
    return option.make(dataset)


def load_present(dataset: DatasetConfig) -> Decoded:
    """Return all images of a local dataset. Raises DataAbsentError; nothing is downloaded."""
    with _reading():
        return cache.load(_source(part_of(dataset), dataset))


def _trainable(dataset: DatasetConfig) -> Source:
    source = _find(dataset)
    if source.untrainable:
        raise UserError(source.untrainable)
    return source


def _find(dataset: DatasetConfig) -> Source:
    part = part_of(dataset)
    try:
        return _source(part, dataset)
    except DataAbsentError:
        if not hasattr(part, "fetch"):
            raise
    part.fetch()
    return _source(part, dataset)


def _source(part: Any, dataset: DatasetConfig) -> Source:
    """Return where the images are, with a digest of the code that reads them.

    That is the option's own module, and its imports from this package.
    """
    source: Source = part.find()
    reading = code.imported([options.of(dataset).file], ("data",))
    return dataclasses.replace(source, code=code.digest(reading))
