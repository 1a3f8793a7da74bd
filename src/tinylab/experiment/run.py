"""One run from config to result: load, prepare, define, train, evaluate, present."""

import contextlib
import dataclasses
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from torch import nn

from tinylab import models
from tinylab.config.schema import Config, flatten, identity, run_id
from tinylab.data.batches import Batches
from tinylab.errors import Pruned, Stopped, UserError
from tinylab.experiment import present
from tinylab.experiment.prepare import PARTS, Prepared, prepare
from tinylab.store import folder as runs
from tinylab.system import runtime, signals
from tinylab.system.files import disk_errors, write_json, write_npz, write_text
from tinylab.training import loop as train
from tinylab.training import metrics
from tinylab.training.checkpoint import Checkpoints, State, weights_sha256
from tinylab.training.loop import Evaluation, Recipe, Training
from tinylab.ui.console import log_to, say
from tinylab.ui.display import Display, RunDisplay
from tinylab.ui.tensorboard import RunTracker

Result = dict[str, Any]


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
    present.introduce(prepared, folder)
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
        present.show_start(prepared, tracker)
        val = prepared.parts["val"] if len(prepared.parts["val"]) else None
        with signals.watch() as stop_signal, contextlib.ExitStack() as stack:
            if display is None:
                display = stack.enter_context(RunDisplay(config.train.epochs))
            train.fit(
                training, prepared.parts["train"], val, recipe, checkpoints, tracker, display,
                stop_signal,
            )  # fmt: skip
        result, test = _evaluate(prepared, training, command, runs.past_failures(folder))
        _write_predictions(prepared, test, folder)
        present.show_end(prepared, training.history, result, test, folder, tracker)
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
    digests = prepared.splits.digests[:, 0]  # so that evaluate knows these images anywhere
    write_npz(
        folder / "split.npz", train=parts.train, val=parts.val, test=parts.test,
        train_digests=digests[parts.train], val_digests=digests[parts.val],
    )  # fmt: skip


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


def _write_predictions(prepared: Prepared, test: Evaluation, folder: Path) -> None:
    splits = prepared.splits
    indices = splits.split.test
    write_npz(
        folder / "predictions.npz", index=indices, label=splits.data.labels[indices],
        predicted=test.predicted, probabilities=test.probabilities.astype(np.float16),
        **splits.data.paths(indices),
    )  # fmt: skip
