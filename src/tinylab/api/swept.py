"""A sweep in Python: ``tinylab train -m`` in its own process, and its results.

A separate process, since a sweep's worker processes would re-import the script that started it, and
Hydra's entry point for sweeps changes logging, global state and ``sys.argv``.
"""

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from tinylab.api.frames import pandas
from tinylab.api.trained import TrainedRun
from tinylab.config.compose import compose_plain
from tinylab.config.metrics import PARTS, TAKEN
from tinylab.config.overrides import checked, parse
from tinylab.errors import UserError
from tinylab.store.collect import collect
from tinylab.store.sweep import SweepFolder, made_by
from tinylab.ui.console import is_terminal

if TYPE_CHECKING:
    from pandas import DataFrame

SHOWN = ("val_accuracy", "val_loss", "test_accuracy")  # of the metrics, in a notebook
UNSHOWN = ("test_low", "test_high", "best_epoch", "epochs")
DECIDE_OUTPUTS = ("outputs", "experiment", "sweep")  # the overrides that can set the outputs folder


@dataclass(frozen=True)
class Sweep:
    """A finished sweep; its runs also appear in ``tinylab list``."""

    path: Path

    @property
    def runs(self) -> list[TrainedRun]:
        """The finished runs, in the order of the sweep."""
        return [TrainedRun(run) for run in collect([self.path])[0]]

    @property
    def leaderboard(self) -> "DataFrame":
        """One row per job, best validation first: values, state, metrics and run id.

        For a search over seeds, one row per setting with means over the seeds.
        """
        try:
            return pandas().read_csv(SweepFolder(self.path).table_file)
        except OSError as error:
            raise UserError(f"{error.filename}: cannot be read ({error.strerror})") from error

    @property
    def best(self) -> TrainedRun:
        """The best run by validation. Raises UserError without validation images."""
        from tinylab.inference import the_run

        return TrainedRun(the_run(self.path))

    def _repr_html_(self) -> str:
        """For notebooks: the leaderboard, as wide as a cell is; ``leaderboard`` has all columns."""
        table = self.leaderboard
        words = [word.partition("=") for word in SweepFolder(self.path).arguments() or []]
        ranked = [value for key, _, value in words if key == "sweep.metric"]
        all_metrics = [f"{part}_{name}" for part in PARTS for name in TAKEN]
        dropped = {*all_metrics, *UNSHOWN} - {*SHOWN, *ranked}
        if (table["state"] == "finished").all():
            dropped.add("state")
        shown = table.drop(columns=[*dropped], errors="ignore")
        return str(shown.to_html(index=False, float_format=lambda value: f"{value:.4g}"))


def run_sweep(arguments: Sequence[str]) -> Sweep:
    """Run ``tinylab train -m`` with these arguments and show its output.

    Raises UserError for invalid arguments, and at the end if a job failed; KeyboardInterrupt after
    an interrupt, with the state of every job saved.
    """
    flagged = checked(["-m", *arguments])[1:]
    outputs = _outputs(flagged)
    _run(["-m", *flagged])
    return Sweep(made_by(outputs, flagged).absolute())


def _outputs(arguments: Sequence[str]) -> Path:
    deciding = [
        each
        for each in arguments
        if (override := parse(each)).key_or_group in DECIDE_OUTPUTS
        and not override.is_sweep_override()
    ]
    return Path(compose_plain(deciding).outputs).expanduser()


def _run(arguments: Sequence[str]) -> None:
    # -P: do not import from the working folder, as for the console command.
    command = [sys.executable, "-P", "-m", "tinylab", "train", *arguments]
    inherits = is_terminal() and sys.stdout is sys.__stdout__
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="backslashreplace") as said:
        with subprocess.Popen(
            command, stdout=None if inherits else subprocess.PIPE, stderr=said, text=True,
            encoding="utf-8", errors="backslashreplace",
        ) as process:  # fmt: skip
            try:
                if process.stdout is not None:
                    _show(process.stdout)
                status = process.wait()
            except BaseException:
                # An interrupt of a terminal has come to the process too, and one of SIGTERM after
                # it does no harm; a second interrupt would end it before its state is saved.
                process.terminate()
                if process.stdout is not None:
                    _show(process.stdout)
                process.wait()
                raise
        said.seek(0)
        words = said.read()
    if status == 1 and words.startswith("tinylab: "):
        raise UserError(words.removeprefix("tinylab: ").rstrip())
    if words:
        print(words, file=sys.stderr, end="")
    if status:
        raise UserError(f"the sweep ended with exit code {status}; run the same call to resume it")


def _show(output: IO[str]) -> None:
    for line in output:
        print(line, end="", flush=True)
