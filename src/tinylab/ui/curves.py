"""What a learning curve shows, in words, for the screen, the report and the model card."""

import math
from collections.abc import Mapping, Sequence
from statistics import fmean, median
from typing import Any

WINDOW = 3  # epochs to average: a single epoch may be an outlier
CHANGE = 0.1  # relative change of the validation loss that is reported
NOISE = 4.0  # standard deviations of the noise of one epoch, likewise


def reading(history: Sequence[Mapping[str, Any]]) -> str | None:
    """Return whether the validation loss rises again, or is still falling; None for neither.

    ``history``: the rows of the epochs. The rule: the mean of the last 3 epochs is compared with
    that of the 3 around the best one (overfitting; the training loss must have fallen since), or
    with that of the 3 before (still falling). The two must differ by more than 10% and by more than
    4 standard deviations of an epoch's noise, estimated from the second differences of the loss, in
    which a steady trend cancels out. None for 2 x WINDOW epochs or fewer, without a validation set,
    and for non-finite losses.
    """
    if not all(isinstance(row, Mapping) for row in history):
        return None  # a damaged file
    loss, train_loss = _column(history, "val_loss"), _column(history, "train_loss")
    if len(loss) <= 2 * WINDOW or not all(map(math.isfinite, [*loss, *train_loss])):
        return None
    best = min(range(len(loss)), key=lambda epoch: loss[epoch])
    least = NOISE * _noise(loss)
    last = fmean(loss[-WINDOW:])
    lowest = fmean(loss[max(best - 1, 0) : best + 2])
    rise, fall = last - lowest, fmean(loss[-2 * WINDOW : -WINDOW]) - last
    is_over = best < len(loss) - WINDOW and fmean(train_loss[-WINDOW:]) < train_loss[best]
    if is_over and rise > max(least, CHANGE * lowest):
        accuracy = max(row.get("train_accuracy") or 0.0 for row in history)
        return (
            f"validation loss was best at epoch {history[best]['epoch']} ({loss[best]:.3g}) and "
            f"has risen to {loss[-1]:.3g} since, while training accuracy reached "
            f"{math.floor(1000 * accuracy) / 10:g}%: overfitting"
        )
    if fall > max(least, CHANGE * last):
        return (
            f"validation loss was still falling at the last epoch ({loss[-1]:.3g}): more epochs "
            "may lower it further"
        )
    return None


def _column(history: Sequence[Mapping[str, Any]], name: str) -> list[float]:
    """Return a column of the history; NaN where a row has no value."""
    return [math.nan if row.get(name) is None else row[name] for row in history]


def _noise(loss: Sequence[float]) -> float:
    """The standard deviation of independent normal noise on a steady trend.

    Second differences then have sqrt(6) times its standard deviation; the median absolute value of
    a normal variable is 0.6745 standard deviations.
    """
    differences = [a - 2 * b + c for a, b, c in zip(loss, loss[1:], loss[2:], strict=False)]
    return median(map(abs, differences)) / (0.6745 * math.sqrt(6))
