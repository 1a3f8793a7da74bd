"""A training step: its inputs, loss, update, and the averaged weights."""

import math
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tinylab.data import augment
from tinylab.data.augment import Draws
from tinylab.models import kernels
from tinylab.system.runtime import derive_seed
from tinylab.training.state import Recipe, Training


class Batch(NamedTuple):
    """The inputs of a step besides the training state.

    images: uint8 (N, C, H, W). labels: int64 (N,). draws: the augmentation parameters of these
    images. lr: the learning rate. ema_weight: of the new weights in their moving average, 1 -
    decay. On CUDA both are one-element tensors, which a recorded step re-reads in every replay.
    """

    images: Tensor
    labels: Tensor
    draws: Draws
    lr: float | Tensor
    ema_weight: float | Tensor

    def tensors(self) -> list[Tensor]:
        """Return all its tensors, in a fixed order."""
        return [value for value in (*self, *self.draws) if isinstance(value, Tensor)]

    def shapes(self) -> list[tuple[int, ...] | None]:
        """The shape of each tensor, None where a draw is switched off."""
        values = (self.images, self.labels, *self.draws)
        return [tuple(v.shape) if isinstance(v, Tensor) else None for v in values]

    def buffers(self) -> "Batch":
        """Copy a batch to separate memory with the same shapes, memory formats and values."""
        own = Batch(*map(_cloned, self))
        return own._replace(draws=Draws(*map(_cloned, self.draws)))


def _cloned(value: Any) -> Any:
    return value.clone() if isinstance(value, Tensor) else value


def train_step(training: Training, recipe: Recipe, batch: Batch, is_last: bool = False) -> None:
    """One update with one batch; if ``is_last`` of the epoch, records its gradient norm.

    On CUDA all of it must be recordable (``capture.py``): no waiting for the device, and nothing
    outside ``batch`` may change from step to step.
    """
    config, model = recipe.train, training.model
    draws, labels = batch.draws, batch.labels
    pixels = augment.apply(batch.images, draws, recipe.augment, recipe.shrink)
    if recipe.augmentation is not None and recipe.augments(training.epoch):
        purpose = f"augmentation of epoch {training.epoch}"
        pixels = recipe.augmentation(
            pixels, derive_seed(recipe.seed, purpose, training.step_in_epoch)
        )
    inputs = recipe.normalization(pixels)
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
        _average(training.averaged, model, batch.ema_weight)
    training.loss_sum.add_(loss.detach(), alpha=len(labels))
    training.num_correct += (logits.detach().argmax(1) == labels).sum()


def training_loss(logits: Tensor, targets: Tensor, recipe: Recipe) -> Tensor:
    """Cross-entropy in nats, smoothed and weighted by the recipe; the mean over the batch.

    Or the user's own loss, which supports neither. logits: (N, num_classes). targets: int64 (N,),
    or class probabilities (N, num_classes). With class weights the sum is divided by N as without,
    not by the sum of the labels' weights, torch's own mean: that would cancel a class's weight in a
    batch of only that class.
    """
    if recipe.loss is not None:
        return recipe.loss(logits.float(), targets)
    smoothing = recipe.train.label_smoothing
    if recipe.class_weights is None:
        return F.cross_entropy(logits, targets, label_smoothing=smoothing)
    weighted_sum = F.cross_entropy(
        logits, targets, recipe.class_weights, reduction="sum", label_smoothing=smoothing
    )
    return weighted_sum / len(logits)


def scalar(value: float, device: torch.device) -> float | Tensor:
    """Return a number; on CUDA as a tensor there, as a recorded step needs it."""
    return torch.full((), value, device=device) if device.type == "cuda" else value


def ema_decay(decay: float, step: int) -> float:
    """Return the decay of the averaged weights at a step, counted from 0.

    Early on it is (1 + step) / (10 + step), so that the initial weights are forgotten (as
    TensorFlow's ExponentialMovingAverage with ``num_updates`` does).
    """
    return min(decay, (1 + step) / (10 + step))


@torch.no_grad()
def _average(averaged: nn.Module, model: nn.Module, weight: float | Tensor) -> None:
    """Exponential moving average of weights and batch-norm statistics, in place.

    weight: of the new weights, 1 - decay.
    """
    pairs = list(zip(averaged.state_dict().values(), model.state_dict().values(), strict=True))
    means = [a for a, _ in pairs if a.is_floating_point()]
    new = [b for a, b in pairs if a.is_floating_point()]
    if isinstance(weight, Tensor):  # lerp does not support one-element tensors
        steps = kernels.foreach("sub", new, means)
        kernels.foreach("mul_", steps, weight)
        kernels.foreach("add_", means, steps)
    else:
        kernels.foreach("lerp_", means, new, weight)
    for a, b in pairs:
        if not a.is_floating_point():
            a.copy_(b)
