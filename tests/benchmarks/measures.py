"""The measurements: an epoch, a start, a sweep, each of one system in one round.

Each returns values by name for each line that the system has in the table.
"""

import json
import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import process
import works
from environments import python_of
from works import Work

SCRIPTS = {
    "keras": "with_keras",
    "lightning": "with_lightning",
    "dataloader": "dataloader",
    "tensor": "tensor",
    "floor": "floor",
}
# What all peers' processes get. Their threads wait for one another as tinylab's do, whose command
# sets GOMP_SPINCOUNT for itself: with the default a busy neighbour makes them ten times slower.
COMMON = {
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "GOMP_SPINCOUNT": os.environ.get("GOMP_SPINCOUNT", "10000"),
}
SWEEP_EPOCHS = 10
BUSY = "while True: pass"  # a neighbor that always wants a core
Figures = dict[str, float]


@dataclass(frozen=True)
class Bench:
    """What all measurements of one call share."""

    folder: Path  # environments, data and tinylab's decoded images
    epochs: int
    sweep_runs: int
    spins: tuple[int, ...] = ()  # of GOMP_SPINCOUNT, for ``busy``

    def python(self, system: str) -> Path:
        """The interpreter for a peer's script."""
        return python_of(system, self.folder / "envs")

    def data(self, name: str, work: Work) -> Path:
        """The images for the peers' scripts."""
        return works.data_of(name, work, self.folder)


def epoch(bench: Bench, name: str, work: Work, system: str) -> dict[str, Figures]:
    """Seconds of an epoch after the first, with validation, and what else the run reports."""
    if system == "tinylab":
        return {system: _tinylab_epoch(bench, work)}
    if system == "floor":
        return {} if work.times > 1 else _floor_epoch(bench, work)
    command = works.peer(
        bench.python(system), SCRIPTS[system], bench.data(name, work), work, bench.epochs
    )
    ended = process.run(command, **COMMON)
    measured = json.loads(ended.output.splitlines()[-1])
    after_first = measured["seconds"][1:]
    return {
        system: {
            "epoch_seconds": sum(after_first) / len(after_first),
            "run_seconds": ended.seconds,
            "peak_mb": ended.peak_mb,
            "val_accuracy": measured["val_accuracy"],
        }
    }


def busy(bench: Bench, name: str, work: Work, system: str) -> dict[str, Figures]:
    """The epoch alone and beside one busy process, with the default threads and with one.

    Fractions are of the speed of threads=1 alone. Wanted: at least 0.6 beside the busy process, and
    at least 0.97 alone. Each value of GOMP_SPINCOUNT in ``bench.spins`` has a line of its own, with
    two threads, since one has no other to wait for.
    """
    if system != "tinylab":
        return {}
    settings: dict[str, tuple[list[str], dict[str, str]]] = {
        "tinylab threads=1": (["threads=1"], {}),
        "tinylab": ([], {}),
    }
    for spin in bench.spins:
        line = f"tinylab threads=2 GOMP_SPINCOUNT={spin}"
        settings[line] = ["threads=2"], {"GOMP_SPINCOUNT": str(spin)}
    seconds: dict[str, tuple[float, float]] = {}
    for line, (overrides, environment) in settings.items():
        alone = _tinylab_epoch(bench, work, *overrides, **environment)["epoch_seconds"]
        with process.running([sys.executable, "-c", BUSY]):
            beside = _tinylab_epoch(bench, work, *overrides, **environment)["epoch_seconds"]
        seconds[line] = alone, beside
    reference = seconds["tinylab threads=1"][0]
    return {line: _fractions(reference, *each) for line, each in seconds.items()}


def _fractions(reference: float, alone: float, beside: float) -> Figures:
    return {
        "alone_epoch_seconds": alone,
        "beside_epoch_seconds": beside,
        "alone_speed_fraction": reference / alone,
        "beside_speed_fraction": reference / beside,
    }


def _tinylab_epoch(bench: Bench, work: Work, *overrides: str, **environment: str) -> Figures:
    """By the clock in ``metrics.jsonl``, so with evaluation, checkpoint and logging.

    The whole run of the first round decodes the images as well.
    """
    with tempfile.TemporaryDirectory() as outputs:
        command = works.tinylab(
            work, f"train.epochs={bench.epochs}", f"outputs={outputs}", *overrides
        )
        ended = process.run(command, **environment)
        [metrics] = Path(outputs).glob("runs/*/metrics.jsonl")
        rows = [json.loads(line) for line in metrics.read_text().splitlines()]
    return {
        "epoch_seconds": (rows[-1]["time"] - rows[0]["time"]) / (len(rows) - 1),
        "run_seconds": ended.seconds,
        "peak_mb": ended.peak_mb,
        "val_accuracy": rows[-1]["val_accuracy"],
    }


def _floor_epoch(bench: Bench, work: Work) -> dict[str, Figures]:
    script = works.HERE / "peers" / "floor.py"
    command = [str(bench.python("floor")), str(script), *works.arguments(work)]
    measured = json.loads(process.run(command, **COMMON).output.splitlines()[-1])
    lines = {"floor: kernels": "kernels", "floor: one product": "product"}
    return {line: {"epoch_seconds": measured[key]} for line, key in lines.items()}


def scale(bench: Bench, name: str, work: Work, system: str) -> dict[str, Figures]:
    """As ``epoch``; of tinylab also the start until its network is ready, twice.

    The first start decodes the images into an empty cache, the next one reads them from there.
    """
    values = epoch(bench, name, work, system)
    if system == "tinylab":
        with tempfile.TemporaryDirectory(dir=bench.folder) as cache:
            for which in ("first", "next"):
                values[system][f"{which}_start_seconds"] = _until_ready(work, cache)
    return values


def _until_ready(work: Work, cache: str) -> float:
    """Until tinylab has said which network it trains: data and network are then on the device."""
    with tempfile.TemporaryDirectory() as outputs:
        return process.seconds_until(
            works.tinylab(work, f"outputs={outputs}"),
            lambda said: "\nmodel " in said,
            XDG_CACHE_HOME=cache,
        )


def startup(bench: Bench, name: str, work: Work, system: str) -> dict[str, Figures]:
    """From pressing Enter to the end of the first training step, and to tinylab's answers."""
    if system == "floor":
        return {}
    if system == "tinylab":
        _tinylab_first_step(work)  # decodes the images, as the peers' have been
        return {system: {"first_step_seconds": _tinylab_first_step(work), **_answers()}}
    command = works.peer(bench.python(system), SCRIPTS[system], bench.data(name, work), work, 1)
    seconds = process.seconds_until(command, lambda said: "first step" in said, **COMMON)
    return {system: {"first_step_seconds": seconds}}


def _tinylab_first_step(work: Work) -> float:
    """Until the checkpoint of the first step is on the disk, which tinylab writes if asked to.

    So it is later than the step itself by the writing of 7 MB.
    """
    with tempfile.TemporaryDirectory() as outputs:
        command = works.tinylab(work, "train.checkpoint_seconds=1e-9", f"outputs={outputs}")
        return process.seconds_until(command, lambda _: any(Path(outputs).glob("runs/*/last.ckpt")))


def _answers() -> Figures:
    """Seconds until tinylab has answered what needs no training; beside them, importing Hydra."""
    tinylab = [sys.executable, "-m", "tinylab"]
    program, tab = [*tinylab, "train"], ["completion", "answer", "tinylab train optim."]
    with tempfile.TemporaryDirectory() as outputs:
        run = [*program, "train.epochs=1", works.ON_CPU, f"outputs={outputs}"]
        process.run(run)
        return {
            "import_hydra_seconds": process.run([sys.executable, "-c", "import hydra"]).seconds,
            "completion_seconds": process.run([*tinylab, *tab]).seconds,
            "help_seconds": process.run([*program, "--help"]).seconds,
            "refused_seconds": process.run([*program, "optim.lr=-1"], status=1).seconds,
            "finished_seconds": process.run(run).seconds,
        }


def sweep(bench: Bench, name: str, work: Work, system: str) -> dict[str, Figures]:
    """Seconds of many short runs. A peer's scripts run one after another, as a shell loop does."""
    if system == "floor":
        return {}
    if system == "tinylab":
        in_turn = _tinylab_sweep(bench, work, "jobs=1")
        return {"tinylab": _tinylab_sweep(bench, work), "tinylab jobs=1": in_turn}
    command = works.peer(
        bench.python(system), SCRIPTS[system], bench.data(name, work), work, SWEEP_EPOCHS
    )
    runs = [process.run(command, **COMMON) for _ in range(bench.sweep_runs)]
    return {
        system: {
            "sweep_seconds": sum(run.seconds for run in runs),
            "peak_mb": max(run.peak_mb for run in runs),
        }
    }


def _tinylab_sweep(bench: Bench, work: Work, *overrides: str) -> Figures:
    with tempfile.TemporaryDirectory() as outputs:
        varied = (f"seed=range({bench.sweep_runs})", f"train.epochs={SWEEP_EPOCHS}")
        command = works.tinylab(work, *varied, *overrides, f"outputs={outputs}", "-m")
        ended = process.run(command)
    return {"sweep_seconds": ended.seconds, "peak_mb": ended.peak_mb}
