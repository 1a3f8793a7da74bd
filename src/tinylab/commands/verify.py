"""``tinylab verify``: prove on this machine that a killed and resumed run ends with the same bits.

The run's config is trained three times in a temporary folder: undisturbed; killed by SIGKILL at
random moments and resumed; and with another seed, which must be found different, or the
comparison itself would be worthless.
"""

import hashlib
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from tinylab.commands.parser import Parser
from tinylab.errors import UserError
from tinylab.store import folder as runs
from tinylab.ui.console import say

TIMINGS = ("seconds", "images_per_second", "time")  # columns of metrics.jsonl that may differ
PROGRAM = (sys.executable, "-m", "tinylab")
CHECKPOINT_SECONDS = 0.02  # so often that most kills fall between two of them, inside an epoch


def main(arguments: list[str]) -> None:
    """Run the command. Raises UserError where the resumed run differs."""
    parser = Parser(
        prog="tinylab verify",
        description="Train a run's config undisturbed, and again with kills; compare the bits.",
        epilog="example: tinylab verify outputs/runs/RUN --kills 5",
    )
    parser.add_argument("run", type=Path, help="the folder of a run")
    parser.add_argument("--epochs", type=int, default=2, help="epochs to train (default 2)")
    parser.add_argument("--kills", type=int, default=3, help="number of kills (default 3)")
    parser.add_argument("--seed", type=int, default=0, help="decides the moments of the kills")
    options = parser.parse_args(arguments)
    differences = verify(options.run, options.epochs, options.kills, random.Random(options.seed))
    if differences:
        raise UserError("\n  ".join(["the resumed run differs", *differences]))
    say(f"identical: weights, predictions and every figure, after {options.kills} kills")


def verify(
    run: Path,
    epochs: int,
    kills: int,
    moments: random.Random,
    program: Sequence[str] = PROGRAM,
) -> list[str]:
    """What differs between the undisturbed and the killed training; empty where nothing does.

    Raises UserError where ``run`` holds no config, or where the control with another seed is not
    found different.
    """
    if not (run / "config.yaml").is_file():
        raise UserError(f"{run}: expected the folder of a run, with its config.yaml")
    seed = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))["seed"]
    with tempfile.TemporaryDirectory(prefix="tinylab-verify-") as name:
        folder = Path(name)
        command = [
            *program, "train", "--from", str(run.resolve()), f"train.epochs={epochs}",
            f"train.checkpoint_seconds={CHECKPOINT_SECONDS}", *_same_machine(run),
        ]  # fmt: skip
        say(f"1 of 3  {epochs} epochs, undisturbed")
        plain = _finish([*command, f"outputs={folder / 'plain'}"], folder / "plain")
        say(f"2 of 3  the same, killed {kills} times")
        for _ in range(kills):
            seconds = moments.uniform(0, plain["seconds"]["train"] / kills)
            _kill([*command, f"outputs={folder / 'killed'}"], folder / "killed", seconds)
        killed = _finish([*command, f"outputs={folder / 'killed'}"], folder / "killed")
        say("3 of 3  the same with another seed, which must differ")
        control_command = [*command, f"seed={seed + 1}", f"outputs={folder / 'control'}"]
        control = _finish(control_command, folder / "control")
        if not compare(plain, control):
            raise UserError("another seed gave the same bits: this comparison proves nothing")
        return compare(plain, killed)


def _same_machine(run: Path) -> list[str]:
    """Overrides for the device and thread count of a finished run."""
    result = runs.read_result(run)
    if result is None:
        return []
    environment = result["environment"]
    return [f"device={environment['device']}", f"threads={environment['threads']}"]


def compare(plain: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """What differs between two finished runs, and the likely cause."""
    found = [
        f"{key}: {plain[key]} against {other[key]}"
        for key in ("weights", "predictions", "metrics", "train", "val", "test", "split_sha256")
        if plain[key] != other[key]
    ]
    if not found:
        return []
    here, there = plain["environment"], other["environment"]
    moved = [key for key in ("device_name", "threads", "torch") if here[key] != there[key]]
    if moved:
        return [*found, f"likely cause: another {' and '.join(moved)}"]
    if not plain["config"]["deterministic"]:
        return [*found, "likely cause: deterministic=false"]
    return [*found, "likely cause: an operator that is not deterministic, or state not restored"]


def _finish(command: list[str], outputs: Path) -> dict[str, Any]:
    """Run a training to its end; its result, with hashes of what lies beside it."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode != 0:
        raise UserError(f"the training itself failed:\n{done.stdout.strip()}")
    [folder] = [path.parent for path in (outputs / "runs").glob("*/result.json")]
    result = runs.read_result(folder)
    assert result is not None
    with np.load(folder / "predictions.npz") as arrays:
        predictions = b"".join(arrays[key].tobytes() for key in sorted(arrays))
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    metrics = [{key: row[key] for key in row if key not in TIMINGS} for row in rows]
    return {
        **result,
        "weights": result["weights_sha256"],
        "predictions": hashlib.sha256(predictions).hexdigest(),
        "metrics": metrics,
    }


def _kill(command: list[str], outputs: Path, seconds: float) -> None:
    """Start a training, and kill it some seconds after it has begun to learn."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    with process.stdout:
        # It says which network it trains just before the first step.
        for line in process.stdout:
            if line.startswith("model"):
                break
        time.sleep(seconds)
        process.send_signal(signal.SIGKILL)
        process.wait()
    finished = list((outputs / "runs").glob("*/result.json"))
    say(f"        killed after {seconds:.1f} s of training" + (", finished" if finished else ""))
