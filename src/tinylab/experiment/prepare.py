"""Load, prepare, define: from a config to everything needed for training."""

import time
from dataclasses import dataclass

import torch
from torch import nn

from tinylab import data, models
from tinylab.config import code, options, own_metrics, user_code
from tinylab.config.base_records import UNIT
from tinylab.config.schema import Config
from tinylab.config.weights import is_file
from tinylab.data.batches import (
    Batches,
    Normalization,
    batch_bounds,
    fit_class_weights,
    fit_normalization,
    restore_normalization,
    to_device,
)
from tinylab.errors import UserError
from tinylab.models import own as own_model
from tinylab.models import pretrained
from tinylab.system import runtime
from tinylab.system.machine import thread_limit
from tinylab.training import optim, own
from tinylab.training.own_metrics import load as load_metrics
from tinylab.training.state import Recipe
from tinylab.ui.console import say

PARTS = ("train", "val", "test")


@dataclass(frozen=True)
class Prepared:
    """Everything needed for training; nothing is written yet."""

    config: Config
    splits: data.Splits
    parts: dict[str, Batches]  # train, val, test; val may be empty
    model: nn.Module
    recipe: Recipe
    data_seconds: float
    code: dict[str, str]  # digests of the code that determines the result, at the time of import
    own_metrics: dict[str, dict[str, str]]  # what is recorded about user code


# Multiply-adds of a step's forward pass that justify another thread.
WORTH_A_THREAD = 4_000_000


def threads_for(model: nn.Module, image_shape: tuple[int, int, int], batch_size: int) -> int:
    """CPU threads by the work of a step: the same command has the same bits, whatever else runs.

    Small steps get one thread: two would gain 3 % alone, and lose nine tenths beside one busy
    process, since each waits for the other at the end of each kernel.
    """
    work = models.multiply_adds(model, image_shape) * batch_size
    return max(1, min(thread_limit(), work // WORTH_A_THREAD))


def prepare(config: Config) -> Prepared:
    """Load the data, build the network. Raises UserError. Requires ``runtime.settings``."""
    options.add_files(user_code.paths(config.code))  # it may come from another process
    device = runtime.choose_device(config.device)
    # Before any import: edits during preparation or training do not belong to the run.
    recorded, metrics_recorded = code.recorded(config), own_metrics.recorded()
    started = time.perf_counter()
    splits = data.load(config.dataset, config.split)
    _refuse_large_batch(config, len(splits.split.train))
    channels_last = config.train.channels_last
    streamed = splits.data.nbytes > runtime.room_for_images(device)
    whole = to_device(splits.data, device, channels_last, streamed)
    parts = {name: whole.part(getattr(splits.split, name)) for name in PARTS}
    data_seconds = time.perf_counter() - started
    normalization = _normalization(config, parts["train"])
    torch.manual_seed(runtime.derive_seed(config.seed, "weights"))
    num_classes = len(splits.data.classes)
    C, (H, W) = normalization.channels, splits.data.pixels.shape[2:]
    model = models.build(config.model, (C, H, W), num_classes)
    if config.threads is None and device.type == "cpu":
        with own_model.mistakes_reported(config.model, model):  # one image may not do
            threads = threads_for(model, (C, H, W), config.train.batch_size)
        torch.set_num_threads(threads)
    if device.type == "cpu" and not config.train.compile and config.train.precision == "float32":
        num_images = len(splits.split.train) * config.train.epochs
        recorded |= models.choose_kernels(model, (C, H, W), num_images)
    model = model.to(device)
    if channels_last:
        model = model.to(memory_format=torch.channels_last)
    if config.train.compile:
        model.compile()
    is_own = any(not option.is_builtin for option in options.chosen(config))
    recipe = Recipe(
        train=config.train,
        optim=config.optim,
        augment=config.augment,
        seed=config.seed,
        num_classes=num_classes,
        normalization=normalization,
        device=device,
        class_weights=fit_class_weights(
            parts["train"].labels, num_classes, config.train.class_weights
        ),
        metrics=load_metrics(num_classes),
        loss=own.loss(config.loss, num_classes, device, _is_mixed(config)),
        augmentation=own.augmentation(config.augment, parts["train"]),
        schedule=own.schedule(config.schedule, _steps(config, len(parts["train"]))),
        shrink=parts["train"].shrink,
        is_frozen=models.is_frozen(config.model),
        may_adapt=_may_adapt(config, is_own),
        is_own=is_own,
    )
    optim.rehearse(config.optim, model)
    return Prepared(config, splits, parts, model, recipe, data_seconds, recorded, metrics_recorded)


def _may_adapt(config: Config, is_own: bool) -> bool:
    """Whether a step may take fewer threads than the run's, if some steps have equal bits then.

    Not if the number was given. A compiled step is made for one number, and comparing some steps
    proves too little about a limit of the gradient, which is one number, and about user code.
    """
    is_free = config.threads is None and torch.get_num_threads() > 1
    return is_free and not (is_own or config.train.compile or config.train.grad_clip is not None)


def _is_mixed(config: Config) -> bool:
    return config.augment.mixup > 0 or config.augment.cutmix > 0


def _steps(config: Config, num_train: int) -> int:
    return config.train.epochs * len(batch_bounds(num_train, config.train.batch_size))


def _normalization(config: Config, train: Batches) -> Normalization:
    kind, weights = config.dataset.normalize, models.weights_of(config.model)
    stored = pretrained.normalization(weights) if weights and is_file(weights) else None
    if kind != "weights":
        made = fit_normalization(train, kind, models.statistics(config.model))
        if stored not in (None, made.as_dict()):
            say(f"        {weights} was trained with another normalization; use it with")
            say("        dataset.normalize=weights")
        return made
    if stored is None:
        say(f"        {weights} does not say how its images were normalized: pixels / 255")
        return fit_normalization(train, UNIT)
    C = train.images.shape[1]
    count = len(stored["scale"])
    if count != C and 1 not in (count, C):
        raise UserError(f"{weights}: trained on images of {count} channels, these have {C}")
    each = {name: values * C if count == 1 else values for name, values in stored.items()}
    return restore_normalization(each, train.labels.device)


def _refuse_large_batch(config: Config, num_train: int) -> None:
    size = config.train.batch_size
    if size > num_train:
        raise UserError(
            f"train.batch_size={size}: expected at most {num_train}, the number of training images"
        )
