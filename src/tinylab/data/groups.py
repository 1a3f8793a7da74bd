"""Groups of related images (one writer, patient, camera), and splits that keep them together.

The group of every image comes from a column of ``labels.csv`` or from a pattern over file names,
and is represented by the index of its first image: int64 (N,), as for duplicates.
"""

import hashlib
import re
import warnings
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tinylab.config import options
from tinylab.config.base_records import DatasetConfig
from tinylab.config.schema import SplitConfig, is_pattern
from tinylab.data import label_table
from tinylab.data.arrays import Dataset
from tinylab.data.listing import TABLE
from tinylab.errors import UserError
from tinylab.system.paths import user_path

Indices = NDArray[np.int64]
Mask = NDArray[np.bool_]
MOST_FOLDS = 20  # folds that a stratified fraction is composed of


def of(data: Dataset, dataset: DatasetConfig, group: str | None) -> Indices | None:
    """Return the group of each image, int64 (N,); None if ``group`` is.

    A value with a parenthesis is a regular expression that is searched in the file names, and its
    one group identifies the images' groups; any other value names a column. Raises UserError if the
    data has no file names or no such column, if a name does not match, or if there is only one
    group.
    """
    if group is None:
        return None
    if not data.names:
        raise UserError(
            f"split.group={group}: the images of {dataset.name} have no file names\n"
            "  expected data of files, such as dataset=folder, with a column of labels.csv or a "
            "pattern"
        )
    if is_pattern(group):
        texts = _matched(data.names, group)
    else:
        folder = _folder(dataset, group)
        column = label_table.column(folder, group)
        if strange := [name for name in data.names if name not in column]:
            raise UserError(
                f"split.group={group}: {folder / TABLE} has no row for {len(strange):,} "
                f"images\n  expected one for every file, such as {strange[0]}"
            )
        texts = [column[name] for name in data.names]
    _, first, inverse = np.unique(texts, return_index=True, return_inverse=True)
    if len(first) == 1:
        raise UserError(
            f"split.group={group}: all {len(texts):,} images are in one group, {texts[0]}\n"
            "  expected at least two, so that one can be held out"
        )
    return first[inverse].astype(np.int64)


def _matched(names: tuple[str, ...], pattern: str) -> list[str]:
    matches = [re.search(pattern, name) for name in names]
    strange = [name for name, match in zip(names, matches, strict=True) if not (match and match[1])]
    if strange:
        raise UserError(
            f"split.group={pattern}: no group in {len(strange):,} of {len(names):,} file names\n"
            f"  expected a pattern that matches each of them, such as {strange[0]}"
        )
    return [match[1] for match in matches if match]


def _folder(dataset: DatasetConfig, group: str) -> Path:
    """Return the folder of ``labels.csv``."""
    location = options.of(dataset).location(dataset)
    folder = None if location is None else user_path(location)
    if folder is None or not (folder / TABLE).is_file():
        raise UserError(
            f"split.group={group}: a column of {TABLE}, but {dataset.name} has no such file here\n"
            r"  expected a pattern over file names with one group, such as '(writer\d+)_'"
        )
    return folder


def digest(content: str, dataset: DatasetConfig, group: str) -> str:
    """Return the data's identity including a column that affects the split. Raises UserError as
    ``of``.
    """
    column = label_table.column(_folder(dataset, group), group)
    total = hashlib.sha256(content.encode())
    for name, value in sorted(column.items()):
        total.update(f"\0{name}\0{value}".encode("utf-8", "surrogateescape"))
    return total.hexdigest()[:32]


def joined(first: Indices, second: Indices) -> Indices:
    """Merge groups that share an image of either kind, directly or through others."""
    N = len(first)
    group = np.arange(N)
    while True:
        before = group
        for kind in (first, second):
            lowest = np.full(N, N)
            np.minimum.at(lowest, kind, group)
            group = lowest[kind]
        if (group == before).all():
            return group


def take(
    pool: Indices, labels: Indices, groups: Indices, fraction: float, config: SplitConfig
) -> tuple[Indices, Indices]:
    """Split ``pool`` by whole groups into about the given fraction of its images, and the rest.

    In the random order of the split seed, the first groups are taken whose size comes nearest to
    the fraction: at least one group, and never all. If stratified, some of the folds of
    scikit-learn's StratifiedGroupKFold are taken. Raises UserError with fewer than two groups.
    """
    if fraction == 0:
        return pool[:0], pool
    own, sizes = np.unique(groups[pool], return_counts=True)
    if len(own) < 2:
        raise UserError(
            f"split.group={config.group}: only {len(own)} group is left to split\n"
            "  expected at least one per part; split.val=0 saves one"
        )
    if config.stratified:
        inside = _stratified_fraction(labels[pool], groups[pool], fraction, config.seed)
        return pool[inside], pool[~inside]
    order = np.argsort(_positions(groups, config.seed)[own])
    reached = np.cumsum(sizes[order])
    count = int(np.abs(reached - fraction * len(pool)).argmin()) + 1
    inside = np.isin(groups[pool], own[order[: min(count, len(own) - 1)]])
    return pool[inside], pool[~inside]


def _positions(groups: Indices, seed: int) -> Indices:
    """Return for each group, by number, its position in the random order. int64 (N,)."""
    every = np.unique(groups)
    positions = np.zeros(len(groups), np.int64)
    positions[every] = np.argsort(np.random.PCG64(seed).random_raw(len(every)), kind="stable")
    return positions


def _stratified_fraction(labels: Indices, groups: Indices, fraction: float, seed: int) -> Mask:
    most = min(MOST_FOLDS, len(np.unique(groups)))
    near = Fraction(fraction).limit_denominator(most)
    folds, taken = max(near.denominator, 2), near.numerator
    if taken == 0:
        folds, taken = most, 1
    numbers = _folds(labels, groups, folds, True, seed)
    inside: Mask = numbers < min(taken, folds - 1)
    return inside


def fold(pool: Indices, labels: Indices, groups: Indices, config: SplitConfig) -> Mask:
    """Return whether each of ``pool`` is in the held-out fold: bool (len(pool),).

    scikit-learn's GroupKFold, or StratifiedGroupKFold if stratified, shuffled by the split seed.
    Raises UserError with fewer groups than folds.
    """
    assert config.folds is not None
    count = len(np.unique(groups[pool]))
    if count < config.folds:
        raise UserError(
            f"split.folds={config.folds}: split.group={config.group} gives {count} groups\n"
            f"  expected at most {count} folds"
        )
    numbers = _folds(labels[pool], groups[pool], config.folds, config.stratified, config.seed)
    inside: Mask = numbers == config.fold
    return inside


def _folds(
    labels: Indices, groups: Indices, folds: int, stratified: bool, seed: int
) -> NDArray[np.int64]:
    """Return the fold number of each image."""
    from sklearn.model_selection import GroupKFold, StratifiedGroupKFold

    kind = StratifiedGroupKFold if stratified else GroupKFold
    # RandomState's streams are frozen (NEP 19), and accept any seed through MT19937.
    random = np.random.RandomState(np.random.MT19937(seed))
    splitter = kind(folds, shuffle=True, random_state=random)
    numbers = np.zeros(len(labels), np.int64)
    with warnings.catch_warnings(action="ignore"):  # of classes with fewer images than folds
        for number, (_, inside) in enumerate(splitter.split(labels, labels, groups)):
            numbers[inside] = number
    return numbers
