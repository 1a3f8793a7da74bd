"""Weights & Biases, set up by its own variables: WANDB_PROJECT, WANDB_MODE=offline etc."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import wandb

PATIENCE = 30.0  # seconds for the service to respond at the start


class Backend:
    """A run; what an older mirror of the same run already has is not sent again."""

    def __init__(self, project: str, name: str, keys: Mapping[str, Any]) -> None:
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", project),
            id=name,
            name=name,
            config=dict(keys),
            resume="allow",
            settings=wandb.Settings(silent=True, console="off", init_timeout=PATIENCE),
        )

    def log(self, values: Mapping[str, float], step: int, time: float) -> None:
        """Log the values of one step by tag; ``time`` in seconds since 1970."""
        self._run.log({**values, "_timestamp": time}, step=step)

    def finish(self, values: Mapping[str, float], step: int, figures: Sequence[Path]) -> None:
        """Log the final values in the summary, and figures as pictures."""
        self._run.summary.update(dict(values))
        pictures = {figure.stem: wandb.Image(str(figure)) for figure in figures}
        if pictures:
            self._run.log(pictures, step=step)
        self._run.finish()

    def close(self) -> None:
        """End the run early."""
        self._run.finish(exit_code=1)
