"""The training loop: train an epoch, fit. Does not import Hydra or TensorBoard.

Every random draw is a function of the seed, the purpose and the epoch; only dropout's generator
advances within an epoch, and its state is in the checkpoint. So training that is killed and resumed
is bit-identical to uninterrupted training.
"""

import functools
import math
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from tinylab.config.base_records import AugmentConfig
from tinylab.config.metrics import goodness
from tinylab.config.schema import TrainConfig
from tinylab.data import augment
from tinylab.data.batches import Batches, batch_bounds
from tinylab.data.split import permutation
from tinylab.errors import UserError
from tinylab.models.pretrained import hold_statistics
from tinylab.system.runtime import derive_seed
from tinylab.training import optim
from tinylab.training.capture import Captured
from tinylab.training.evaluate import Evaluation, evaluate
from tinylab.training.state import Recipe, Training, snapshot
from tinylab.training.step import Batch, ema_decay, scalar, train_step
from tinylab.training.threads import AdaptiveThreads
from tinylab.ui.console import say
from tinylab.ui.tensorboard import Row, now


class StepDone(NamedTuple):
    """Step ``step`` of ``steps`` in epoch number ``epoch`` (from 0) is done."""

    epoch: int
    step: int
    steps: int
    progress: Callable[[], str]  # the epoch's metrics so far, in words; waits for the device


class EpochDone(NamedTuple):
    """An epoch is trained, evaluated and recorded: the last row of the history."""

    row: Row


Event = StepDone | EpochDone


def fit(training: Training, parts: Mapping[str, Batches], recipe: Recipe) -> Iterator[Event]:
    """Train to the end, from the state of ``training``; then it has the weights to be tested.

    Yields after each step and each epoch, when ``training`` can be saved. The caller must not
    change it or use torch's global generators. The order in each epoch: train, evaluate, record,
    keep the best; ``parts["val"]`` may be empty. Time between the steps counts as training, except
    after ``Training.resume_point``. Raises UserError if the loss is no longer finite.
    """
    train, val = parts["train"].for_training(), parts["val"]
    if len(val) == 0 and recipe.train.patience is not None:
        raise UserError(
            f"train.patience={recipe.train.patience}: early stopping needs validation images; "
            "expected split.val above 0, or train.patience=null"
        )
    full_step = _full_step(training, recipe)
    while training.epoch < recipe.train.epochs and not _out_of_patience(training, recipe.train):
        yield from train_epoch(training, train, recipe, full_step)
        evaluated = evaluate(training.tested(), val, recipe) if len(val) else None
        row = _close_epoch(training, len(train), recipe, evaluated)
        if _is_best(training, row, recipe.train):
            training.best = {**row, "weights": _weights_of(training.tested())}
        yield EpochDone(row)
    if training.best is not None:
        training.tested().load_state_dict(training.best["weights"])


def train_epoch(
    training: Training, train: Batches, recipe: Recipe, full_step: Callable[[Batch], None]
) -> Iterator[StepDone]:
    """Train the rest of the current epoch: by ``full_step``, and the last batch by ``train_step``.

    On CUDA the host runs ahead: nothing between the steps waits for the device, unless the caller
    asks for ``progress`` or a resume point.
    """
    config, device = recipe.train, recipe.device
    bounds = batch_bounds(len(train), config.batch_size)
    first_step, total_steps = training.epoch * len(bounds), config.epochs * len(bounds)
    epoch_seed = derive_seed(recipe.seed, "order", training.epoch)
    order = torch.from_numpy(permutation(len(train), epoch_seed))
    draw_seed = derive_seed(recipe.seed, "augment", training.epoch)
    changes = recipe.augment if recipe.augments(training.epoch) else AugmentConfig()
    draws = augment.draw(changes, len(train), draw_seed, device)
    if training.step_in_epoch == 0:
        torch.manual_seed(derive_seed(recipe.seed, "dropout", training.epoch))
        training.loss_sum.zero_()
        training.num_correct.zero_()
        training.seconds = 0.0
    training.model.train()
    if recipe.is_frozen:
        hold_statistics(training.model)
    training.start_clock()
    progress = functools.partial(_so_far, training, bounds)
    plain_lr = optim.is_torchs(recipe.optim)  # which do not accept a tensor for it
    batches = train.in_turn(order, bounds[training.step_in_epoch :])
    for step, (images, labels) in enumerate(batches, training.step_in_epoch):
        lr = optim.learning_rate(recipe.optim, first_step + step, total_steps, recipe.schedule)
        ema_weight = 1 - ema_decay(config.ema or 0.0, first_step + step)
        batch = Batch(
            images, labels, draws.rows(*bounds[step]), lr if plain_lr else scalar(lr, device),
            scalar(ema_weight, device),
        )  # fmt: skip
        if step < len(bounds) - 1:
            full_step(batch)
        else:  # it may be smaller, and its gradient norm is recorded
            train_step(training, recipe, batch, is_last=True)
        training.step_in_epoch = step + 1
        yield StepDone(training.epoch, step + 1, len(bounds), progress)
        training.start_clock()  # a resume point has stopped it
    training.stop_clock()
    training.refuse_non_finite()


def _full_step(training: Training, recipe: Recipe) -> Callable[[Batch], None]:
    """Return ``train_step`` for all batches of an epoch but the last; a CUDA graph on CUDA."""
    step = functools.partial(train_step, training, recipe)
    if recipe.device.type == "cpu" and recipe.may_adapt:
        return AdaptiveThreads(step, training.state_dict, functools.partial(snapshot, training))
    if recipe.device.type != "cuda":
        return step
    if recipe.is_own:
        say(
            "cuda    no CUDA graph, kernels are launched one by one: your own code may change "
            "behavior"
        )
        return step
    if optim.is_torchs(recipe.optim):
        say("cuda    no CUDA graph, kernels are launched one by one: optim=torch")
        return step
    if recipe.train.precision == "float16":
        say("cuda    no CUDA graph, kernels are launched one by one: float16 checks every gradient")
        return step
    if recipe.train.compile:
        say("cuda    no CUDA graph, kernels are launched one by one: train.compile=true")
        return step
    return Captured(step, functools.partial(snapshot, training))


def _so_far(training: Training, bounds: list[tuple[int, int]]) -> str:
    """Return the current epoch's metrics so far, for the live display. Waits for the device."""
    seen = bounds[training.step_in_epoch - 1][1]
    loss, accuracy = float(training.loss_sum) / seen, int(training.num_correct) / seen
    speed = seen / max(training.elapsed(), 1e-9)
    return f"loss {loss:.4f}  accuracy {accuracy:.2%}  {speed:,.0f} images/s"


def _close_epoch(
    training: Training, num_images: int, recipe: Recipe, evaluated: Evaluation | None
) -> Row:
    """Record the epoch that just ended, and move on to the next."""
    val = None if evaluated is None else evaluated.score
    own = dict.fromkeys(recipe.metrics.functions) if evaluated is None else evaluated.own
    training.epoch += 1
    training.step_in_epoch = 0
    steps_in_epoch = len(batch_bounds(num_images, recipe.train.batch_size))
    steps, all_steps = training.epoch * steps_in_epoch, recipe.train.epochs * steps_in_epoch
    row = {
        "epoch": training.epoch,
        "step": steps,
        "train_loss": float(training.loss_sum) / num_images,
        "train_accuracy": int(training.num_correct) / num_images,
        "val_loss": None if val is None else val.loss,
        "val_accuracy": None if val is None else val.accuracy,
        "val_balanced_accuracy": None if val is None else val.balanced_accuracy,
        "val_macro_f1": None if val is None else val.macro_f1,
        **{f"val_{name}": value for name, value in own.items()},
        "lr": optim.learning_rate(recipe.optim, steps - 1, all_steps, recipe.schedule),
        "grad_norm": training.grad_norm if math.isfinite(training.grad_norm) else None,
        "seconds": training.seconds,
        "images_per_second": num_images / max(training.seconds, 1e-9),
        "time": now(),
    }
    training.history.append(row)
    return row


def _is_best(training: Training, row: Row, config: TrainConfig) -> bool:
    """Return whether this epoch's weights are the ones to be tested, so far."""
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


def _weights_of(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}
