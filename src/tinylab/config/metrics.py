"""The metrics of a run: one table of their places in a result, and their formats.

Tracking, list, compare, report, sweep and export read this table; ``training/metrics.py`` computes
the values. Does not import NumPy.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Metric:
    """A metric of a run.

    path: its keys in a result. label: its readable name. format: of a value. better: ``higher`` or
    ``lower``; empty if neither is better. tag: of its final value in TensorBoard. is_own: whether
    it is defined by user code.
    """

    path: tuple[str, ...]
    label: str
    format: str
    better: str = ""
    tag: str = ""
    is_own: bool = False

    @property
    def is_fraction(self) -> bool:
        """Whether its values lie between 0 and 1, and are shown in percent."""
        return self.format.endswith("%}")


# Validation metrics, in the row of every epoch, by which an epoch, run or setting can be selected.
# Lists, since the user's own metrics are added.
MONITORED = ["accuracy", "loss", "balanced_accuracy", "macro_f1"]
CHOOSABLE = [f"val_{name}" for name in MONITORED]
PARTS = {"val": "validation", "test": "test"}
# For each evaluated part of the data: label, format, better.
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
NOT_FOR_SELECTION = "* not for selection: read it only for the setting selected by validation."
# Names that the user's own metrics cannot have: results and histories use them.
TAKEN = (*_OF_A_PART, "num", "accuracy_ci95", "per_class_recall", "confusion", "extra")


def join(name: str, better: str) -> None:
    """Register a user's own metric for the lifetime of the process."""
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
    """Return whether a metric is defined by user code."""
    return name not in _OF_A_PART


def goodness(values: Mapping[str, float | None], name: str) -> tuple[float, float]:
    """Return a sort key for a metric in CHOOSABLE, larger is better, from ``values`` by name.

    Ties are broken by the loss, or by the accuracy if the metric is the loss. A missing value,
    possible for the user's own metrics, is the worst.
    """
    tie = "val_accuracy" if name == "val_loss" else "val_loss"
    first, second = (_good(values.get(key), METRICS[key].better) for key in (name, tie))
    return first, second


def _good(value: float | None, better: str) -> float:
    if value is None:
        return -math.inf
    return -value if better == "lower" else value
