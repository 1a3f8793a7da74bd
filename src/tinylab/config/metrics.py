"""The metrics of a run: one table of where each stands in a result, and of how it is shown.

Tracking, list, compare, report, sweep and export read this table; ``training/metrics.py`` computes
the values. No NumPy in here.
"""

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


METRICS = {
    "val_accuracy": Metric(
        ("val", "accuracy"), "validation accuracy", "{:.2%}", "higher", "final/val_accuracy"
    ),
    "val_loss": Metric(("val", "loss"), "validation loss", "{:.4f}", "lower", "final/val_loss"),
    "test_accuracy": Metric(
        ("test", "accuracy"), "test accuracy", "{:.2%}", "higher", "final/test_accuracy"
    ),
    "test_loss": Metric(("test", "loss"), "test loss", "{:.4f}", "lower", "final/test_loss"),
    "seconds": Metric(("seconds", "train"), "training time", "{:,.1f} s"),
    "parameters": Metric(("num_parameters",), "parameters", "{:,.0f}"),
}
