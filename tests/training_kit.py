"""What the tests of training share: tiny data, a recipe, and runs that stop on request."""

import dataclasses
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from option_records import AdamConfig, BaselineConfig
from tinylab import models
from tinylab.config.base_records import AugmentConfig, ModelConfig, OptimConfig
from tinylab.config.schema import TrainConfig
from tinylab.data.arrays import Dataset
from tinylab.data.batches import Batches, fit_class_weights, fit_normalization, to_device
from tinylab.experiment.run import fit_and_save
from tinylab.training.checkpoint import Checkpoints
from tinylab.training.loop import EpochDone, Event, StepDone
from tinylab.training.state import Recipe, Training, start

CPU = torch.device("cpu")
NUM_CLASSES = 3
RUN_ID = "tiny-run-0123456789"
SIGTERM = 15
# What a clock or an interruption decides, and nothing else may.
BY_THE_CLOCK = {"seconds", "images_per_second", "time", "resumed_at"}


def checkpoints_in(folder: Path, run_id: str = RUN_ID) -> Checkpoints:
    """The checkpoints of a run of that id, named as in its folder."""
    files = [folder / f"{name}.ckpt" for name in ("last", "next", "previous", "best")]
    return Checkpoints(*files, run_id)


def tiny_batches(
    N: int,
    C: int = 1,
    seed: int = 0,
    channels_last: bool = True,
    device: torch.device = CPU,
    streamed: bool = False,
    enlarged: int = 1,
) -> Batches:
    """Noise of 8x8 pixels on which each class has a bright row of its own."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, NUM_CLASSES, N)
    images = generator.integers(0, 200, (N, C, 8, 8), dtype=np.uint8)
    images[np.arange(N), :, labels * 2] += 55
    larger = images.repeat(enlarged, 2).repeat(enlarged, 3) if enlarged > 1 else None
    data = Dataset(images, labels, tuple("abc"), sources=larger)
    return to_device(data, device, channels_last, streamed)


class Watch:
    """Sees what training yields, and is a stop signal that comes after so many steps or epochs."""

    def __init__(self, steps: float = math.inf, epochs: float = math.inf) -> None:
        self.steps_left, self.epochs_left = steps, epochs
        self.rows: list[dict[str, Any]] = []

    def step(self, event: StepDone) -> None:
        self.steps_left -= 1

    def epoch(self, event: EpochDone) -> None:
        self.rows.append(event.row)
        self.epochs_left -= 1

    def see(self, event: Event) -> None:
        if isinstance(event, StepDone):
            self.step(event)
        else:
            self.epoch(event)

    def signal(self) -> int | None:
        return SIGTERM if min(self.steps_left, self.epochs_left) <= 0 else None


@dataclass(frozen=True)
class Lab:
    """A config in small, and runs of it. Every start is in fresh objects."""

    train: dict[str, Any] = field(default_factory=dict)
    optim: OptimConfig = field(default_factory=lambda: AdamConfig(lr=0.01))
    augment: dict[str, Any] = field(default_factory=dict)
    model: ModelConfig = field(default_factory=lambda: BaselineConfig(filters=4, hidden=8))
    seed: int = 0
    num_train: int = 50  # with a batch size of 16 the last of four batches is short
    num_val: int = 20
    channels: int = 1
    device: torch.device = CPU
    streamed: bool = False
    enlarged: int = 1  # times: the images that training starts from
    in_one_pass: bool = False  # convolution and pooling by Numba
    may_adapt: bool = False  # CPU threads

    def recipe(self) -> Recipe:
        return Recipe(
            train=TrainConfig(**{"epochs": 3, "batch_size": 16, **self.train}),
            optim=self.optim,
            augment=AugmentConfig(**self.augment),
            seed=self.seed,
            num_classes=NUM_CLASSES,
            normalization=fit_normalization(self.batches(self.num_train), "standard"),
            device=self.device,
            class_weights=fit_class_weights(
                self.batches(self.num_train).labels,
                NUM_CLASSES,
                TrainConfig(**self.train).class_weights,
            ),
            shrink=self.enlarged,
            may_adapt=self.may_adapt,
            is_frozen=models.is_frozen(self.model),
        )

    def batches(self, N: int, seed: int = 0) -> Batches:
        channels_last = TrainConfig(**self.train).channels_last
        return tiny_batches(
            N, self.channels, seed, channels_last, self.device, self.streamed, self.enlarged
        )

    def parts(self) -> dict[str, Batches]:
        return {"train": self.batches(self.num_train), "val": self.batches(self.num_val, seed=1)}

    def build(self, seed: int = 0) -> nn.Module:
        """The network with the initial weights of ``seed``."""
        torch.manual_seed(seed)
        model = models.build(self.model, (self.channels, 8, 8), NUM_CLASSES).to(self.device)
        if self.in_one_pass:
            assert models.choose_kernels(model, (self.channels, 8, 8), 10**12)
        if TrainConfig(**self.train).channels_last:
            model = model.to(memory_format=torch.channels_last)
        return model

    def start(self, seed: int = 0) -> Training:
        return start(self.build(seed), self.recipe())

    def fit(self, training: Training, checkpoints: Checkpoints, watch: Watch | None = None) -> None:
        watch = watch or Watch()
        events = fit_and_save(training, self.parts(), self.recipe(), checkpoints, watch.signal)
        for event in events:
            watch.see(event)

    def run(self, folder: Path, watch: Watch | None = None, spoil: str | None = None) -> Training:
        """Begin or go on in ``folder``, as the experiment does; ``spoil`` is lost.

        Only the checkpoint can bring back what a resumed run needs: its objects start
        from other weights, and the global random stream is somewhere else.
        """
        checkpoints = checkpoints_in(folder)
        state = checkpoints.load_last()
        training = self.start(seed=0 if state is None else 999)
        if state is not None:
            state = {**state, **({spoil: training.state_dict()[spoil]} if spoil else {})}
            training.load_state_dict(state)
        self.fit(training, checkpoints, watch)
        return training


def differences(one: Any, other: Any, path: str = "") -> list[str]:
    """Where two states differ by a single bit, apart from what the clock decides."""
    if isinstance(one, dict) and isinstance(other, dict):
        keys = (one.keys() | other.keys()) - BY_THE_CLOCK
        pairs = [(f"{path}.{key}", one.get(key), other.get(key)) for key in sorted(keys)]
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        pairs = [(f"{path}[{i}]", *pair) for i, pair in enumerate(zip(one, other, strict=True))]
    else:
        return [] if _are_equal(one, other) else [path]
    return [where for name, a, b in pairs for where in differences(a, b, name)]


def _are_equal(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return one.dtype == other.dtype and torch.equal(one.cpu(), other.cpu())
    if isinstance(one, float) and isinstance(other, float) and math.isnan(one):
        return math.isnan(other)
    return type(one) is type(other) and bool(one == other)


def changed(lab: Lab, **values: Any) -> Lab:
    """The same lab but for some values."""
    return dataclasses.replace(lab, **values)
