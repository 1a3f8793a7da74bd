"""A mirror of a run in a tracking service: config, metrics by epoch, final metrics, figures.

It is optional and write-only: the runs' folders are the only store. Failures are reported once and
do not stop the training.
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
SERVICES = {"mlflow": "MLflow", "wandb": "Weights & Biases"}  # package -> its name
PROJECT = "tinylab"  # project name of runs if the service's own variables set none


def require(service: str, asked: str) -> None:
    """Raise UserError if the package of a service, requested in these words, is missing."""
    if service != NONE and importlib.util.find_spec(service) is None:
        raise UserError(
            f"{asked}: the package {service} is not installed\n  pip install 'tinylab[{service}]'"
        )


class Mirror:
    """A run in a service; with the service ``none`` nothing is done."""

    def __init__(self, service: str, name: str, keys: Mapping[str, Any]) -> None:
        self._service = service
        self._backend: Any = None
        with self._spared():
            if service != NONE:
                module = importlib.import_module(f"tinylab.ui.mirrors.to_{service}")
                self._backend = module.Backend(PROJECT, name, dict(keys))

    @property
    def is_whole(self) -> bool:
        """Whether everything so far has arrived."""
        return self._backend is not None

    def log(self, row: Row) -> None:
        """Send the metrics of one epoch, under TensorBoard's tags."""
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
        """Send the final metrics by tag and the existing figures; end the run."""
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
        """Report a failure inside the block, and stop sending."""
        try:
            yield
        except Exception as error:
            self._backend = None
            why = f"{type(error).__name__}: {error}".partition("\n")[0]
            say(f"no longer sending to {SERVICES[self._service]} ({why}); the run continues")
