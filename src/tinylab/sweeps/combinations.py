"""Combinations of values: the order of repeats, and comparison of typed values."""

import itertools
from collections import Counter
from collections.abc import Sequence

from tinylab.config.overrides import typed
from tinylab.config.values import is_number


def repeats_in_order(axes: Sequence[Sequence[dict[str, str]]]) -> tuple[dict[str, str], ...]:
    """Return every combination of seeds, most different ones first.

    axes: the overrides of each value, for each axis of seeds. Repeats that share a split or a seed
    are not independent, so the mean of the first few is most informative if each has its own split
    and seed: the next combination is the one whose values have been used least, the first among
    equals.
    """
    waiting = list(itertools.product(*(range(len(axis)) for axis in axes)))
    used: Counter[tuple[int, int]] = Counter()
    ordered = []
    while waiting:
        chosen = min(waiting, key=lambda each: sum(used[pair] for pair in enumerate(each)))
        waiting.remove(chosen)
        used.update(enumerate(chosen))
        ordered.append(chosen)
    return tuple(
        {
            key: text
            for axis, value in zip(axes, each, strict=True)
            for key, text in axis[value].items()
        }
        for each in ordered
    )


def is_value(text: str, value: object) -> bool:
    """Return whether a value as typed (``0.10``, ``'a'``) equals a value of a YAML file."""
    if is_number(value):
        try:
            return float(text) == value
        except ValueError:
            return False
    return text.strip("'\"") == typed(value).strip("'\"")
