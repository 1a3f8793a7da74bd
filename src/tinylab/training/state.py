"""The training recipe, which does not change, and the training state, which is checkpointed."""

import contextlib
import copy
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from tinylab.config.base_records import AugmentConfig, OptimConfig
from tinylab.config.schema import TrainConfig
from tinylab.data.batches import Normalization
from tinylab.errors import UserError
from tinylab.system.runtime import synchronize
from tinylab.training import optim, own
from tinylab.training.own_metrics import OwnMetrics
from tinylab.ui.tensorboard import Row

DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class Recipe:
    """What does not change during training."""

    train: TrainConfig
    optim: OptimConfig
    augment: AugmentConfig
    seed: int
    num_classes: int
    normalization: Normalization
    device: torch.device
    class_weights: Tensor | None = None  # float32 (num_classes,), on the device
    metrics: OwnMetrics = field(default_factory=OwnMetrics)
    loss: own.Loss | None = None  # the user's, as the next two; None: built-in
    augmentation: own.Augmentation | None = None
    schedule: own.Schedule | None = None
    shrink: int = 1  # times: from the images that are augmented to those of the network
    is_frozen: bool = False  # partly, by ``model.freeze``
    may_adapt: bool = False  # a step's CPU threads to the load of the machine (threads.py)
    is_own: bool = False  # whether any part is user code, whose Python a recorded step would freeze

    def augments(self, epoch: int) -> bool:
        """Whether an epoch's images are changed; those of the last ones may not be."""
        return epoch < self.train.epochs - self.augment.no_aug_epochs

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """Autocast for mixed precision, if enabled."""
        if self.train.precision == "float32":
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, DTYPES[self.train.precision])


@dataclass
class Training:
    """The full training state: everything that changes from step to step, and is checkpointed."""

    model: nn.Module
    optimizer: optim.Optimizer
    scaler: torch.amp.GradScaler
    averaged: nn.Module | None
    loss_sum: Tensor
    num_correct: Tensor
    epoch: int = 0
    step_in_epoch: int = 0
    seconds: float = 0.0  # of training in the current epoch, when the clock was started
    grad_norm: float = math.nan  # at the last step of the current epoch
    best: dict[str, Any] | None = None  # the row of the best epoch, and its weights
    history: list[Row] = field(default_factory=list)
    resumed_at: list[dict[str, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.parameters = [p for p in self.model.parameters() if p.requires_grad]
        self._clock: float | None = None  # when it was started; None: stopped

    def tested(self) -> nn.Module:
        """The network that is evaluated: the averaged one if there is one."""
        return self.model if self.averaged is None else self.averaged

    def start_clock(self) -> None:
        """Start counting time as training, unless already started."""
        if self._clock is None:
            self._clock = time.perf_counter()

    def stop_clock(self) -> None:
        """Wait for the device, and stop counting time."""
        synchronize(self.loss_sum.device)
        self.seconds, self._clock = self.elapsed(), None

    def elapsed(self) -> float:
        """Return the seconds of training in the current epoch so far."""
        return self.seconds + (0.0 if self._clock is None else time.perf_counter() - self._clock)

    def resume_point(self) -> dict[str, Any]:
        """Return the state within an epoch, for a checkpoint.

        The clock is stopped until the next step: writing is not training. Raises UserError if not
        all numbers are finite.
        """
        self.stop_clock()
        self.refuse_non_finite()
        return self.state_dict()

    def refuse_non_finite(self) -> None:
        """Raise UserError if the epoch's loss or a weight is not finite.

        NaN propagates to sums and weights, so occasional checks miss no step. The weights are
        checked too: the last update is not in any loss yet.
        """
        values = [self.loss_sum, *self.model.state_dict().values()]
        if not torch.stack([value.isfinite().all() for value in values]).all():
            raise UserError(
                f"the loss or a weight became non-finite in epoch {self.epoch + 1} "
                f"between steps 1 and {self.step_in_epoch}\n"
                "  lower optim.lr, or limit the gradient with train.grad_clip=1"
            )

    def state_dict(self) -> dict[str, Any]:
        """Return everything as tensors and plain values."""
        device = self.loss_sum.device
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "averaged": self.averaged.state_dict() if self.averaged is not None else None,
            "loss_sum": self.loss_sum,
            "num_correct": self.num_correct,
            "rng": torch.get_rng_state(),
            "rng_cuda": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
            "rng_mps": torch.mps.get_rng_state() if device.type == "mps" else None,
            "epoch": self.epoch,
            "step_in_epoch": self.step_in_epoch,
            "seconds": self.elapsed(),
            "grad_norm": self.grad_norm,
            "best": self.best,
            "history": self.history,
            "resumed_at": self.resumed_at,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a saved state. Raises RuntimeError for another network."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        if self.averaged is not None:
            self.averaged.load_state_dict(state["averaged"])
        self.loss_sum.copy_(state["loss_sum"])
        self.num_correct.copy_(state["num_correct"])
        torch.set_rng_state(state["rng"])
        device = self.loss_sum.device
        if device.type == "cuda" and state["rng_cuda"] is not None:
            torch.cuda.set_rng_state(state["rng_cuda"], device)
        if device.type == "mps" and state["rng_mps"] is not None:
            torch.mps.set_rng_state(state["rng_mps"])
        self.epoch = state["epoch"]
        self.step_in_epoch = state["step_in_epoch"]
        self.seconds = state["seconds"]
        self._clock = None
        self.grad_norm = state["grad_norm"]
        self.best = state["best"]
        self.history = state["history"]
        self.resumed_at = state["resumed_at"]


def start(model: nn.Module, recipe: Recipe) -> Training:
    """Return the state before the first step; ``model`` is on the device already."""
    device = recipe.device
    # MPS has no float64. An epoch's loss sum in float32 is then only nearly exact.
    sum_dtype = torch.float32 if device.type == "mps" else torch.float64
    return Training(
        model=model,
        optimizer=optim.build(recipe.optim, model),
        scaler=torch.amp.GradScaler(device.type, enabled=recipe.train.precision == "float16"),
        averaged=copy.deepcopy(model).eval() if recipe.train.ema is not None else None,
        loss_sum=torch.zeros((), dtype=sum_dtype, device=device),
        num_correct=torch.zeros((), dtype=torch.int64, device=device),
    )


def snapshot(training: Training) -> Callable[[], None]:
    """Copy the training state; the returned function restores it, except the clock."""
    state = training.state_dict()
    changing = ("model", "optimizer", "scaler", "averaged", "loss_sum", "num_correct")
    copies = {name: copy.deepcopy(state[name]) for name in changing}

    def restore() -> None:
        seconds = training.elapsed()
        training.load_state_dict({**state, **copies, "seconds": seconds})
        training.start_clock()

    return restore
