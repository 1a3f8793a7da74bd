"""Load, prepare, define: from a config to everything that training starts from."""

import time
from dataclasses import dataclass

import torch
from torch import nn

from tinylab import data, models
from tinylab.config import code, options
from tinylab.config.schema import Config
from tinylab.data.batches import Batches, fit_class_weights, fit_normalization, to_device
from tinylab.errors import UserError
from tinylab.system import runtime
from tinylab.system.machine import thread_limit
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
    code: dict[str, str]  # digests of what decides the result, as it was imported


# Multiply-adds of a step's forward pass that are worth a thread.
WORTH_A_THREAD = 4_000_000


def threads_for(model: nn.Module, image_shape: tuple[int, int, int], batch_size: int) -> int:
    """CPU threads by the work of a step: the same command has the same bits, whatever else runs.

    Small steps get one thread: two would gain 3 % alone, and lose nine tenths beside one busy
    process, since each waits for the other at the end of each kernel.
    """
    work = models.multiply_adds(model, image_shape) * batch_size
    return max(1, min(thread_limit(), work // WORTH_A_THREAD))


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
    recorded = code.recorded(config)  # before the import: an edit while it trains is none of it
    torch.manual_seed(runtime.derive_seed(config.seed, "weights"))
    num_classes = len(splits.data.classes)
    _, C, H, W = splits.data.images.shape
    model = models.build(config.model, (C, H, W), num_classes)
    if config.threads is None and device.type == "cpu":
        torch.set_num_threads(threads_for(model, (C, H, W), config.train.batch_size))
    if device.type == "cpu" and not config.train.compile and config.train.precision == "float32":
        num_images = len(splits.split.train) * config.train.epochs
        recorded |= models.choose_kernels(model, (C, H, W), num_images)
    model = model.to(device)
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
        is_own_model=not options.of(config.model).is_builtin,
    )
    return Prepared(config, splits, parts, model, recipe, data_seconds, recorded)


def _refuse_large_batch(config: Config, num_train: int) -> None:
    size = config.train.batch_size
    if size > num_train:
        raise UserError(
            f"train.batch_size={size}: expected at most {num_train}, the number of training images"
        )
