"""The train/val/test split: pure functions of labels, options and the split seed.

The random order comes from the raw 64-bit stream of NumPy's PCG64, which NumPy promises never to
change (NEP 19); ``Generator.permutation`` has no such promise. The same seed gives the same split
everywhere.
"""

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tinylab.config.schema import DEFAULT_VAL, SplitConfig
from tinylab.data import groups as grouped
from tinylab.errors import UserError

Indices = NDArray[np.int64]
DEFAULT_TEST = 0.1  # fraction of all images, without an official test set


@dataclass(frozen=True)
class Split:
    """Three disjoint, sorted sets of image indices. int64 (num_images,)."""

    train: Indices
    val: Indices
    test: Indices

    def sha256(self) -> str:
        """Return a hash of all three sets, equal on every platform."""
        digest = hashlib.sha256()
        for name in ("train", "val", "test"):
            indices = getattr(self, name)
            digest.update(f"{name}:{len(indices)}:".encode())
            digest.update(np.ascontiguousarray(indices, "<i8").data)
        return digest.hexdigest()


def permutation(count: int, seed: int) -> Indices:
    """Return a random order of 0 .. count - 1: the argsort of raw outputs of PCG64(seed)."""
    draws = np.random.PCG64(seed).random_raw(count)
    return np.argsort(draws, kind="stable")


def split(
    labels: Indices,
    num_official_test: int,
    config: SplitConfig,
    first_duplicates: Indices,
    num_official_val: int = 0,
    groups: Indices | None = None,
) -> Split:
    """Split the images by the options of ``config``.

    labels: int64 (N,), of which the last ``num_official_test`` are the official test set, and the
    ``num_official_val`` before them the official validation part, if ``keeps_official_val``.
    first_duplicates: int64 (N,), the first image with the same pixels, for ``group_duplicates``.
    groups: int64 (N,), the first image of the same group, for ``group``.

    Without an official test set, one permutation of all images is made and its first int(N * test)
    are the test set, as in the Keras tutorial. Of the rest, in the same order, the first int(rest *
    val) are for validation; so ``train_per_class`` includes the validation images. Raises UserError
    for options that the data cannot satisfy, or that leave a part empty.
    """
    N = len(labels)
    if not keeps_official_val(config, num_official_test > 0):
        num_official_val = 0  # duplicates or groups
    num_pool = N - num_official_test - num_official_val
    order = permutation(N, config.seed)
    pool = order[order < num_pool]
    official = np.arange(N - num_official_test, N)
    if groups is not None and config.group_duplicates:
        groups = grouped.joined(groups, first_duplicates)
    held_out, rest = _hold_out(pool, labels, num_official_test > 0, config, groups)
    if num_official_test > 0 and config.folds is not None:
        val, train, test = held_out, rest, official
    else:
        test = official if num_official_test > 0 else held_out
        if num_official_val > 0:
            val, train = np.arange(num_pool, num_pool + num_official_val), rest
        else:
            assert config.val is not None
            val, train = _take(rest, labels, config.val, config, groups)
    if config.group_duplicates or groups is not None:
        kept = num_official_val > 0, num_official_test > 0
        together = first_duplicates if groups is None else groups
        train, val, test = _group(train, val, test, together, *kept)
    if config.train_fraction < 1:
        ordered = order[np.isin(order, train)]
        train = _first(ordered, labels, config.train_fraction, config.stratified)
    result = Split(np.sort(train), np.sort(val), np.sort(test))
    _refuse_empty(result, labels, config)
    return result


def keeps_official_val(config: SplitConfig, has_official_test: bool) -> bool:
    """Return whether an official validation part is used, instead of a random one.

    Another fraction than the default needs a random one, and so do folds that serve as validation.
    """
    return config.val == DEFAULT_VAL and not (has_official_test and config.folds is not None)


def _hold_out(
    pool: Indices,
    labels: Indices,
    has_official_test: bool,
    config: SplitConfig,
    groups: Indices | None,
) -> tuple[Indices, Indices]:
    """Split ``pool`` into the held-out part and the rest, by whichever option applies."""
    if config.folds is not None:
        return _fold(pool, labels, config.folds, config, groups)
    if config.train_per_class is not None:
        return _per_class(pool, labels, config.train_per_class)
    if has_official_test:
        if config.test is not None:
            raise UserError(
                f"split.test={config.test}: this dataset has a fixed official test set; "
                "expected split.test=null"
            )
        return pool[:0], pool
    fraction = DEFAULT_TEST if config.test is None else config.test
    return _take(pool, labels, fraction, config, groups)


def _take(
    pool: Indices, labels: Indices, fraction: float, config: SplitConfig, groups: Indices | None
) -> tuple[Indices, Indices]:
    """Split off the first int(len(pool) * fraction) of ``pool``; by class if stratified."""
    if groups is not None:
        return grouped.take(pool, labels, groups, fraction, config)
    total = int(len(pool) * fraction)
    if not config.stratified:
        return pool[:total], pool[total:]
    rank, counts = _rank_in_class(pool, labels)
    # Largest remainder: each class gets its fraction rounded down, and the total is exact.
    exact = counts * (total / max(len(pool), 1))
    quota = np.floor(exact).astype(np.int64)
    short = total - int(quota.sum())
    quota[np.argsort(quota - exact, kind="stable")[:short]] += 1
    taken = rank < quota[labels[pool]]
    return pool[taken], pool[~taken]


def _first(train: Indices, labels: Indices, fraction: float, stratified: bool) -> Indices:
    """Return the first int(len(train) * fraction) images; by class if ``stratified``.

    Smaller fractions are subsets of larger ones, which the largest remainder of ``_take`` does not
    guarantee: a class may lose an image when the total grows (the Alabama paradox). So the images
    of all classes are put in one order by their position within the class (as in the
    Webster/Sainte-Lague method), starting with the first of every class.
    """
    total = int(len(train) * fraction)
    if not stratified:
        return train[:total]
    rank, counts = _rank_in_class(train, labels)
    position = np.where(rank == 0, 0.0, (rank + 0.5) / counts[labels[train]])
    return train[np.argsort(position, kind="stable")[:total]]


def _fold(
    pool: Indices, labels: Indices, folds: int, config: SplitConfig, groups: Indices | None
) -> tuple[Indices, Indices]:
    """Split off fold ``config.fold`` of nearly equal parts of ``pool``."""
    if groups is not None:
        inside = grouped.fold(pool, labels, groups, config)
        return pool[inside], pool[~inside]
    if len(pool) < folds:
        raise UserError(f"split.folds={folds}: expected at most {len(pool)}, the number of images")
    position = np.arange(len(pool))
    if config.stratified:
        # Dealing the images class by class balances the folds' sizes and classes.
        position = np.empty_like(position)
        position[np.argsort(labels[pool], kind="stable")] = np.arange(len(pool))
    inside = position % folds == config.fold
    return pool[inside], pool[~inside]


def _per_class(pool: Indices, labels: Indices, count: int) -> tuple[Indices, Indices]:
    """Return all but the first ``count`` of each class, and those first ones."""
    rank, counts = _rank_in_class(pool, labels)
    smallest = int(counts.min())
    if smallest < count:
        raise UserError(
            f"split.train_per_class={count}: the smallest class has {smallest} images; expected at "
            f"most {smallest}"
        )
    chosen = rank < count
    return pool[~chosen], pool[chosen]


def _rank_in_class(pool: Indices, labels: Indices) -> tuple[Indices, Indices]:
    """Return for each of ``pool`` how many of its class come before it, and the class's size."""
    classes = labels[pool]
    counts = np.bincount(classes, minlength=int(labels.max()) + 1)
    starts = np.cumsum(counts) - counts
    by_class = np.argsort(classes, kind="stable")
    rank = np.empty_like(classes)
    rank[by_class] = np.arange(len(pool)) - np.repeat(starts, counts)
    return rank, counts


def _group(
    train: Indices,
    val: Indices,
    test: Indices,
    first_duplicates: Indices,
    is_val_official: bool,
    is_test_official: bool,
) -> tuple[Indices, Indices, Indices]:
    """Move every image to the part of its first duplicate.

    Official parts stay complete: their duplicates in other parts are dropped, as are duplicates of
    the official test set in the official validation part.
    """
    side = np.full(len(first_duplicates), -1)
    for number, part in enumerate((train, val, test)):
        side[part] = number
    for number, part, is_official in ((2, test, is_test_official), (1, val, is_val_official)):
        if is_official:
            inside = np.isin(first_duplicates, first_duplicates[part[side[part] == number]])
            side[inside & (side != number) & (side != 2)] = -1
    kept = np.flatnonzero(side >= 0)
    # The first duplicate may itself be dropped: the first one in the split decides.
    _, first, inverse = np.unique(first_duplicates[kept], return_index=True, return_inverse=True)
    side[kept] = side[kept[first]][inverse]
    return tuple(np.flatnonzero(side == number) for number in range(3))  # type: ignore[return-value]


def _refuse_empty(result: Split, labels: Indices, config: SplitConfig) -> None:
    num_classes = int(labels.max()) + 1
    if len(result.test) == 0:
        asked = f"split.test={config.test or DEFAULT_TEST}", "a larger fraction"
        if config.train_per_class is not None:
            asked = f"split.train_per_class={config.train_per_class}", "fewer"
        raise UserError(
            f"{asked[0]}: none of {len(labels)} images is left for testing; expected {asked[1]}"
        )
    if len(result.val) == 0 and config.val:
        raise UserError(
            f"split.val={config.val}: of {len(result.train)} images, none is left for validation; "
            "expected a larger fraction, or 0"
        )
    if len(result.train) < num_classes and config.train_fraction < 1:
        raise UserError(
            f"split.train_fraction={config.train_fraction:g}: {len(result.train)} training images "
            f"for {num_classes} classes; expected a larger fraction"
        )
    if len(result.train) < num_classes and config.group is not None:
        raise UserError(
            f"split.group={config.group}: {len(result.train)} training images for {num_classes} "
            "classes are in none of the other parts' groups\n  expected more groups, or a smaller "
            "split.test and split.val"
        )
    if len(result.train) < num_classes:
        raise UserError(
            f"{len(result.train)} training images for {num_classes} classes: expected at least "
            "one image per class; add images, or lower split.val and split.test"
        )


def count_shared(result: Split, first_duplicates: Indices) -> dict[str, int]:
    """Count the validation and test images that have a duplicate outside their part."""
    train = first_duplicates[result.train]
    val, test = first_duplicates[result.val], first_duplicates[result.test]
    return {
        "val_in_train": int(np.isin(val, train).sum()),
        "test_in_train": int(np.isin(test, train).sum()),
        "test_in_val": int(np.isin(test, val).sum()),
    }
