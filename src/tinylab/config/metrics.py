"""The metrics of a run: one table of where each stands in a result, and of how it is shown.

Tracking, list, compare, report, sweep and export read this table; ``training/metrics.py`` computes
the values. No NumPy in here.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Metric:
    """A number that says how a run went.

    path: its keys in a result. label: its name in words. format: of one value. better: ``higher``
    or ``lower``; empty where neither is better. tag: of its final value in TensorBoard.
    """

    path: tuple[str, ...]
    label: str
    format: str
    better: str = ""
    tag: str = ""


# Of validation, in the row of every epoch: what an epoch, a run or a setting may be chosen by.
MONITORED = ("accuracy", "loss", "balanced_accuracy", "macro_f1")
CHOOSABLE = tuple(f"val_{name}" for name in MONITORED)
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
    for part, words in (("val", "validation"), ("test", "test"))
    for name, (label, form, better) in _OF_A_PART.items()
} | {
    "seconds": Metric(("seconds", "train"), "training time", "{:,.1f} s"),
    "parameters": Metric(("num_parameters",), "parameters", "{:,.0f}"),
}


def goodness(values: Mapping[str, float], name: str) -> tuple[float, float]:
    """A key that sorts by a metric in CHOOSABLE, larger is better, from ``values`` by their names.

    Between equals the loss decides, and the accuracy where the metric is the loss.
    """
    tie = "val_accuracy" if name == "val_loss" else "val_loss"
    first, second = (
        -values[key] if METRICS[key].better == "lower" else values[key] for key in (name, tie)
    )
    return first, second
