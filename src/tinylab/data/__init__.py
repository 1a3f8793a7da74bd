"""Datasets: finding, fetching, decoding and dividing by config. No torch in here.

A new dataset is one module here and one test: a dataclass under ``@dataset``, whose fields are its
config keys, with ``find() -> Source`` and, where it can be downloaded, ``fetch()``.
"""

import contextlib
import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinylab.config import code, options
from tinylab.config.schema import DatasetConfig, SplitConfig
from tinylab.data import cache
from tinylab.data.arrays import DataAbsentError, Images, Source
from tinylab.data.cache import Decoded
from tinylab.data.split import Split, count_shared, split
from tinylab.errors import UserError

UNEQUAL = 1.5  # times the images of the smallest class are worth a word


@dataclass(frozen=True)
class Splits:
    """A dataset, decoded and divided."""

    data: Images
    split: Split
    fingerprint: str
    first_twins: NDArray[np.int64]

    def duplicates(self) -> str:
        """One line on images with equal pixels; empty where there are none."""
        twins = np.flatnonzero(self.first_twins != np.arange(len(self.first_twins)))
        if len(twins) == 0:
            return ""
        labels = self.data.labels
        torn = int((labels[twins] != labels[self.first_twins[twins]]).sum())
        shared = count_shared(self.split, self.first_twins)
        return (
            f"{len(twins)} duplicate images, {torn} with another label; in test and train "
            f"{shared['test_in_train']}, in test and val {shared['test_in_val']}, in val and "
            f"train {shared['val_in_train']} (split.group_duplicates=true keeps them together)"
        )

    def imbalance(self) -> str:
        """The smallest and the largest class of the training images; empty where they are near."""
        labels = self.data.labels[self.split.train]
        counts = np.bincount(labels, minlength=len(self.data.classes))
        few, many = int(counts.argmin()), int(counts.argmax())
        if counts[many] < UNEQUAL * counts[few]:
            return ""
        classes = self.data.classes
        return (
            f"training images a class: {counts[few]:,} ({classes[few]}) to {counts[many]:,} "
            f"({classes[many]})"
        )


def load(dataset: DatasetConfig, split_config: SplitConfig) -> Splits:
    """Find, fetch if need be, decode (or take from the cache) and divide a dataset.

    Raises UserError where the data is absent or damaged, or the split asked for is impossible.
    """
    decoded = load_undivided(dataset)
    data = decoded.images
    parts = split(data.labels, data.num_official_test, split_config, decoded.first_twins)
    _refuse_untrained_class(data, parts, split_config)
    return Splits(data, parts, decoded.fingerprint, decoded.first_twins)


def load_undivided(dataset: DatasetConfig) -> Decoded:
    """All images of a dataset. Raises UserError where the data is absent or damaged."""
    with _reading():
        return cache.load(_find(dataset))


def _refuse_untrained_class(data: Images, parts: Split, config: SplitConfig) -> None:
    """A class that is never trained cannot be learnt; by chance it happens to small ones."""
    present = np.bincount(data.labels, minlength=len(data.classes))
    trained = np.bincount(data.labels[parts.train], minlength=len(data.classes))
    for label in np.flatnonzero(trained == 0):
        remedy = "add images of it, or lower split.test and split.val"
        if not config.stratified:
            remedy = f"split.stratified=true gives every part its share; else {remedy}"
        raise UserError(
            f"split.seed={config.seed}: of class {data.classes[label]} "
            f"(images: {present[label]:,}) none is left to train on\n  {remedy}"
        )


def make_ready(dataset: DatasetConfig) -> None:
    """Fetch and decode what is not there yet, before several processes want it at once.

    Raises UserError as ``load`` does.
    """
    with _reading():
        source = _find(dataset)
        if cache.fingerprint(source) is None:
            cache.load(source)


def fingerprint(dataset: DatasetConfig) -> str:
    """The fingerprint of today's data: from the cache in milliseconds, else by decoding it.

    Raises DataAbsentError where the data is not there; nothing is fetched for this.
    """
    with _reading():
        source = _found(part_of(dataset), dataset)
        return cache.fingerprint(source) or cache.load(source).fingerprint


@contextlib.contextmanager
def _reading() -> Iterator[None]:
    """Turn an operating-system error in reading the data into a UserError that names the file."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{error.filename or 'the data'}: cannot be read: {error.strerror or error}\n"
            "  see that it is still there and that you may read it, then repeat the command"
        ) from error


def part_of(dataset: DatasetConfig) -> Any:
    """The option's own object: ``find()``, and perhaps ``fetch()`` and ``ink``."""
    return options.of(dataset).make(dataset)


def _find(dataset: DatasetConfig) -> Source:
    part = part_of(dataset)
    try:
        return _found(part, dataset)
    except DataAbsentError:
        if not hasattr(part, "fetch"):
            raise
    part.fetch()
    return _found(part, dataset)


def _found(part: Any, dataset: DatasetConfig) -> Source:
    """Where the images are, with a digest of the code that reads them.

    That is the option's own module, and what it imports of this package.
    """
    source: Source = part.find()
    reading = code.imported(options.of(dataset).file, ("data",))
    return dataclasses.replace(source, code=code.digest(reading))
