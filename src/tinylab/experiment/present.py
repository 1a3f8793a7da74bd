"""Present: a run's messages, figures and TensorBoard entries, which do not affect results."""

import dataclasses
import math
import shlex
import textwrap
from pathlib import Path

import numpy as np
import torch
import yaml
from matplotlib.figure import Figure
from torch import nn

from tinylab import data, models
from tinylab.config.identity import flatten, identity, run_id
from tinylab.config.metrics import METRICS, with_interval
from tinylab.config.schema import Config, SplitConfig
from tinylab.data import augment
from tinylab.data.split import keeps_official_val
from tinylab.errors import UserError
from tinylab.experiment.prepare import Prepared
from tinylab.store.folder import RunFolder
from tinylab.store.predictions import Predictions
from tinylab.store.result import Result
from tinylab.system import machine, runtime
from tinylab.system.files import write_bytes
from tinylab.training.metrics import worst_mistakes
from tinylab.ui import curves, plots
from tinylab.ui.console import counted, in_bytes, log_to, say
from tinylab.ui.display import short_duration
from tinylab.ui.mirrors import Mirror
from tinylab.ui.tables import WIDTH
from tinylab.ui.tensorboard import Row, RunTracker

FEW_IMAGES = 30  # of validation: one more right is 3 points
LARGEST_VAL = 0.3  # validation fraction that is suggested: the others train
GALLERY = 32  # images in each gallery
WIDE = 16  # input channels of a convolution that bfloat16 speeds up


def introduce(prepared: Prepared, folder: Path) -> None:
    """Describe what is about to be trained, on what, and where."""
    dataset, parts = prepared.splits.data, prepared.splits.split
    N, C, H, W = dataset.pixels.shape
    say(f"run     {folder.name}  in {folder}")
    say(
        f"data    {prepared.config.dataset.name}: {N:,} images of {C}x{H}x{W}, "
        f"{len(dataset.classes)} classes; train {len(parts.train):,}, val {len(parts.val):,}, "
        f"test {len(parts.test):,}"
    )
    imbalance = prepared.splits.imbalance()
    if imbalance:
        is_balanced = prepared.config.train.class_weights == "balanced"
        remedy = "weighed" if is_balanced else "train.class_weights=balanced weighs them"
        say(f"        {imbalance}; {remedy} equally")
    splits = prepared.splits
    for line in (splits.official_val(), splits.grouping(), splits.duplicates()):
        if line:
            say(f"        {line}")
    config = prepared.config
    for line in (
        _fold(config.split),
        _few_validation_images(config, len(parts.val), _is_val_a_fraction(splits)),
        _unaugmented(config),
    ):
        if line:
            say(f"        {line}")
    if blank := splits.blank():
        say(
            f"data    in all training images, {blank}: check the files (16-bit values are divided "
            "by"
        )
        say("        256, so multiply 12-bit values by 16 first)")
    kind = prepared.config.dataset.normalize
    if kind in ("imagenet", "weights"):
        is_expanded = prepared.recipe.normalization.channels > C
        gray = "; gray images as three equal channels" if is_expanded else ""
        say(f"        dataset.normalize={kind}: as the pretrained weights expect it{gray}")
    device = prepared.recipe.device
    if prepared.parts["train"].streamed:
        size = in_bytes(dataset.pixels.nbytes)
        say(f"        {size} of images, more than half of the free memory of {device}: kept")
        say("        in main memory and streamed in pinned chunks")
    count = torch.get_num_threads()
    threads = f", {counted(count, 'thread')}" if device.type == "cpu" else ""
    parameters = models.count_parameters(prepared.model)
    trained = models.count_trained(prepared.model)
    of_them = f", {trained:,} of them trainable" if trained < parameters else ""
    say(
        f"model   {prepared.config.model.name}: {parameters:,} parameters{of_them}, "
        f"{C}x{H}x{W} -> {len(dataset.classes)} logits, on {device} "
        f"({runtime.device_name(device)}{threads})"
    )
    is_fixed = device.type == "cpu" and count > 1 and not prepared.recipe.may_adapt
    if is_fixed and (busy := machine.contention()):
        say(f"        {busy}")
    channels = prepared.recipe.normalization.channels
    if device.type == "cpu" and (hint := _precision_hint(prepared, (channels, H, W))):
        say(f"        {hint}")


def _fold(split: SplitConfig) -> str:
    """Return which fold is held out, and how to train all; empty without a cross-validation.

    In a sweep only the run's log shows it.
    """
    if split.folds is None:
        return ""
    every = ",".join(map(str, range(split.folds)))
    return f"fold {split.fold} of {split.folds} is held out; all folds: -m split.fold={every}"


def _is_val_a_fraction(splits: data.Splits) -> bool:
    """Return whether ``split.val`` determines the validation part: no fold, no official part."""
    has_test = splits.data.num_official_test > 0
    if has_test and splits.config.folds is not None:
        return False
    return not (splits.data.num_official_val and keeps_official_val(splits.config, has_test))


def _few_validation_images(config: Config, num_val: int, is_fraction: bool) -> str:
    """Return the remedy if few images choose the epoch; empty if not.

    A cross-validation is none: its folds hold out test images, and leave fewer for validation.
    """
    if config.train.weights == "last" or not 0 < num_val < FEW_IMAGES:
        return ""
    images = counted(num_val, "validation image")
    steps = math.ceil(20 * (config.split.val or 0) * FEW_IMAGES / num_val)  # of 0.05
    larger = is_fraction and steps / 20 <= LARGEST_VAL
    more = f"split.val={steps / 20:g} gives at least {FEW_IMAGES}, " if larger else ""
    return f"only {images} to choose the epoch: {more}train.weights=last needs none"


def _unaugmented(config: Config) -> str:
    """Return that the epochs without augmentation are all there are; empty if they are not."""
    epochs, last = config.train.epochs, config.augment.no_aug_epochs
    if last < epochs:
        return ""
    return f"no epoch is augmented: train.epochs={epochs} is not above augment.no_aug_epochs={last}"


# Multiply-adds of a training, forward, that are worth a word on its precision: a minute or so.
WORTH_A_WORD = 5_000_000_000_000


def _precision_hint(prepared: Prepared, image_shape: tuple[int, int, int]) -> str:
    """Return what bfloat16 would change on this processor; empty if that is little or unknown.

    A small residual network trained 660 images/s for 414 with AVX512_BF16, and 44 times fewer
    without such units. The first convolution of a network has few channels and gains nothing.
    """
    config, has_units = prepared.config.train, machine.has_bfloat16()
    if config.precision == "bfloat16":
        slow = "this processor has no bfloat16 units: train.precision=float32 is many times faster"
        return slow if has_units is False else ""
    convolutions = [each for each in prepared.model.modules() if isinstance(each, nn.Conv2d)]
    if not has_units or all(each.in_channels < WIDE for each in convolutions):
        return ""
    num_images = len(prepared.splits.split.train) * config.epochs
    if models.multiply_adds(prepared.model, image_shape) * num_images < WORTH_A_WORD:
        return ""
    return (
        "train.precision=bfloat16 is about 1.5 times as fast on this processor (but not "
        "bit-identical)"
    )


def show_start(prepared: Prepared, tracker: RunTracker) -> None:
    """Write the config and sample training images to TensorBoard.

    Failures here do not stop the training.
    """
    try:
        _show_start(prepared, tracker)
    except Exception as error:
        say(f"cannot plot the training images ({type(error).__name__}: {error})")


def _show_start(prepared: Prepared, tracker: RunTracker) -> None:
    config, recipe, batch = prepared.config, prepared.recipe, prepared.parts["train"].for_training()
    dumped = yaml.safe_dump(dataclasses.asdict(config), sort_keys=False)
    tracker.text("config", f"```yaml\n{dumped}```")
    # Evenly over the training set, whose images are sorted by class in most datasets.
    chosen = torch.linspace(0, len(batch) - 1, min(GALLERY, len(batch)))
    images, labels = batch.take(chosen.long())
    seed = runtime.derive_seed(config.seed, "sample")
    draws = augment.draw(config.augment, len(images), seed, recipe.device)
    pixels = augment.apply(images, draws, config.augment, recipe.shrink)
    if recipe.augmentation is not None:
        with torch.random.fork_rng(devices=[]):  # it may use a global generator
            pixels = recipe.augmentation(pixels, seed)
    shown = pixels.round().clamp(0, 255).to(torch.uint8).cpu().numpy()
    names = [prepared.splits.data.classes[label] for label in labels.tolist()]
    figure = plots.gallery(shown, names, "training images as the network sees them")
    tracker.picture("images/augmented", plots.render(figure))


def show_end(
    prepared: Prepared, files: RunFolder, result: Result, tracker: RunTracker | None = None
) -> None:
    """Write final TensorBoard entries, figures and messages, from what was saved.

    Without ``tracker``, all of TensorBoard's entries are rewritten. The run is already finished:
    failures here are reported in one line, and the same command retries them.
    """
    try:
        _draw_end(prepared, files, result, tracker)
    except Exception as error:
        why = f"{type(error).__name__}: {error}".partition("\n")[0]
        say(
            f"cannot make the figures ({why}); the result is saved, and the same command makes them"
        )
    _say_end(prepared.config, files, result)


def answer(prepared: Prepared, files: RunFolder, result: Result) -> None:
    """Report a finished run; create what a kill or an error left out after its end."""
    if files.is_presented():
        files.say_finished(result)
        return
    with log_to(files.log_file):
        say(f"already finished, except for its figures: {files.path}")
        show_end(prepared, files, result)


def open_tracker(config: Config, files: RunFolder, history: list[Row]) -> RunTracker:
    """Rewrite TensorBoard's entries from the run's history."""
    files.clear_events()
    return RunTracker(files.path, files.metrics_file, history, flatten(identity(config)))


def open_mirror(config: Config, history: list[Row]) -> Mirror:
    """Send the run to another tracking service, from its history."""
    mirror = Mirror(config.tracker, run_id(config), flatten(identity(config)))
    for row in history:
        mirror.log(row)
    return mirror


def end_mirror(mirror: Mirror, files: RunFolder, result: Result) -> None:
    """Send the final metrics and the figures."""
    history = files.history()
    step = history[-1]["step"] if history else 0
    mirror.finish(_finals(result), step, [files.curves_file, files.confusion_file])


def _finals(result: Result) -> dict[str, float | None]:
    return {metric.tag: result.metric(name) for name, metric in METRICS.items() if metric.tag}


def _draw_end(
    prepared: Prepared, files: RunFolder, result: Result, tracker: RunTracker | None
) -> None:
    history, splits = files.history(), prepared.splits
    tested = files.predictions(with_probabilities=True)
    if not history or tested is None:
        raise UserError("its metrics or predictions cannot be read")
    if tracker is None or not tracker.is_whole:
        tracker = open_tracker(prepared.config, files, history)
        show_start(prepared, tracker)
    matrix = np.array(result.confusion)
    title = f"test accuracy {_accuracy(result)}"
    learning = plots.render(plots.curves(history, result.run_id))
    confusion = plots.render(plots.confusion(matrix, splits.data.classes, title))
    tracker.picture("test/confusion", confusion)
    tracker.picture("test/worst_mistakes", plots.render(_worst_mistakes(splits, tested)))
    tracker.finish(_finals(result), history[-1]["step"])
    write_bytes(files.curves_file, plots.to_png(learning))
    write_bytes(files.confusion_file, plots.to_png(confusion))  # the last: RunFolder.is_presented


def _say_end(config: Config, files: RunFolder, result: Result) -> None:
    say(
        f"test    accuracy {_accuracy(result)}, loss {result.test.loss:.4f}, on "
        f"{result.test.num:,} images; epoch {result.best_epoch}, trained in "
        f"{short_duration(result.seconds.train)}"
    )
    if result.test_plain is not None:
        say(
            f"        with train.tta={config.train.tta}; without it "
            f"{result.test_plain.accuracy:.2%}"
        )
    if result.val is not None and result.val_plain is not None:
        say(
            f"        validation accuracy {result.val.accuracy:.2%}; without it "
            f"{result.val_plain.accuracy:.2%}, as after epoch {result.best_epoch}"
        )
    if own := result.own_metrics:
        values = {name: result.metric(f"test_{name}") for name in own}
        words = [f"{name} {'-' if value is None else f'{value:.4f}'}"
                 for name, value in values.items()]  # fmt: skip
        say(f"        {', '.join(words)}")
    head = "fit     "
    for line in textwrap.wrap(curves.reading(files.history()) or "", WIDTH - len(head)):
        say(f"{head}{line}")
        head = " " * len(head)
    say(f"files   {files.path}")
    say(f"curves  tensorboard --logdir {shlex.quote(str(files.path.parent))}")


def _accuracy(result: Result) -> str:
    return with_interval(result.test.accuracy, *result.test.accuracy_ci95)


def _worst_mistakes(splits: data.Splits, tested: Predictions) -> Figure:
    """Plot the misclassified images with the highest probability."""
    assert tested.probabilities is not None
    probability = tested.probabilities[np.arange(len(tested.label)), tested.predicted]
    wrong = worst_mistakes(tested.label, tested.predicted, probability)
    worst, classes = wrong[:GALLERY], splits.data.classes
    captions = [
        f"{classes[tested.label[i]]}, not {classes[tested.predicted[i]]}\n{probability[i]:.0%}"
        for i in worst
    ]
    images = splits.data.pixels[tested.index[worst]]
    return plots.gallery(
        images, captions, f"most confident of {len(wrong)} mistakes on the test set"
    )
