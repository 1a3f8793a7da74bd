"""The loop: evaluate, train an epoch, fit. No Hydra and no TensorBoard in here.

Every random draw is a function of the seed, the purpose and the epoch; only dropout's stream moves
within an epoch, and its position travels in the checkpoint. So training that is killed and
resumed ends with the same bits as training that was not.
"""

import contextlib
import copy
import functools
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from tinylab.config.metrics import goodness
from tinylab.config.schema import AugmentConfig, OptimConfig, TrainConfig
from tinylab.data import augment
from tinylab.data.batches import Batches, Normalization, batch_bounds
from tinylab.data.split import permutation
from tinylab.errors import Stopped, UserError
from tinylab.system.runtime import derive_seed, synchronize
from tinylab.training import optim
from tinylab.training.capture import Batch, Captured
from tinylab.training.checkpoint import Checkpoints
from tinylab.training.metrics import Score, score
from tinylab.ui.console import say
from tinylab.ui.display import Display
from tinylab.ui.tensorboard import Row, Tracker, now

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

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """Mixed precision where it is asked for."""
        if self.train.precision == "float32":
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, DTYPES[self.train.precision])


@dataclass
class Training:
    """Everything that training is: what changes from step to step, and is checkpointed."""

    model: nn.Module
    optimizer: optim.Optimizer
    scaler: torch.amp.GradScaler
    averaged: nn.Module | None
    loss_sum: Tensor
    num_correct: Tensor
    epoch: int = 0
    step_in_epoch: int = 0
    seconds: float = 0.0  # of training in the current epoch
    grad_norm: float = math.nan  # at the last step of the current epoch
    best: dict[str, Any] | None = None  # the best epoch's row, and its weights
    history: list[Row] = field(default_factory=list)
    resumed_at: list[dict[str, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.parameters = [p for p in self.model.parameters() if p.requires_grad]

    def tested(self) -> nn.Module:
        """The network that is evaluated: the averaged one where there is one."""
        return self.model if self.averaged is None else self.averaged

    def state_dict(self) -> dict[str, Any]:
        """All of it, as tensors and plain values."""
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
            "seconds": self.seconds,
            "grad_norm": self.grad_norm,
            "best": self.best,
            "history": self.history,
            "resumed_at": self.resumed_at,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to a saved state. Raises RuntimeError where the network is another one."""
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
        self.grad_norm = state["grad_norm"]
        self.best = state["best"]
        self.history = state["history"]
        self.resumed_at = state["resumed_at"]


def start(model: nn.Module, recipe: Recipe) -> Training:
    """Training before its first step; ``model`` is on the device already."""
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


@dataclass(frozen=True)
class Evaluation:
    """Every metric, and what is behind them.

    predicted: int64 (N,). probabilities: float32 (N, num_classes).
    """

    score: Score
    predicted: NDArray[np.int64]
    probabilities: NDArray[np.float32]


def mean_logits(model: nn.Module, images: Tensor, recipe: Recipe, tta: str) -> Tensor:
    """uint8 (N, C, H, W) -> float32 (N, num_classes), the mean over ``augment.views``."""
    with recipe.autocast():
        views = [recipe.normalization(view) for view in augment.views(images, tta)]
        return torch.stack([model(view).float() for view in views]).mean(0)


@torch.inference_mode()
def evaluate(model: nn.Module, batches: Batches, recipe: Recipe, tta: str = "none") -> Evaluation:
    """Exact figures over every image, in evaluation mode, without label smoothing.

    With ``tta`` the logits are the mean over ``augment.views`` of each image. Raises UserError
    where the network's outputs are not finite numbers.
    """
    was_training = model.training
    model.eval()
    # Room for all is made first: a small result kept from each batch lies between the activations
    # that are given back, and the next ones fit no more: 22 GB instead of 1.6 for 864,000 images.
    outputs = torch.empty(len(batches), recipe.num_classes, device=recipe.device)
    done = 0
    for images, _ in batches.in_order(recipe.train.eval_batch_size):
        outputs[done : done + len(images)] = mean_logits(model, images, recipe, tta)
        done += len(images)
    model.train(was_training)
    logits = outputs.cpu().double()  # (N, num_classes)
    if not logits.isfinite().all():
        raise UserError(
            "the network's outputs are not finite numbers\n"
            "  lower optim.lr, or limit the gradient with train.grad_clip=1"
        )
    labels = batches.labels.cpu()
    log_probabilities = logits.log_softmax(1)
    # To the bit F.cross_entropy of the logits, without a second softmax for the metrics.
    loss = float(F.nll_loss(log_probabilities, labels, reduction="sum")) / len(labels)
    predicted = logits.argmax(1).numpy()
    return Evaluation(
        score=score(labels.numpy(), predicted, log_probabilities.numpy(), loss),
        predicted=predicted,
        probabilities=logits.softmax(1).float().numpy(),
    )


def fit(
    training: Training,
    train: Batches,
    val: Batches | None,
    recipe: Recipe,
    checkpoints: Checkpoints,
    tracker: Tracker,
    display: Display,
    stop_signal: Callable[[], int | None],
) -> None:
    """Train to the end, from wherever ``training`` is; then it holds the weights to be tested.

    Each epoch in this order: train, evaluate, record, keep the best, save. ``stop_signal`` is
    asked after every step; where it names a signal the state is saved and Stopped is raised.
    Raises UserError where the loss is no longer a finite number.
    """
    if val is None and recipe.train.patience is not None:
        raise UserError(
            f"train.patience={recipe.train.patience}: early stopping needs validation images; "
            "expected split.val above 0, or train.patience=null"
        )
    full_step = _full_step(training, recipe)
    while training.epoch < recipe.train.epochs and not _out_of_patience(training, recipe.train):
        train_epoch(training, train, recipe, full_step, checkpoints, display, stop_signal)
        val_score = None if val is None else evaluate(training.tested(), val, recipe).score
        row = _close_epoch(training, len(train), recipe, val_score)
        if _is_best(training, row, recipe.train):
            training.best = {**row, "weights": _snapshot(training.tested())}
        checkpoints.save_last(training.state_dict())
        tracker.log(row)
        display.epoch(row)
        _stop_if_asked(stop_signal)
    if training.best is not None:
        training.tested().load_state_dict(training.best["weights"])
    checkpoints.save_best(training.tested().state_dict())


def train_epoch(
    training: Training,
    train: Batches,
    recipe: Recipe,
    full_step: Callable[[Batch], None],
    checkpoints: Checkpoints,
    display: Display,
    stop_signal: Callable[[], int | None],
) -> None:
    """Train the rest of the current epoch: by ``full_step``, and the last batch by ``train_step``.

    On CUDA the host runs ahead: nothing between the steps waits for the device, except figures
    that a live display shows and checkpoints.
    """
    config, device = recipe.train, recipe.device
    bounds = batch_bounds(len(train), config.batch_size)
    first_step, total_steps = training.epoch * len(bounds), config.epochs * len(bounds)
    epoch_seed = derive_seed(recipe.seed, "order", training.epoch)
    order = torch.from_numpy(permutation(len(train), epoch_seed))
    draw_seed = derive_seed(recipe.seed, "augment", training.epoch)
    draws = augment.draw(recipe.augment, len(train), draw_seed, device)
    if training.step_in_epoch == 0:
        torch.manual_seed(derive_seed(recipe.seed, "dropout", training.epoch))
        training.loss_sum.zero_()
        training.num_correct.zero_()
        training.seconds = 0.0
    training.model.train()
    seconds_before, started = training.seconds, time.perf_counter()
    saved = started
    batches = train.in_turn(order, bounds[training.step_in_epoch :])
    for step, (images, labels) in enumerate(batches, training.step_in_epoch):
        lr = optim.learning_rate(recipe.optim, first_step + step, total_steps)
        share = 1 - _decay(config.ema or 0.0, first_step + step)
        batch = Batch(
            images, labels, draws.rows(*bounds[step]), _rate(lr, device), _rate(share, device)
        )
        if step < len(bounds) - 1:
            full_step(batch)
        else:  # it may be short, and its gradient's norm is asked for
            train_step(training, recipe, batch, is_last=True)
        training.step_in_epoch = step + 1

        clock = time.perf_counter()
        training.seconds = seconds_before + clock - started
        display.step(training.epoch, step + 1, len(bounds), lambda: _so_far(training, bounds))
        if clock - saved > config.checkpoint_seconds or stop_signal() is not None:
            _refuse_non_finite(training, first_step)
            checkpoints.save_last(training.state_dict())
            _stop_if_asked(stop_signal)
            saved = time.perf_counter()
            started += saved - clock  # writing is no training
    synchronize(device)
    training.seconds = seconds_before + time.perf_counter() - started
    _refuse_non_finite(training, first_step)


def train_step(training: Training, recipe: Recipe, batch: Batch, is_last: bool = False) -> None:
    """One update by one batch; ``is_last`` of the epoch, it notes its gradient's norm.

    On CUDA all else must be fit to be recorded (``capture.py``): no waiting for the device, and
    nothing that is not in ``batch`` may change from step to step.
    """
    config, model = recipe.train, training.model
    draws, labels = batch.draws, batch.labels
    inputs = recipe.normalization(augment.apply(batch.images, draws, recipe.augment))
    targets: Tensor = labels
    if draws.keep is not None or draws.patch is not None:
        inputs, targets = augment.mix(inputs, labels, recipe.num_classes, draws)
    training.optimizer.lr = batch.lr
    with recipe.autocast():
        logits = model(inputs)  # (N, num_classes)
        loss = training_loss(logits, targets, recipe)
    for parameter in training.parameters:
        parameter.grad = None
    training.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
    if config.grad_clip is not None or is_last:
        training.scaler.unscale_(training.optimizer)  # type: ignore[arg-type]
        norm = nn.utils.clip_grad_norm_(training.parameters, config.grad_clip or math.inf)
        training.grad_norm = float(norm) if is_last else math.nan
    training.scaler.step(training.optimizer)  # type: ignore[arg-type]
    training.scaler.update()
    if training.averaged is not None:
        _average(training.averaged, model, batch.share)
    training.loss_sum.add_(loss.detach(), alpha=len(labels))
    training.num_correct += (logits.detach().argmax(1) == labels).sum()


def _full_step(training: Training, recipe: Recipe) -> Callable[[Batch], None]:
    """``train_step`` for all batches of an epoch but the last; recorded and replayed on CUDA."""
    step = functools.partial(train_step, training, recipe)
    if recipe.device.type != "cuda":
        return step
    if recipe.train.precision == "float16":
        say("cuda    each kernel is launched by itself: float16 looks at every gradient's size")
        return step
    if recipe.train.compile:
        say("cuda    each kernel is launched by itself: train.compile=true")
        return step
    return Captured(step, functools.partial(_remember, training))


def _remember(training: Training) -> Callable[[], None]:
    """Note where training is; the function that is returned goes back there."""
    state = training.state_dict()
    changing = ("model", "optimizer", "scaler", "averaged", "loss_sum", "num_correct")
    copies = {name: copy.deepcopy(state[name]) for name in changing}
    return lambda: training.load_state_dict({**state, **copies})


def _rate(value: float, device: torch.device) -> float | Tensor:
    """A number; on CUDA in a tensor there, as a recorded step must find it."""
    return torch.full((), value, device=device) if device.type == "cuda" else value


def training_loss(logits: Tensor, targets: Tensor, recipe: Recipe) -> Tensor:
    """Cross-entropy in nats, smoothed and weighted as the recipe says; a mean over the batch.

    logits: (N, num_classes). targets: int64 (N,), or the shares of each class (N, num_classes).
    With class weights the sum is divided by N as it is without, and not by the sum of the labels'
    weights, torch's own mean: that would take a class's weight away in a batch of that class.
    """
    smoothing = recipe.train.label_smoothing
    if recipe.class_weights is None:
        return F.cross_entropy(logits, targets, label_smoothing=smoothing)
    weighted_sum = F.cross_entropy(
        logits, targets, recipe.class_weights, reduction="sum", label_smoothing=smoothing
    )
    return weighted_sum / len(logits)


def _so_far(training: Training, bounds: list[tuple[int, int]]) -> str:
    """The current epoch's figures up to now, for the live display. Waits for the device."""
    seen = bounds[training.step_in_epoch - 1][1]
    loss, accuracy = float(training.loss_sum) / seen, int(training.num_correct) / seen
    speed = seen / max(training.seconds, 1e-9)
    return f"loss {loss:.4f}  accuracy {accuracy:.2%}  {speed:,.0f} images/s"


def _close_epoch(training: Training, num_images: int, recipe: Recipe, val: Score | None) -> Row:
    """Record the epoch that just ended, and move on to the next."""
    training.epoch += 1
    training.step_in_epoch = 0
    steps_in_epoch = len(batch_bounds(num_images, recipe.train.batch_size))
    steps = training.epoch * steps_in_epoch
    row = {
        "epoch": training.epoch,
        "step": steps,
        "train_loss": float(training.loss_sum) / num_images,
        "train_accuracy": int(training.num_correct) / num_images,
        "val_loss": None if val is None else val.loss,
        "val_accuracy": None if val is None else val.accuracy,
        "val_balanced_accuracy": None if val is None else val.balanced_accuracy,
        "val_macro_f1": None if val is None else val.macro_f1,
        "lr": optim.learning_rate(recipe.optim, steps - 1, recipe.train.epochs * steps_in_epoch),
        "grad_norm": training.grad_norm if math.isfinite(training.grad_norm) else None,
        "seconds": training.seconds,
        "images_per_second": num_images / max(training.seconds, 1e-9),
        "time": now(),
    }
    training.history.append(row)
    return row


def _is_best(training: Training, row: Row, config: TrainConfig) -> bool:
    """Whether this epoch's weights are the ones to be tested, as far as is known."""
    if config.weights == "last" or row["val_loss"] is None:
        return False
    if training.best is None:
        return True
    metric = f"val_{config.monitor}"
    return goodness(row, metric) > goodness(training.best, metric)


def _out_of_patience(training: Training, config: TrainConfig) -> bool:
    if config.patience is None or not training.history:
        return False
    metric = f"val_{config.monitor}"
    best = max(training.history, key=lambda row: (*goodness(row, metric), -row["epoch"]))
    return training.epoch - int(best["epoch"]) >= config.patience


def _stop_if_asked(stop_signal: Callable[[], int | None]) -> None:
    signum = stop_signal()
    if signum is not None:
        raise Stopped(signum)


def _refuse_non_finite(training: Training, first_step: int) -> None:
    """Not-a-number sticks to sums and weights, so looking now and then misses no step.

    The weights are looked at too: the last update is in no loss yet.
    """
    values = [training.loss_sum, *training.model.state_dict().values()]
    if not torch.stack([value.isfinite().all() for value in values]).all():
        raise UserError(
            f"the loss or a weight is not a finite number any more, in epoch {training.epoch + 1} "
            f"between steps {first_step + 1} and {first_step + training.step_in_epoch}\n"
            "  lower optim.lr, or limit the gradient with train.grad_clip=1"
        )


def _snapshot(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def _decay(decay: float, step: int) -> float:
    """The decay of the averaged weights at a step, counted from 0.

    Early on it is (1 + step) / (10 + step), so that the initial weights are forgotten (as
    TensorFlow's ExponentialMovingAverage with ``num_updates`` does).
    """
    return min(decay, (1 + step) / (10 + step))


@torch.no_grad()
def _average(averaged: nn.Module, model: nn.Module, share: float | Tensor) -> None:
    """Exponential moving average of weights and batch-norm statistics, in place.

    share: that of the new weights.
    """
    pairs = list(zip(averaged.state_dict().values(), model.state_dict().values(), strict=True))
    means = [a for a, _ in pairs if a.is_floating_point()]
    news = [b for a, b in pairs if a.is_floating_point()]
    if isinstance(share, Tensor):  # lerp takes no tensor of one number
        steps = torch._foreach_sub(news, means)
        torch._foreach_mul_(steps, share)
        torch._foreach_add_(means, steps)
    else:
        torch._foreach_lerp_(means, news, share)
    for a, b in pairs:
        if not a.is_floating_point():
            a.copy_(b)
