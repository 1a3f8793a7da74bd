"""Pruning: which settings of a search are hopeless compared to others after the same work.

A setting's *step* is its progress: epoch ``e`` of repeat ``r`` (from 0) is step ``r * stride + e``,
and its end step ``(r + 1) * stride``, where no setting has more than ``stride`` epochs. Equal steps
are therefore the same repeat and epoch. The value at a step is the mean over the repeats so far,
including the current one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

LEAST_FINISHED = 5  # settings needed for a median
FIRST_EPOCH = 2  # epochs of a repeat before the median applies
REDUCTION = 3  # of halving: the fraction of settings kept at each rung is 1 / this


@dataclass(frozen=True)
class Others:
    """The values of other settings by step, larger is better.

    ``finished``: of settings that have finished all repeats. ``all``: of all settings.
    """

    finished: Sequence[Mapping[int, float]]
    all: Sequence[Mapping[int, float]]


def is_hopeless(
    prune: str, values: Mapping[int, float], step: int, stride: int, others: Others
) -> bool:
    """Return whether to prune a setting at ``step``. ``values``: its own, by step.

    median: worse in all epochs of this repeat than the median at this step of at least five
    finished settings, from the second epoch of a repeat on. halving: not in the best third of those
    that reached step 1, 3, 9, ... (asynchronous successive halving, Li et al., MLSys 2020).
    """
    if prune == "median":
        epoch = (step - 1) % stride + 1
        known = [each[step] for each in others.finished if step in each]
        is_early = epoch < min(FIRST_EPOCH, stride)
        if len(known) < LEAST_FINISHED or is_early:
            return False
        return max(values[each] for each in values if step - epoch < each <= step) < median(known)
    if prune == "halving" and is_rung(step):
        at_rung = sorted((each[step] for each in others.all if step in each), reverse=True)
        num_kept = max(1, (len(at_rung) + 1) // REDUCTION)
        return sum(value > values[step] for value in at_rung) >= num_kept
    return False


def is_rung(step: int) -> bool:
    """Return whether a step is a power of three."""
    while step % REDUCTION == 0:
        step //= REDUCTION
    return step == 1
