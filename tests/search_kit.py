"""A stand-in for the training of a search's runs, in microseconds, with kills at any moment."""

import dataclasses
import json
import math
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from option_records import AdamConfig, BaselineConfig, DigitsConfig
from tinylab import data
from tinylab.config import code
from tinylab.config.schema import Config, SweepConfig, TrainConfig
from tinylab.errors import UserError
from tinylab.sweeps import search
from tinylab.sweeps.job import Job
from tinylab.sweeps.search import Search
from tinylab.sweeps.space import Axis, Interval, Space

EPOCHS = 4
AXES = [
    Axis("optim.lr", ("0.0001", "0.1"), True, Interval(1e-4, 1e-1, log=True)),
    Axis("model.hidden", ("8", "16", "32")),
]
FINITE = [Axis("model.hidden", ("8", "16", "32")), Axis("model.filters", ("3", "4"), True)]
SEEDS = ({"seed": "0"}, {"seed": "1"}, {"seed": "2"})


@dataclass
class QuickComposer:
    """Makes jobs without Hydra, in microseconds; refuses what ``forbidden`` names."""

    sweep: SweepConfig
    outputs: Path
    forbidden: Callable[[dict[str, str]], bool]

    def job(self, fixed: list[str], varied: dict[str, str]) -> Job:
        if self.forbidden(varied):
            raise UserError("these do not go together")
        config = Config(
            dataset=DigitsConfig(),
            model=BaselineConfig(
                hidden=int(varied.get("model.hidden", 8)),
                filters=int(varied.get("model.filters", BaselineConfig().filters)),
            ),
            optim=AdamConfig(lr=float(varied.get("optim.lr", 0.01))),
            train=TrainConfig(epochs=EPOCHS),
            seed=int(varied.get("seed", 0)),
            sweep=self.sweep,
            outputs=str(self.outputs),
        )
        return Job([f"{key}={value}" for key, value in varied.items()], varied, config)


def make_plan(
    outputs: Path,
    *,
    axes: list[Axis] = AXES,
    forbidden: Callable[[dict[str, str]], bool] = lambda varied: False,
    repeats: tuple[dict[str, str], ...] = ({},),
    **values: Any,
) -> Search:
    """The search as it is when the command is typed, for the first time or again."""
    asked = SweepConfig(**{"search": "tpe", "trials": 16, **values})
    quick: Any = QuickComposer(asked, outputs, forbidden)
    space = Space([], axes, asked, repeats)
    first = space.varied({axis.key: axis.values[0] for axis in axes})
    base = quick.job([], {**first, **repeats[0]})
    return Search(space, quick, search.folder_of(space, base.config), [base], [])


def curve(job: Job) -> list[float]:
    """Validation accuracy after each epoch: best at a rate of 0.01, the wider the better.

    Every seed but 0 has luck of its own with each rate.
    """
    config: Any = job.config
    ceiling = 1 - abs(math.log10(config.optim.lr) + 2) / 4 - 1 / config.model.hidden
    if config.seed:
        ceiling *= random.Random(f"{config.optim.lr} {config.seed}").uniform(0.6, 1.0)
    return [ceiling * (1 - 0.5**epoch) for epoch in range(1, EPOCHS + 1)]


def life(plan: Search, job: Job, trained: list[tuple[str, int]]) -> Iterator[None]:
    """What becomes of a job, from where its folder says it is. A kill may come at any yield."""
    job.folder.mkdir(parents=True, exist_ok=True)
    (job.folder / "last.ckpt").touch()
    for epoch in range(len(job.files.history()) + 1, EPOCHS + 1):
        trained.append((job.label, epoch))
        if job.config.optim.lr > 0.05 and epoch == 2:
            (job.folder / "failure.json").write_text('{"error": "diverged"}')
            plan.ended(job, "failed")
            return
        accuracy = curve(job)[epoch - 1]
        row = {"epoch": epoch, "val_accuracy": accuracy, "val_loss": -math.log(accuracy)}
        with (job.folder / "metrics.jsonl").open("a") as file:
            file.write(json.dumps(row) + "\n")
        yield
        if not plan.goes_on(job, row):
            yield
            plan.ended(job, "pruned")
            return
        yield
    write_result(job)
    yield
    plan.ended(job, "finished")


def write_result(job: Job, **changed: Any) -> None:
    accuracy = max(curve(job))
    result = {
        "status": "finished",
        "config": dataclasses.asdict(job.config),
        "val": {"accuracy": accuracy, "loss": -math.log(accuracy)},
        "test": {"accuracy": 0.5, "loss": 1, "accuracy_ci95": [0, 1]},
        "dataset": {
            "name": "digits", "classes": ["0", "1"], "num_train": 9, "num_test": 9,
            "image_shape": [1, 8, 8],
            "fingerprint": data.fingerprint(DigitsConfig()),
        },
        "split_sha256": "s",
        "environment": {"code_sha256": code.of_result(job.config)},
        "best_epoch": 1, "epochs": 1, "num_parameters": 1, "seconds": {"train": 1.0},
        **changed,
    }  # fmt: skip
    job.folder.mkdir(parents=True, exist_ok=True)
    (job.folder / "result.json").write_text(json.dumps(result))
    (job.folder / "best.ckpt").touch()
    (job.folder / "confusion.png").touch()


def drive(
    plan: Search, jobs: int = 1, order: int = 0, trained: list[tuple[str, int]] | None = None
) -> Iterator[None]:
    """Train what the plan asks for, ``jobs`` at a time in a random ``order``."""
    chance, running = random.Random(order), []
    trained = [] if trained is None else trained
    while True:
        while len(running) < jobs and (job := plan.next_job()) is not None:
            running.append(life(plan, job, trained))
            yield
        if not running:
            return
        chosen = chance.choice(running)
        try:
            next(chosen)
        except StopIteration:
            running.remove(chosen)
        yield


def finish(plan: Search, **how: Any) -> Search:
    """Drive a plan to its end."""
    for _ in drive(plan, **how):
        pass
    return plan


def trials(outputs: Path) -> list[dict[str, Any]]:
    [path] = (outputs / "sweeps").glob("*/sweep.json")
    listed: list[dict[str, Any]] = json.loads(path.read_text())["jobs"]
    return listed


def states(outputs: Path) -> list[str]:
    return [trial["state"] for trial in trials(outputs)]
