"""Present: what a run says, draws and shows in TensorBoard. None of it decides a result."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from matplotlib.figure import Figure

from tinylab import data, models
from tinylab.data import augment
from tinylab.experiment.prepare import Prepared
from tinylab.system import runtime
from tinylab.system.files import write_bytes
from tinylab.training.loop import Evaluation
from tinylab.ui import plots
from tinylab.ui.console import in_bytes, say
from tinylab.ui.display import duration
from tinylab.ui.tensorboard import Row, RunTracker

GALLERY = 32  # images in each gallery


def introduce(prepared: Prepared, folder: Path) -> None:
    """Say what is about to be trained, on what, where."""
    images, parts = prepared.splits.data, prepared.splits.split
    N, C, H, W = images.images.shape
    say(f"run     {folder.name}  in {folder}")
    say(
        f"data    {prepared.config.dataset.name}: {N:,} images of {C}x{H}x{W}, "
        f"{len(images.classes)} classes; train {len(parts.train):,}, val {len(parts.val):,}, "
        f"test {len(parts.test):,}"
    )
    imbalance = prepared.splits.imbalance()
    if imbalance:
        is_balanced = prepared.config.train.class_weights == "balanced"
        remedy = "weighed" if is_balanced else "train.class_weights=balanced weighs them"
        say(f"        {imbalance}; {remedy} equally")
    splits = prepared.splits
    for line in (splits.official_val(), splits.duplicates()):
        if line:
            say(f"        {line}")
    if blank := splits.blank():
        say(f"data    in all training images, {blank}: look at the files (16 bits are divided by")
        say("        256, so values of 12 bits must be multiplied by 16 first)")
    device = prepared.recipe.device
    if prepared.parts["train"].streamed:
        size = in_bytes(images.images.nbytes)
        say(f"        {size} of images, more than half of what is free on {device}: kept in main")
        say("        memory and streamed, in pinned chunks")
    threads = f", {torch.get_num_threads()} threads" if device.type == "cpu" else ""
    say(
        f"model   {prepared.config.model.name}: {models.count_parameters(prepared.model):,} "
        f"parameters, {C}x{H}x{W} -> {len(images.classes)} logits, on {device} "
        f"({runtime.device_name(device)}{threads})"
    )


def show_start(prepared: Prepared, tracker: RunTracker) -> None:
    """The config and a sample of what the network sees, for TensorBoard."""
    config, recipe, batch = prepared.config, prepared.recipe, prepared.parts["train"]
    dumped = yaml.safe_dump(dataclasses.asdict(config), sort_keys=False)
    tracker.text("config", f"```yaml\n{dumped}```")
    # Evenly over the training set, whose images are sorted by class in most datasets.
    chosen = torch.linspace(0, len(batch) - 1, min(GALLERY, len(batch)))
    images, labels = batch.take(chosen.long())
    seed = runtime.derive_seed(config.seed, "sample")
    draws = augment.draw(config.augment, len(images), seed, recipe.device)
    pixels = augment.apply(images, draws, config.augment)
    shown = pixels.round().clamp(0, 255).to(torch.uint8).cpu().numpy()
    names = [prepared.splits.data.classes[label] for label in labels.tolist()]
    figure = plots.gallery(shown, names, "training images as the network sees them")
    tracker.picture("images/augmented", plots.draw(figure))


def show_end(
    prepared: Prepared,
    history: list[Row],
    result: dict[str, Any],
    test: Evaluation,
    folder: Path,
    tracker: RunTracker,
) -> None:
    """Figures and TensorBoard's last entries; then the words on the screen."""
    splits = prepared.splits
    matrix, classes = np.array(result["confusion"]), splits.data.classes
    low, high = result["test"]["accuracy_ci95"]
    accuracy = f"{test.score.accuracy:.2%} (95 % interval {low:.2%} to {high:.2%})"
    curves = plots.draw(plots.curves(history, result["run_id"]))
    confusion = plots.draw(plots.confusion(matrix, classes, f"test accuracy {accuracy}"))
    write_bytes(folder / "curves.png", plots.to_png(curves))
    write_bytes(folder / "confusion.png", plots.to_png(confusion))
    tracker.picture("test/confusion", confusion)
    tracker.picture("test/worst_mistakes", plots.draw(_worst_mistakes(splits, test)))
    figures = {f"{part}_{name}": result[part][name] if result[part] is not None else None
               for part in ("val", "test") for name in ("accuracy", "loss")}  # fmt: skip
    tracker.finish(figures, history[-1]["step"])
    took = duration(sum(row["seconds"] for row in history))
    say(
        f"test    accuracy {accuracy}, loss {test.score.loss:.4f}, on {test.score.num:,} images; "
        f"epoch {result['best_epoch']}, trained in {took}"
    )
    if "test_plain" in result:
        say(
            f"        with train.tta={prepared.config.train.tta}; without it "
            f"{result['test_plain']['accuracy']:.2%}"
        )
    say(f"files   {folder}")
    say(f"curves  tensorboard --logdir {folder.parent}")


def _worst_mistakes(splits: data.Splits, test: Evaluation) -> Figure:
    """The wrong predictions in which the network believed most."""
    labels = splits.data.labels[splits.split.test]
    wrong = np.flatnonzero(test.predicted != labels)
    belief = test.probabilities[wrong, test.predicted[wrong]]
    worst = wrong[np.argsort(-belief, kind="stable")][:GALLERY]
    classes = splits.data.classes
    captions = [
        f"{classes[labels[i]]}, not {classes[test.predicted[i]]}\n"
        f"{test.probabilities[i, test.predicted[i]]:.0%}"
        for i in worst
    ]
    images = splits.data.images[splits.split.test[worst]]
    return plots.gallery(images, captions, f"worst of {len(wrong)} mistakes on the test set")
