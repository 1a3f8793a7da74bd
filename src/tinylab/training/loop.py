"""The loop: train an epoch, fit. No Hydra and no TensorBoard in here.

Every random draw is a function of the seed, the purpose and the epoch; only dropout's stream moves
within an epoch, and its position travels in the checkpoint. So training that is killed and
resumed ends with the same bits as training that was not.
"""

import functools
import math
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from tinylab.config.metrics import goodness
from tinylab.config.schema import TrainConfig
from tinylab.data import augment
from tinylab.data.batches import Batches, batch_bounds
from tinylab.data.split import permutation
from tinylab.errors import Stopped, UserError
from tinylab.system.runtime import derive_seed, synchronize
from tinylab.training import optim
from tinylab.training.capture import Captured
from tinylab.training.checkpoint import Checkpoints
from tinylab.training.evaluate import evaluate
from tinylab.training.metrics import Score
from tinylab.training.state import Recipe, Training, remember
from tinylab.training.step import Batch, ema_decay, scalar, train_step
from tinylab.ui.console import say
from tinylab.ui.display import Display
from tinylab.ui.tensorboard import Row, Tracker, now


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
        share = 1 - ema_decay(config.ema or 0.0, first_step + step)
        batch = Batch(
            images, labels, draws.rows(*bounds[step]), scalar(lr, device), scalar(share, device)
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
    return Captured(step, functools.partial(remember, training))


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
