"""What every finished run's ``result.json`` holds, and whether one of them does.

Another version of tinylab, an editor or a half copied file may have left something else.
"""

import math
from collections.abc import Sequence
from typing import Any

from tinylab.config.values import is_number

# Figure of a run -> where it stands in ``result.json``. Accuracies are shares, losses nats, times
# seconds.
FIGURES = {
    "val_accuracy": ("val", "accuracy"),
    "val_loss": ("val", "loss"),
    "test_accuracy": ("test", "accuracy"),
    "test_loss": ("test", "loss"),
    "seconds": ("seconds", "train"),
    "parameters": ("num_parameters",),
}
# What else is read from a result: numbers above 0, and values of other types.
SIZES = (("dataset", "num_train"), ("dataset", "num_test"))
NEEDED: dict[tuple[str, ...], type] = {
    ("config", "dataset", "name"): str, ("config", "model", "name"): str,
    ("config", "optim", "name"): str, ("config", "split", "seed"): int,
    ("config", "split", "fold"): int, ("config", "seed"): int, ("dataset", "name"): str,
    ("dataset", "classes"): list, ("dataset", "fingerprint"): str, ("split_sha256",): str,
    ("environment", "code_sha256"): str, ("best_epoch",): int, ("epochs",): int,
}  # fmt: skip
INTERVAL = ("test", "accuracy_ci95")


def fault(result: dict[str, Any]) -> str | None:
    """What keeps a result from being read by this version; None where nothing does."""
    for keys in (*NEEDED, *SIZES, *FIGURES.values(), INTERVAL):
        if not _is_right(result, keys):
            return f"its result.json is not tinylab's: {'.'.join(keys)} is missing or wrong"
    return None


def lookup(result: dict[str, Any], keys: Sequence[str]) -> Any:
    """A value inside nested objects; None where it is not there."""
    value: Any = result
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _is_right(result: dict[str, Any], keys: tuple[str, ...]) -> bool:
    """Whether a value is there and can be reckoned with; a run may have no validation set."""
    value = lookup(result, keys)
    if keys in NEEDED:
        return isinstance(value, NEEDED[keys])
    if keys == INTERVAL:
        return isinstance(value, list) and len(value) == 2 and all(map(_is_finite, value))
    if keys[0] == "val" and "val" in result and result["val"] is None:
        return True
    if not _is_finite(value):
        return False
    return 0 <= value <= 1 if keys[-1] == "accuracy" else value > 0 or keys not in SIZES


def _is_finite(value: Any) -> bool:
    return is_number(value) and math.isfinite(value)
