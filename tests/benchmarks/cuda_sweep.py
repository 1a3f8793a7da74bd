"""How much faster a sweep is with several jobs at a time on one GPU than with one.

    TINYLAB_DATA=... PYTHONPATH=src python tests/benchmarks/cuda_sweep.py --out FOLDER

Trains 16 runs of mnist_baseline's network at batch 128 with jobs=1, 4, 8 and 16, and 8 runs of a
small residual network with jobs=1 and 8, with NVIDIA's MPS and without; what does not fit into
``--seconds`` is left out; the most informative ones run first. ``start s`` is the time until the
first epoch of the first job has ended, and ``all s`` the whole sweep without its report. Checks
that every run has the weights that it has when it is trained alone. Epochs are chosen so that a run
trains for ``--run-seconds``, since starting a process takes seconds.
On the CPU, to try the script:

    PYTHONPATH=src python tests/benchmarks/cuda_sweep.py --device cpu --out FOLDER
"""

import argparse
import contextlib
import dataclasses
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tinylab import data
from tinylab.config.compose import run_hydra, to_config
from tinylab.config.schema import Config
from tinylab.store.folder import run_folder
from tinylab.sweeps import cards
from tinylab.sweeps.cards import room_for
from tinylab.sweeps.job import Job
from tinylab.sweeps.launch import launch
from tinylab.system import mps
from tinylab.ui.console import say

NETWORKS = {
    "baseline": ["model=baseline", "model.init=glorot", "optim=adam"],
    "resnet": ["model=resnet", "model.width=16", "model.stages=3", "optim=sgd", "optim.lr=0.05"],
}
NUM_RUNS = {"baseline": 16, "resnet": 8}
# Network, jobs, with MPS; the most telling first.
ON_CARD = [
    ("baseline", 1, False), ("baseline", 16, True), ("baseline", 8, True), ("resnet", 1, False),
    ("resnet", 8, True), ("baseline", 16, False), ("baseline", 4, True), ("resnet", 4, True),
    ("baseline", 4, False), ("baseline", 8, False), ("resnet", 8, False),
]  # fmt: skip
ON_CPU = [("baseline", 1, False), ("baseline", 2, False)]
HEAD = ("network", "runs", "jobs", "mps", "start s", "all s", "epochs", "ratio", "ratio w/o start")


class Timed:
    """The plan of a grid that notes when its first epoch and its last job have ended."""

    def __init__(self, jobs: list[Job]) -> None:
        self._waiting = list(reversed(jobs))
        self.began = time.perf_counter()
        self.first_epoch = 0.0
        self.states: list[str] = []

    def next_job(self) -> Job | None:
        """The next one."""
        return self._waiting.pop() if self._waiting else None

    def goes_on(self, job: Job, row: dict[str, float | None]) -> bool:
        """Always."""
        self.first_epoch = self.first_epoch or time.perf_counter()
        return True

    def ended(self, job: Job, state: str) -> None:
        """How it ended."""
        self.states.append(state)

    best, num_ended = "", 0


def config_of(arguments: argparse.Namespace, network: str, outputs: Path, *more: str) -> Config:
    """A config of the sweep."""
    configs: list[Config] = []
    dataset = "digits" if arguments.device == "cpu" else "mnist"
    overrides = [
        f"dataset={dataset}", *NETWORKS[network], "train.batch_size=128", "threads=1",
        f"device={arguments.device}", f"outputs={outputs}", *more, *arguments.overrides,
    ]  # fmt: skip
    run_hydra(lambda composed: configs.append(to_config(composed)), overrides)
    return data.identified(configs[0])


@contextlib.contextmanager
def only_in_turn() -> Iterator[None]:
    """In the block no process finds NVIDIA's MPS."""
    os.environ[mps.PIPES] = "/nonexistent"
    try:
        yield
    finally:
        del os.environ[mps.PIPES]


def seconds_of_an_epoch(arguments: argparse.Namespace, network: str, scratch: Path) -> float:
    """By a short run, which also decodes the data and fills the file cache."""
    config = config_of(arguments, network, scratch, "train.epochs=4")
    launch(Timed([Job([], {}, config)]), cards.Room(1, 1), 1, "")
    return min(float(row["seconds"]) for row in run_folder(config).history()[1:])


def measure(
    arguments: argparse.Namespace, network: str, num_jobs: int, with_mps: bool, epochs: int,
    outputs: Path,
) -> dict[str, Any]:  # fmt: skip
    """One sweep in a folder of its own."""
    num_runs = arguments.runs or NUM_RUNS[network]
    first = config_of(arguments, network, outputs, f"train.epochs={epochs}", f"jobs={num_jobs}")
    configs = [dataclasses.replace(first, seed=seed) for seed in range(num_runs)]
    jobs = [Job([], {"seed": str(each.seed)}, each) for each in configs]
    room = room_for(configs[0], num_runs)
    with contextlib.nullcontext() if with_mps else only_in_turn():
        plan = Timed(jobs)
        launch(plan, room, num_runs, "")
    ended = time.perf_counter()
    results = [job.files.result() for job in jobs]
    return {
        "network": network, "runs": num_runs, "jobs": num_jobs, "mps": with_mps, "epochs": epochs,
        "at_once": room.now, "finished": plan.states.count("finished"),
        "start_seconds": (plan.first_epoch or ended) - plan.began,
        "seconds": ended - plan.began,
        "train_seconds": [None if r is None else r.seconds.train for r in results],
        "total_seconds": [None if r is None else r.seconds.total for r in results],
        "weights_sha256": [None if r is None else r.weights_sha256 for r in results],
        "failures": [None if r is None else r.failures for r in results],
    }  # fmt: skip


def row_of(result: dict[str, Any], alone: dict[str, Any]) -> str:
    """One line of the table."""
    work, work_alone = (each["seconds"] - each["start_seconds"] for each in (result, alone))
    cells = (
        result["network"], f"{result['finished']}/{result['runs']}",
        f"{result['jobs']} ({result['at_once']})", "yes" if result["mps"] else "no",
        f"{result['start_seconds']:.1f}", f"{result['seconds']:.1f}", result["epochs"],
        f"{alone['seconds'] / result['seconds']:.2f}", f"{work_alone / max(work, 1e-9):.2f}",
    )  # fmt: skip
    return "".join(f"{cell:>16}" for cell in cells)


CARD = """
import json, torch
card = torch.cuda.get_device_properties(0) if torch.cuda.is_available() else None
facts = {"card": card and card.name, "memory_gb": card and card.total_memory / 1e9}
print(json.dumps({**facts, "torch": torch.__version__}))
"""


def machine_facts() -> dict[str, Any]:
    """Describe the machine. Another process asks for the card: this one stays off it."""
    completed = subprocess.run(
        [sys.executable, "-c", CARD], capture_output=True, text=True, check=True
    )
    return {
        **json.loads(completed.stdout),
        "cores": len(os.sched_getaffinity(0)),
        "mps_control": shutil.which(mps.CONTROL),
    }


def main() -> None:
    """Run the sweeps."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for cuda_sweep.json")
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--runs", type=int, help="in each sweep (default: 16, and 8 of the resnet)")
    parser.add_argument("--run-seconds", type=float, default=2.0, help="that each run trains")
    parser.add_argument("--seconds", type=float, default=220.0, help="after which nothing begins")
    parser.add_argument("overrides", nargs="*", help="of tinylab train")
    arguments = parser.parse_args()
    began = time.perf_counter()
    os.environ["PATH"] += os.pathsep + "/usr/local/nvidia/bin"
    arguments.out.mkdir(parents=True, exist_ok=True)
    if arguments.device == "cpu":
        arguments.runs, arguments.run_seconds = arguments.runs or 4, 0.5
    results: list[dict[str, Any]] = []
    alone: dict[str, dict[str, Any]] = {}
    epochs: dict[str, int] = {}
    is_equal = True
    facts: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        for number, (network, num_jobs, with_mps) in enumerate(
            ON_CPU if arguments.device == "cpu" else ON_CARD
        ):
            left = arguments.seconds - (time.perf_counter() - began)
            before = alone[network]["seconds"] if network in alone else 0.0
            expected = before * (0.6 if with_mps else 1.1)
            if left < expected:
                say(f"no time is left for {network} jobs={num_jobs}, mps={with_mps}")
                continue
            if network not in epochs:
                each = seconds_of_an_epoch(arguments, network, scratch / f"epoch-{network}")
                epochs[network] = max(2, round(arguments.run_seconds / each))
                say(f"{network}: {each:.3f} s per epoch, {epochs[network]} epochs")
            outputs = scratch / str(number)
            one = measure(arguments, network, num_jobs, with_mps, epochs[network], outputs)
            alone.setdefault(network, one)
            one["equal"] = one["weights_sha256"] == alone[network]["weights_sha256"]
            is_equal &= one["equal"] and None not in one["weights_sha256"]
            results.append(one)
            say("".join(f"{cell:>16}" for cell in HEAD))
            for each_found in results:
                say(row_of(each_found, alone[each_found["network"]]))
            facts = facts or machine_facts()
            text = json.dumps({**facts, "equal": is_equal, "sweeps": results}, indent=1)
            (arguments.out / "cuda_sweep.json").write_text(text)
    say(json.dumps(facts))
    took = time.perf_counter() - began
    say(f"weights as when trained alone: {'yes' if is_equal else 'NO'}; {took:.0f} s in all")
    sys.exit(not is_equal)


if __name__ == "__main__":
    main()
