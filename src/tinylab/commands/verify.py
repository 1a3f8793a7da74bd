"""``tinylab verify``: check that a killed and resumed run is bit-identical on this machine.

The run's config is trained three times in a temporary folder: uninterrupted; killed by SIGKILL at
random times and resumed; and with another seed, as a control that must differ.
"""

import dataclasses
import hashlib
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tinylab.commands.parser import Parser
from tinylab.config import code
from tinylab.config.options import without_code
from tinylab.config.user_code import is_key
from tinylab.errors import UserError
from tinylab.store.folder import RunFolder
from tinylab.store.predictions import Predictions
from tinylab.store.query import runs_in
from tinylab.store.result import Result
from tinylab.store.run import Run
from tinylab.ui.console import say

TIMINGS = ("seconds", "images_per_second", "time")  # columns of the metrics that may differ
# With -P, a types.py in the working folder does not shadow Python's.
PROGRAM = (sys.executable, "-P", "-m", "tinylab")
CHECKPOINT_SECONDS = 0.02  # so often that most kills hit between two checkpoints within an epoch


@dataclass(frozen=True)
class Outcome:
    """The outcome of a training; everything must be equal except times."""

    result: Result
    predictions: Predictions
    metrics: list[dict[str, object]]


def main(arguments: list[str]) -> None:
    """Run the command. Raises UserError if the resumed run differs."""
    parser = Parser(
        prog="tinylab verify",
        description="Train a run's config once uninterrupted and once with repeated SIGKILLs; "
        "compare the bits.",
        epilog="example: tinylab verify outputs/runs/RUN --kills 5",
    )
    parser.add_argument("run", type=Path, help="folder of a run")
    parser.add_argument("--epochs", type=int, default=2, help="epochs to train (default: 2)")
    parser.add_argument("--kills", type=int, default=3, help="number of kills (default: 3)")
    parser.add_argument("--seed", type=int, default=0, help="seed for the times of the kills")
    options = parser.parse_args(without_code(arguments))
    files = RunFolder(options.run)
    result = files.result()
    if result is not None:
        code.require(result.config, result.environment.extra.get("own_code_sha256"), files.path)
    moments, own = random.Random(options.seed), list(filter(is_key, arguments))
    differences = verify(options.run, options.epochs, options.kills, moments, own=own)
    if differences:
        raise UserError("\n  ".join(["the resumed run differs", *differences]))
    say(f"identical after {options.kills} kills: weights, predictions and all metrics")


def verify(
    run: Path,
    epochs: int,
    kills: int,
    moments: random.Random,
    program: Sequence[str] = PROGRAM,
    own: Sequence[str] = (),
) -> list[str]:
    """Return the differences between the uninterrupted and the killed training.

    ``own``: the override that names the user's files. Raises UserError if ``run`` has no config, or
    if the control with another seed does not differ.
    """
    files = RunFolder(run)
    seed = files.config()["seed"]
    with tempfile.TemporaryDirectory(prefix="tinylab-verify-") as name:
        folder = Path(name)
        command = [
            *program, "train", "--from", str(run.resolve()), f"train.epochs={epochs}",
            f"train.checkpoint_seconds={CHECKPOINT_SECONDS}", *_same_machine(files), *own,
        ]  # fmt: skip
        say(f"1 of 3  {epochs} epochs, uninterrupted")
        plain = _finish([*command, f"outputs={folder / 'plain'}"], folder / "plain")
        say(f"2 of 3  the same, killed {kills} times")
        for _ in range(kills):
            seconds = moments.uniform(0, plain.result.seconds.train / kills)
            _kill([*command, f"outputs={folder / 'killed'}"], folder / "killed", seconds)
        killed = _finish([*command, f"outputs={folder / 'killed'}"], folder / "killed")
        say("3 of 3  the same with another seed, which must give other bits")
        control_command = [*command, f"seed={seed + 1}", f"outputs={folder / 'control'}"]
        control = _finish(control_command, folder / "control")
        if not compare(plain, control):
            raise UserError("another seed gave the same bits, so this comparison proves nothing")
        return compare(plain, killed)


def _same_machine(files: RunFolder) -> list[str]:
    """Return overrides for the device and thread count of a finished run."""
    result = files.result()
    if result is None:
        return []
    environment = result.environment
    return [f"device={environment.device}", f"threads={environment.threads}"]


def compare(plain: Outcome, other: Outcome) -> list[str]:
    """Return the differences between two finished runs, and the likely cause."""
    a, b = (_bits(outcome) for outcome in (plain, other))
    differences = [f"{key}: {a[key]} against {b[key]}" for key in a if a[key] != b[key]]
    if not differences:
        return []
    here, there = plain.result.environment.facts(), other.result.environment.facts()
    moved = [key for key in ("device_name", "threads", "torch") if here[key] != there[key]]
    if moved:
        return [*differences, f"likely cause: different {' and '.join(moved)}"]
    if not plain.result.config["deterministic"]:
        return [*differences, "likely cause: deterministic=false"]
    cause = "a nondeterministic operator, or state that is not restored"
    return [*differences, f"likely cause: {cause}"]


def _bits(outcome: Outcome) -> dict[str, object]:
    """Return everything that must be equal, by a readable name."""
    result, predictions = outcome.result, outcome.predictions
    arrays = [array for array in dataclasses.astuple(predictions) if array is not None]
    return {
        "weights": result.weights_sha256,
        "predictions": hashlib.sha256(b"".join(each.tobytes() for each in arrays)).hexdigest(),
        "metrics": outcome.metrics,
        "train": result.train,
        "val": result.val,
        "test": result.test,
        "split_sha256": result.split_sha256,
    }


def _finish(command: list[str], outputs: Path) -> Outcome:
    """Run a training to its end."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode != 0:
        raise UserError(f"training failed:\n{done.stdout.strip()}")
    [run] = _finished(outputs)
    predictions = run.files.predictions(with_probabilities=True)
    assert predictions is not None
    history = run.files.history()
    metrics = [{key: row[key] for key in row if key not in TIMINGS} for row in history]
    return Outcome(run.result, predictions, metrics)


def _finished(outputs: Path) -> list[Run]:
    return [run for run in runs_in(outputs) if run.state == "finished"]


def _kill(command: list[str], outputs: Path, seconds: float) -> None:
    """Start a training, and kill it some seconds after its first step."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    with process.stdout:
        # It prints the network just before the first step.
        for line in process.stdout:
            if line.startswith("model"):
                break
        time.sleep(seconds)
        process.send_signal(signal.SIGKILL)
        process.wait()
    ended = ", finished" if _finished(outputs) else ""
    say(f"        killed after {1000 * seconds:,.0f} ms of training{ended}")
