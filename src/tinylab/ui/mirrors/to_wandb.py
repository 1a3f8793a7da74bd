"""Weights & Biases: as its variables say, such as WANDB_PROJECT and WANDB_MODE=offline."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import wandb

PATIENCE = 30.0  # seconds for the service to answer at the start


class Backend:
    """One run; what an older mirror of the same run has already is not sent again."""

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
        """Values of one step, by their tags; ``time`` in seconds since 1970."""
        self._run.log({**values, "_timestamp": time}, step=step)

    def finish(self, values: Mapping[str, float], step: int, figures: Sequence[Path]) -> None:
        """The final values, in the summary, and figures as pictures."""
        self._run.summary.update(dict(values))
        pictures = {figure.stem: wandb.Image(str(figure)) for figure in figures}
        if pictures:
            self._run.log(pictures, step=step)
        self._run.finish()

    def close(self) -> None:
        """The run has ended before its end."""
        self._run.finish(exit_code=1)
