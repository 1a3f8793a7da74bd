"""The user's own metrics: tried before training, and computed with the built-in ones."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinylab.config import options
from tinylab.config.user_code import message_of
from tinylab.errors import UserError
from tinylab.ui.console import say

TRIED = 8  # made-up items, or two per class

Function = Callable[[NDArray[np.int64], NDArray[np.float64]], Any]


@dataclass(frozen=True)
class OwnMetrics:
    """The functions by name, and which of them have failed to return a value."""

    functions: Mapping[str, Function] = field(default_factory=dict)
    failed: set[str] = field(default_factory=set)

    def of(
        self, labels: NDArray[np.int64], probabilities: NDArray[np.float64]
    ) -> dict[str, float | None]:
        """Return the values by name. labels: (N,). probabilities: (N, num_classes).

        A metric that raises or does not return a finite number has the value None, with a single
        warning: a metric that only describes a result must not cost it.
        """
        return {name: self._value(name, labels, probabilities) for name in self.functions}

    def _value(
        self, name: str, labels: NDArray[np.int64], probabilities: NDArray[np.float64]
    ) -> float | None:
        try:
            # Copies, since the labels are the training's own.
            given = self.functions[name](labels.copy(), probabilities.copy())
            number = _number(given)
            why = f"{given!r}, not a finite number".replace("\n", " ")
        except Exception as error:
            number, why = None, " ".join((message_of(error) or repr(error)).split())
        if number is not None and np.isfinite(number):
            return number
        if name not in self.failed:
            self.failed.add(name)
            say(f"warning: metric {name} has no value: {why}")
        return None


def load(num_classes: int) -> OwnMetrics:
    """Return the metrics that the user's files declare, after trying each on made-up data.

    Raises UserError, with the traceback of the user's file, for one that raises on them, or does
    not return a number.
    """
    functions = {}
    for name, option in options.options("metric").items():
        function = functions[name] = option.load()
        try:
            given = function(*_made_up(num_classes))
        except Exception as error:
            said = f"metric {name}"
            words = message_of(error, said) or f"{said}: {type(error).__name__}: {error}"
            raise UserError(words) from error
        if _number(given) is None:
            raise UserError(
                f"metric {name}: gives a {type(given).__name__} for labels (N,) and probabilities "
                f"(N, {num_classes})\n  expected a float; see {option.file}"
            )
    return OwnMetrics(functions)


def _made_up(num_classes: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return some items per class, mostly predicted correctly."""
    labels = np.arange(max(TRIED, 2 * num_classes)) % num_classes
    scores = np.random.default_rng(0).random((len(labels), num_classes))
    scores[np.arange(len(labels)), labels] += 0.5
    return labels.astype(np.int64), scores / scores.sum(axis=1, keepdims=True)


def _number(value: Any) -> float | None:
    """Return a value as a float; None if it is not a single number."""
    try:
        return None if isinstance(value, str) else float(value)
    except (TypeError, ValueError):
        return None
