"""Combinations of values: in which order repeats run, and whether a typed value is another's."""

import itertools
from collections import Counter
from collections.abc import Sequence

from tinylab.config.overrides import typed
from tinylab.config.values import is_number


def repeats_in_order(axes: Sequence[Sequence[dict[str, str]]]) -> tuple[dict[str, str], ...]:
    """Every combination of seeds, the first ones as unlike as can be.

    axes: for each axis of seeds what its values set. Repeats that share a split or a seed share
    its luck, so the mean of the first few tells most where each has a split and a seed of its
    own: next comes the combination whose values have been used least, the first of equals.
    """
    waiting = list(itertools.product(*(range(len(axis)) for axis in axes)))
    used: Counter[tuple[int, int]] = Counter()
    ordered = []
    while waiting:
        chosen = min(waiting, key=lambda each: sum(used[place] for place in enumerate(each)))
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
    """Whether a value as it is typed (``0.10``, ``'a'``) is the value of a YAML file."""
    if is_number(value):
        try:
            return float(text) == value
        except ValueError:
            return False
    return text.strip("'\"") == typed(value).strip("'\"")
