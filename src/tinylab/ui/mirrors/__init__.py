"""A mirror of a run in another tracking service: keys, metrics by epoch, final metrics, figures.

It is never needed and never read: the store of runs is their folders. What fails in it is said
once and costs no training.
"""

import contextlib
import importlib
import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tinylab.errors import UserError
from tinylab.ui.console import say
from tinylab.ui.tensorboard import Row, tag_of

NONE = "none"
SERVICES = {"mlflow": "MLflow", "wandb": "Weights & Biases"}  # the package -> its name
PROJECT = "tinylab"  # of runs for which the service's own variables name none


def require(service: str, asked: str) -> None:
    """Raise UserError where the package of a service, asked for in these words, is absent."""
    if service != NONE and importlib.util.find_spec(service) is None:
        raise UserError(
            f"{asked}: the package {service} is not installed\n  pip install 'tinylab[{service}]'"
        )


class Mirror:
    """One run in one service; with the service ``none`` nothing is done."""

    def __init__(self, service: str, name: str, keys: Mapping[str, Any]) -> None:
        self._service = service
        self._backend: Any = None
        with self._spared():
            if service != NONE:
                module = importlib.import_module(f"tinylab.ui.mirrors.to_{service}")
                self._backend = module.Backend(PROJECT, name, dict(keys))

    @property
    def is_whole(self) -> bool:
        """Whether all so far has arrived."""
        return self._backend is not None

    def log(self, row: Row) -> None:
        """Send the curves of one epoch, under TensorBoard's tags."""
        values = {
            tag: float(value)
            for name, value in row.items()
            if value is not None and (tag := tag_of(name)) is not None
        }
        with self._spared():
            if self._backend is not None:
                self._backend.log(values, row["step"], row["time"])

    def finish(
        self, finals: Mapping[str, float | None], step: int, figures: Sequence[Path]
    ) -> None:
        """Send the final metrics by their tags and the figures that are there; end the run."""
        values = {tag: value for tag, value in finals.items() if value is not None}
        with self._spared():
            if self._backend is not None:
                self._backend.finish(values, step, [each for each in figures if each.exists()])

    def close(self) -> None:
        """End a run that was stopped or has failed."""
        with self._spared():
            if self._backend is not None:
                self._backend.close()

    @contextlib.contextmanager
    def _spared(self) -> Iterator[None]:
        """What fails in the block is said, and nothing more is sent."""
        try:
            yield
        except Exception as error:
            self._backend = None
            why = f"{type(error).__name__}: {error}".partition("\n")[0]
            say(f"no longer sending to {SERVICES[self._service]} ({why}); the run continues")
