"""Load, prepare, define: from a config to everything that training starts from."""

import time
from dataclasses import dataclass

import torch
from torch import nn

from tinylab import data, models
from tinylab.config.schema import Config
from tinylab.data.batches import Batches, fit_class_weights, fit_normalization, to_device
from tinylab.errors import UserError
from tinylab.system import runtime
from tinylab.training.state import Recipe

PARTS = ("train", "val", "test")


@dataclass(frozen=True)
class Prepared:
    """Everything that training starts from; nothing is written yet."""

    config: Config
    splits: data.Splits
    parts: dict[str, Batches]  # train, val, test; val may be empty
    model: nn.Module
    recipe: Recipe
    data_seconds: float


def prepare(config: Config) -> Prepared:
    """Load the data, build the network. Raises UserError. Within ``runtime.settings``."""
    device = runtime.choose_device(config.device)
    started = time.perf_counter()
    splits = data.load(config.dataset, config.split)
    _refuse_large_batch(config, len(splits.split.train))
    channels_last = config.train.channels_last
    streamed = splits.data.images.nbytes > runtime.room_for_images(device)
    whole = to_device(splits.data, device, channels_last, streamed)
    parts = {name: whole.part(getattr(splits.split, name)) for name in PARTS}
    data_seconds = time.perf_counter() - started
    torch.manual_seed(runtime.derive_seed(config.seed, "weights"))
    num_classes = len(splits.data.classes)
    _, C, H, W = splits.data.images.shape
    model = models.build(config.model, (C, H, W), num_classes).to(device)
    if channels_last:
        model = model.to(memory_format=torch.channels_last)
    if config.train.compile:
        model.compile()
    recipe = Recipe(
        train=config.train,
        optim=config.optim,
        augment=config.augment,
        seed=config.seed,
        num_classes=num_classes,
        normalization=fit_normalization(parts["train"], config.dataset.normalize),
        device=device,
        class_weights=fit_class_weights(
            parts["train"].labels, num_classes, config.train.class_weights
        ),
    )
    return Prepared(config, splits, parts, model, recipe, data_seconds)


def _refuse_large_batch(config: Config, num_train: int) -> None:
    size = config.train.batch_size
    if size > num_train:
        raise UserError(
            f"train.batch_size={size}: expected at most {num_train}, the number of training images"
        )
