"""The metrics of a run: one table of where each stands in a result, and of how it is shown.

Tracking, list, compare, report, sweep and export read this table; ``training/metrics.py`` computes
the values. No NumPy in here.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Metric:
    """A number that says how a run went.

    path: its keys in a result. label: its name in words. format: of one value. better: ``higher``
    or ``lower``; empty where neither is better. tag: of its final value in TensorBoard. is_own: of
    the user's code.
    """

    path: tuple[str, ...]
    label: str
    format: str
    better: str = ""
    tag: str = ""
    is_own: bool = False


# Of validation, in the row of every epoch: what an epoch, a run or a setting may be chosen by.
# Lists, since metrics of the user's own join them.
MONITORED = ["accuracy", "loss", "balanced_accuracy", "macro_f1"]
CHOOSABLE = [f"val_{name}" for name in MONITORED]
PARTS = {"val": "validation", "test": "test"}
# Of each evaluated part of the data: label, format, better.
_OF_A_PART = {
    "accuracy": ("accuracy", "{:.2%}", "higher"),
    "loss": ("loss", "{:.4f}", "lower"),
    "balanced_accuracy": ("balanced accuracy", "{:.2%}", "higher"),
    "macro_f1": ("macro F1", "{:.2%}", "higher"),
    "top5_accuracy": ("top-5 accuracy", "{:.2%}", "higher"),
    "nll": ("negative log-likelihood", "{:.4f}", "lower"),
    "ece": ("expected calibration error", "{:.2%}", "lower"),
}
METRICS = {
    f"{part}_{name}": Metric((part, name), f"{words} {label}", form, better, f"final/{part}_{name}")
    for part, words in PARTS.items()
    for name, (label, form, better) in _OF_A_PART.items()
} | {
    "seconds": Metric(("seconds", "train"), "training time", "{:,.1f} s"),
    "parameters": Metric(("num_parameters",), "parameters", "{:,.0f}"),
}
# Names that a metric of the user's own cannot have: results and histories have them already.
TAKEN = (*_OF_A_PART, "num", "accuracy_ci95", "per_class_recall", "confusion", "extra")


def join(name: str, better: str) -> None:
    """Make a metric of the user's own part of the table, for as long as the process lives."""
    for part, words in PARTS.items():
        METRICS[f"{part}_{name}"] = Metric(
            (part, name), f"{words} {name}", "{:.4f}", better, f"final/{part}_{name}", is_own=True
        )
    if name not in MONITORED:
        MONITORED.append(name)
        CHOOSABLE.append(f"val_{name}")


def between(low: float, high: float, form: str = "{:.2%}") -> str:
    """The ends of an interval, as in ``96.02–99.69``: percent signs are left to the value."""
    return "–".join(form.format(end).removesuffix("%") for end in (low, high))


def with_interval(accuracy: float, low: float, high: float) -> str:
    """An accuracy and its interval, as in ``98.88% (95% CI 96.02–99.69)``."""
    return f"{accuracy:.2%} (95% CI {between(low, high)})"


def is_own(name: str) -> bool:
    """Whether a metric is of the user's code."""
    return name not in _OF_A_PART


def goodness(values: Mapping[str, float | None], name: str) -> tuple[float, float]:
    """A key that sorts by a metric in CHOOSABLE, larger is better, from ``values`` by their names.

    Between equals the loss decides, and the accuracy where the metric is the loss. What has no
    value, as a metric of the user's own may, is the worst.
    """
    tie = "val_accuracy" if name == "val_loss" else "val_loss"
    first, second = (_good(values.get(key), METRICS[key].better) for key in (name, tie))
    return first, second


def _good(value: float | None, better: str) -> float:
    if value is None:
        return -math.inf
    return -value if better == "lower" else value
