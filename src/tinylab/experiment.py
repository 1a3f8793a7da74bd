"""One run from config to result: load, prepare, define, train, evaluate, present."""

import contextlib
import dataclasses
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from matplotlib.figure import Figure
from torch import nn

from tinylab import data, metrics, models, plots, runs, runtime, signals, train
from tinylab.checkpoint import Checkpoints, State, weights_sha256
from tinylab.config import Config, flatten, identity, run_id
from tinylab.console import log_to, say
from tinylab.data import augment
from tinylab.data.batches import Batches, fit_class_weights, fit_normalization, to_device
from tinylab.display import Display, RunDisplay, duration
from tinylab.errors import Pruned, Stopped, UserError
from tinylab.files import disk_errors, write_bytes, write_json, write_npz, write_text
from tinylab.tracking import RunTracker
from tinylab.train import Evaluation, Recipe, Training

PARTS = ("train", "val", "test")
GALLERY = 32  # images in each gallery
Result = dict[str, Any]


@dataclass(frozen=True)
class Prepared:
    """Everything that training starts from; nothing is written yet."""

    config: Config
    splits: data.Splits
    parts: dict[str, Batches]  # train, val, test; val may be empty
    model: nn.Module
    recipe: Recipe
    data_seconds: float


def run(config: Config, command: str, display: Display | None = None) -> Result:
    """Train, or go on training, one config, and return what ``result.json`` holds.

    ``display`` is told how it goes; None: the screen. Nothing is written before data and network
    are known to be good. Raises UserError for what the user can mend, Stopped when a signal or
    ``display`` asked for it; the state is then on disk.
    """
    folder = runs.folder_of(config)
    started = time.perf_counter()
    prepared = prepare(config)
    with runs.sole_writer(folder):
        # Another process may have finished this run while this one waited for it.
        finished = runs.standing_result(config)
        if finished is not None:
            return finished
        runs.make_room(config)
        checkpoints = Checkpoints(folder, run_id(config))
        state = _resume_state(prepared, folder, checkpoints)
        with disk_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        with log_to(folder / "train.log"):
            try:
                return _run(prepared, checkpoints, state, command, display, started)
            except Pruned:
                say("the search gave this training up; tinylab train with this config goes on")
                raise
            except Stopped:
                say("stopped; the state is on disk, and the same command goes on from there")
                raise
            except KeyboardInterrupt:
                raise
            except BaseException as error:
                runs.record_failure(folder, error)
                remedy = _remedy(error)
                if remedy is None:
                    raise
                raise UserError(f"{str(error).partition(chr(10))[0]}\n  {remedy}") from error


def prepare(config: Config) -> Prepared:
    """Set the machine up, load the data, build the network. Raises UserError."""
    runtime.keep_freed_memory()
    device = runtime.choose_device(config.device)
    runtime.set_threads(config.threads)
    runtime.set_determinism(config.deterministic)
    started = time.perf_counter()
    splits = data.load(config.dataset, config.split)
    _refuse_large_batch(config, len(splits.split.train))
    channels_last = config.train.channels_last
    parts = {
        name: to_device(splits.data, getattr(splits.split, name), device, channels_last)
        for name in PARTS
    }
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
        normalization=fit_normalization(parts["train"].images, config.dataset.normalize),
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


def _remedy(error: BaseException) -> str | None:
    """What helps against an error of torch's that a choice of the user's leads to."""
    text = str(error)
    if isinstance(error, torch.OutOfMemoryError):
        return "lower train.batch_size or train.eval_batch_size, or choose a smaller model"
    if "does not have a deterministic implementation" in text:
        return "choose another model, or deterministic=false, which gives up bit-equal repetition"
    if "Expected more than 1 value per channel when training" in text:
        return "batch normalisation needs train.batch_size of 2 or more, or fewer model.stages"
    return None


def _resume_state(prepared: Prepared, folder: Path, checkpoints: Checkpoints) -> State | None:
    """Where an earlier try at this run got to, if it can be gone on from."""
    config = prepared.config
    state = checkpoints.load_last()
    if state is None:
        return None
    if state["fingerprint"] != prepared.splits.fingerprint:
        raise UserError(
            f"{folder}: the {config.dataset.name} images are not those that this half-finished "
            "run began with\n  bring the old data back, or begin again with fresh=true"
        )
    if state["code_sha256"] != runs.code_sha256():
        runs.set_aside(folder, "half finished, and tinylab's code has changed since")
        return None
    return state


def _run(
    prepared: Prepared,
    checkpoints: Checkpoints,
    state: State | None,
    command: str,
    display: Display | None,
    started: float,
) -> Result:
    config, recipe, folder = prepared.config, prepared.recipe, runs.folder_of(prepared.config)
    _write_start(prepared, folder)
    _introduce(prepared, folder)
    training = train.start(prepared.model, recipe)
    checkpoints.stamp = {
        "fingerprint": prepared.splits.fingerprint,
        "code_sha256": runs.code_sha256(),
    }
    if state is not None:
        training.load_state_dict(state)
        training.resumed_at.append({"epoch": training.epoch, "step": training.step_in_epoch})
        say(
            f"going on from epoch {training.epoch + 1}, step {training.step_in_epoch}"
            f"{_other_machine(state, recipe.device)}"
        )
    checkpoints.stamp |= {"device": recipe.device.type, "threads": torch.get_num_threads()}
    tracker = RunTracker(folder, training.history, flatten(identity(config)))
    try:
        _show_start(prepared, tracker)
        val = prepared.parts["val"] if len(prepared.parts["val"]) else None
        with signals.watch() as stop_signal, contextlib.ExitStack() as stack:
            if display is None:
                display = stack.enter_context(RunDisplay(config.train.epochs))
            train.fit(
                training, prepared.parts["train"], val, recipe, checkpoints, tracker, display,
                stop_signal,
            )  # fmt: skip
        result, test = _evaluate(prepared, training, command, runs.past_failures(folder))
        _write_end(prepared, training, result, test, folder, tracker)
    finally:
        tracker.close()
    result["seconds"]["total"] = time.perf_counter() - started
    write_json(folder / "result.json", result)
    (folder / "failure.json").unlink(missing_ok=True)
    return result


def _other_machine(state: State, device: torch.device) -> str:
    """A word on what makes a resumed run's bits its own."""
    before, now = (state["device"], state["threads"]), (device.type, torch.get_num_threads())
    if before == now:
        return ""
    return (
        f"; begun on {before[0]} with {before[1]} threads, now {now[0]} with {now[1]}: "
        "the same training, but not to the last bit"
    )


def _write_start(prepared: Prepared, folder: Path) -> None:
    config, parts = prepared.config, prepared.splits.split
    write_text(folder / "config.yaml", yaml.safe_dump(dataclasses.asdict(config), sort_keys=False))
    write_npz(folder / "split.npz", train=parts.train, val=parts.val, test=parts.test)


def _introduce(prepared: Prepared, folder: Path) -> None:
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
    duplicates = prepared.splits.duplicates()
    if duplicates:
        say(f"        {duplicates}")
    device = prepared.recipe.device
    threads = f", {torch.get_num_threads()} threads" if device.type == "cpu" else ""
    say(
        f"model   {prepared.config.model.name}: {models.count_parameters(prepared.model):,} "
        f"parameters, {C}x{H}x{W} -> {len(images.classes)} logits, on {device} "
        f"({runtime.device_name(device)}{threads})"
    )


def _show_start(prepared: Prepared, tracker: RunTracker) -> None:
    """The config and a sample of what the network sees, for TensorBoard."""
    config, recipe, batch = prepared.config, prepared.recipe, prepared.parts["train"]
    dumped = yaml.safe_dump(dataclasses.asdict(config), sort_keys=False)
    tracker.text("config", f"```yaml\n{dumped}```")
    # Evenly over the training set, whose images are sorted by class in most datasets.
    chosen = torch.linspace(0, len(batch) - 1, min(GALLERY, len(batch)), device=recipe.device)
    images, labels = batch.take(chosen.long())
    seed = runtime.derive_seed(config.seed, "sample")
    draws = augment.draw(config.augment, len(images), seed, recipe.device)
    pixels = augment.apply(images, draws, config.augment, 0, len(images))
    shown = pixels.round().clamp(0, 255).to(torch.uint8).cpu().numpy()
    names = [prepared.splits.data.classes[label] for label in labels.tolist()]
    figure = plots.gallery(shown, names, "training images as the network sees them")
    tracker.picture("images/augmented", plots.draw(figure))


def _evaluate(
    prepared: Prepared, training: Training, command: str, failures: list[dict[str, Any]]
) -> tuple[Result, Evaluation]:
    """Score the tested weights on every part: the only place where test labels are read."""
    config, splits, recipe = prepared.config, prepared.splits, prepared.recipe
    started = time.perf_counter()
    model = training.tested()
    parts = {name: part for name, part in prepared.parts.items() if len(part)}
    plain = {name: train.evaluate(model, part, recipe) for name, part in parts.items()}
    augmented = _with_views(parts, model, recipe)
    evaluations = {**plain, **augmented}
    test = evaluations["test"]
    labels = splits.data.labels[splits.split.test]
    matrix = metrics.confusion_matrix(labels, test.predicted, recipe.num_classes)
    train_seconds = sum(row["seconds"] for row in training.history)
    num_trained = len(splits.split.train) * len(training.history)
    _, C, H, W = splits.data.images.shape
    result: Result = {
        "status": "finished",
        "run_id": run_id(config),
        "command": command,
        "config": dataclasses.asdict(config),
        "dataset": {
            "name": config.dataset.name,
            "fingerprint": splits.fingerprint,
            "classes": list(splits.data.classes),
            "num_train": len(splits.split.train),
            "num_val": len(splits.split.val),
            "num_test": len(splits.split.test),
            "image_shape": [C, H, W],
            "normalization": recipe.normalization.as_dict(),
            "duplicates": splits.duplicates(),
        },
        "split_sha256": splits.split.sha256(),
        **{
            name: evaluations[name].score.as_dict() if name in evaluations else None
            for name in PARTS
        },
        "confusion": matrix.tolist(),
        "best_epoch": training.best["epoch"] if training.best is not None else training.epoch,
        "epochs": training.epoch,
        "weights_sha256": weights_sha256(model),
        "seconds": {
            "data": prepared.data_seconds,
            "train": train_seconds,
            "evaluate": time.perf_counter() - started,
        },
        "images_per_second": num_trained / max(train_seconds, 1e-9),
        "num_parameters": models.count_parameters(model),
        "environment": {
            **runtime.environment(recipe.device),
            "code_sha256": runs.code_sha256(),
        },
        "failures": failures,
        "resumed_at": training.resumed_at,
    }
    result |= {f"{name}_plain": plain[name].score.as_dict() for name in augmented}
    result["test"] |= {
        "accuracy_ci95": metrics.wilson_interval(int(matrix.trace()), int(matrix.sum())),
        "per_class_recall": metrics.per_class_recall(matrix),
    }
    return result, test


def _with_views(
    parts: dict[str, Batches], model: nn.Module, recipe: Recipe
) -> dict[str, Evaluation]:
    """Validation and test with the test-time augmentation that is asked for; else nothing."""
    tta = recipe.train.tta
    asked = [name for name in ("val", "test") if name in parts and tta != "none"]
    return {name: train.evaluate(model, parts[name], recipe, tta) for name in asked}


def _write_end(
    prepared: Prepared,
    training: Training,
    result: Result,
    test: Evaluation,
    folder: Path,
    tracker: RunTracker,
) -> None:
    """Predictions, figures and TensorBoard's last entries; then the words on the screen."""
    splits = prepared.splits
    classes, indices = splits.data.classes, splits.split.test
    labels = splits.data.labels[indices]
    matrix = np.array(result["confusion"])
    low, high = result["test"]["accuracy_ci95"]
    names = splits.data.names
    paths: dict[str, Any] = {}
    if names:
        paths["path"] = np.array([names[index] for index in indices])
    write_npz(
        folder / "predictions.npz", index=indices, label=labels, predicted=test.predicted,
        probabilities=test.probabilities.astype(np.float16), **paths,
    )  # fmt: skip
    accuracy = f"{test.score.accuracy:.2%} (95 % interval {low:.2%} to {high:.2%})"
    curves = plots.draw(plots.curves(training.history, result["run_id"]))
    confusion = plots.draw(plots.confusion(matrix, classes, f"test accuracy {accuracy}"))
    write_bytes(folder / "curves.png", plots.to_png(curves))
    write_bytes(folder / "confusion.png", plots.to_png(confusion))
    tracker.picture("test/confusion", confusion)
    tracker.picture("test/worst_mistakes", plots.draw(_worst_mistakes(splits, test)))
    figures = {f"{part}_{name}": result[part][name] if result[part] is not None else None
               for part in ("val", "test") for name in ("accuracy", "loss")}  # fmt: skip
    tracker.finish(figures, training.history[-1]["step"])
    took = duration(sum(row["seconds"] for row in training.history))
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
