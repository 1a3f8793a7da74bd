"""Which settings of a search are hopeless, judged by what others had after the same work.

A setting's *step* is how far its repeats are: epoch ``e`` of repeat ``r`` (from 0) is step
``r * stride + e``, and its end step ``(r + 1) * stride``, where no setting has more than ``stride``
epochs. So equal steps are the same repeat and epoch. The value at a step is the mean over the
repeats so far, the last one as far as it is.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

LEAST_FINISHED = 5  # settings, before the median of them is believed
FIRST_EPOCH = 2  # of a repeat, after which its median is looked at
REDUCTION = 3  # of halving: one in so many settings is kept at each rung


@dataclass(frozen=True)
class Others:
    """What the other settings had, the larger the better: values by step.

    ``finished``: of those that have finished all repeats. ``all``: of every one.
    """

    finished: Sequence[Mapping[int, float]]
    all: Sequence[Mapping[int, float]]


def is_hopeless(
    prune: str, values: Mapping[int, float], step: int, stride: int, others: Others
) -> bool:
    """Whether a setting that has got to ``step`` is to be given up. ``values``: its own, by step.

    median: in all epochs of this repeat worse than the median at this step of five or more
    finished settings, from the second epoch of a repeat on. halving: not among the best third of
    those that got to step 1, 3, 9, ... (asynchronous successive halving, Li et al., MLSys 2020).
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
        places = max(1, (len(at_rung) + 1) // REDUCTION)
        return sum(value > values[step] for value in at_rung) >= places
    return False


def is_rung(step: int) -> bool:
    """Whether a step is a power of three."""
    while step % REDUCTION == 0:
        step //= REDUCTION
    return step == 1
