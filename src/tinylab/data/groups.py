"""Images that belong together (of one writer, patient, camera), and splits that keep them so.

A group of every image comes from a column of ``labels.csv`` or from a pattern over file names, and
is written as the index of its first image: int64 (N,), as of duplicates.
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
from tinylab.data.arrays import Images
from tinylab.data.listing import TABLE
from tinylab.errors import UserError
from tinylab.system.paths import user_path

Indices = NDArray[np.int64]
Mask = NDArray[np.bool_]
MOST_FOLDS = 20  # of which a stratified share is made up


def of(data: Images, dataset: DatasetConfig, group: str | None) -> Indices | None:
    """The group of each image, int64 (N,); None where ``group`` is.

    A text with a parenthesis is a regular expression that is searched in the file names, and its
    one group tells the images' groups apart; any other text names a column. Raises UserError where
    the data has no file names or no such column, a name does not match, or there is one group.
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
            f"split.group={group}: all {len(texts):,} images are of one group, {texts[0]}\n"
            "  expected two or more, so that one can be held out"
        )
    return first[inverse].astype(np.int64)


def _matched(names: tuple[str, ...], pattern: str) -> list[str]:
    found = [re.search(pattern, name) for name in names]
    strange = [name for name, match in zip(names, found, strict=True) if not (match and match[1])]
    if strange:
        raise UserError(
            f"split.group={pattern}: no group in {len(strange):,} of {len(names):,} file names\n"
            f"  expected a pattern that is found in each of them, such as in {strange[0]}"
        )
    return [match[1] for match in found if match]


def _folder(dataset: DatasetConfig, group: str) -> Path:
    """The folder of ``labels.csv``."""
    place = options.of(dataset).place(dataset)
    folder = None if place is None else user_path(place)
    if folder is None or not (folder / TABLE).is_file():
        raise UserError(
            f"split.group={group}: a column of {TABLE}, and {dataset.name} has none here\n"
            r"  expected a pattern over file names with one group, such as '(writer\d+)_'"
        )
    return folder


def digest(content: str, dataset: DatasetConfig, group: str) -> str:
    """What the data is, with a column that decides who is where. Raises UserError as ``of``."""
    column = label_table.column(_folder(dataset, group), group)
    total = hashlib.sha256(content.encode())
    for name, value in sorted(column.items()):
        total.update(f"\0{name}\0{value}".encode("utf-8", "surrogateescape"))
    return total.hexdigest()[:32]


def joined(first: Indices, second: Indices) -> Indices:
    """The groups of images that share a group of either kind, directly or through others."""
    N = len(first)
    found = np.arange(N)
    while True:
        before = found
        for kind in (first, second):
            lowest = np.full(N, N)
            np.minimum.at(lowest, kind, found)
            found = lowest[kind]
        if (found == before).all():
            return found


def take(
    pool: Indices, labels: Indices, groups: Indices, share: float, config: SplitConfig
) -> tuple[Indices, Indices]:
    """Groups with about ``share`` of the images of ``pool``, and the rest.

    In the random order of the split seed the first groups are taken whose images come nearest to
    the share: at least one group, and never all. If stratified, some of the folds of scikit-learn's
    StratifiedGroupKFold are taken. Raises UserError where there are fewer than two groups.
    """
    if share == 0:
        return pool[:0], pool
    own, sizes = np.unique(groups[pool], return_counts=True)
    if len(own) < 2:
        raise UserError(
            f"split.group={config.group}: {len(own)} group is left to be divided\n"
            "  expected one for each part at least; split.val=0 saves one"
        )
    if config.stratified:
        inside = _stratified_share(labels[pool], groups[pool], share, config.seed)
        return pool[inside], pool[~inside]
    order = np.argsort(_places(groups, config.seed)[own])
    reached = np.cumsum(sizes[order])
    count = int(np.abs(reached - share * len(pool)).argmin()) + 1
    inside = np.isin(groups[pool], own[order[: min(count, len(own) - 1)]])
    return pool[inside], pool[~inside]


def _places(groups: Indices, seed: int) -> Indices:
    """For each group, by its number, its place in the random order of all. int64 (N,)."""
    every = np.unique(groups)
    places = np.zeros(len(groups), np.int64)
    places[every] = np.argsort(np.random.PCG64(seed).random_raw(len(every)), kind="stable")
    return places


def _stratified_share(labels: Indices, groups: Indices, share: float, seed: int) -> Mask:
    most = min(MOST_FOLDS, len(np.unique(groups)))
    near = Fraction(share).limit_denominator(most)
    folds, taken = max(near.denominator, 2), near.numerator
    if taken == 0:
        folds, taken = most, 1
    numbers = _folds(labels, groups, folds, True, seed)
    inside: Mask = numbers < min(taken, folds - 1)
    return inside


def fold(pool: Indices, labels: Indices, groups: Indices, config: SplitConfig) -> Mask:
    """Whether each of ``pool`` is in the fold that is held out: bool (len(pool),).

    scikit-learn's GroupKFold, or StratifiedGroupKFold if stratified, shuffled by the split seed.
    Raises UserError where there are fewer groups than folds.
    """
    assert config.folds is not None
    count = len(np.unique(groups[pool]))
    if count < config.folds:
        raise UserError(
            f"split.folds={config.folds}: split.group={config.group} makes {count} groups\n"
            f"  expected at most {count} folds"
        )
    numbers = _folds(labels[pool], groups[pool], config.folds, config.stratified, config.seed)
    inside: Mask = numbers == config.fold
    return inside


def _folds(
    labels: Indices, groups: Indices, folds: int, stratified: bool, seed: int
) -> NDArray[np.int64]:
    """The number of each image's fold."""
    from sklearn.model_selection import GroupKFold, StratifiedGroupKFold

    kind = StratifiedGroupKFold if stratified else GroupKFold
    # RandomState's streams are frozen (NEP 19), and take any seed through MT19937.
    random = np.random.RandomState(np.random.MT19937(seed))
    splitter = kind(folds, shuffle=True, random_state=random)
    numbers = np.zeros(len(labels), np.int64)
    with warnings.catch_warnings(action="ignore"):  # of classes with fewer images than folds
        for number, (_, inside) in enumerate(splitter.split(labels, labels, groups)):
            numbers[inside] = number
    return numbers
