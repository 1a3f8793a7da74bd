"""One run from config to result: load, prepare, define, train, evaluate, present."""

import contextlib
import dataclasses
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from tinylab import models
from tinylab.config import code, options, own_metrics, user_code
from tinylab.config.identity import run_id
from tinylab.config.schema import Config
from tinylab.data.batches import Batches
from tinylab.errors import Pruned, Stopped, UserError
from tinylab.experiment import present
from tinylab.experiment.prepare import PARTS, Prepared, prepare
from tinylab.models import own as own_model
from tinylab.store import predictions
from tinylab.store.folder import RunFolder, run_folder, stamp
from tinylab.store.result import Result, parse
from tinylab.system import runtime, signals
from tinylab.system.files import disk_errors
from tinylab.training import metrics
from tinylab.training.checkpoint import Checkpoints, State, weights_sha256
from tinylab.training.evaluate import Evaluation, evaluate
from tinylab.training.loop import EpochDone, Event, StepDone, fit
from tinylab.training.state import Recipe, Training, start
from tinylab.ui import mirrors
from tinylab.ui.console import log_to, say
from tinylab.ui.display import RunDisplay


@dataclass(frozen=True)
class RunStarted:
    """Data and network are ready; training begins, or goes on from a checkpoint."""

    prepared: Prepared


@dataclass(frozen=True)
class RunDone:
    """The run has its result."""

    result: Result


RunEvent = RunStarted | Event | RunDone


def run(config: Config, command: str) -> Result:
    """Train, or resume, one config, and return its result; the screen shows the progress.

    Raises what ``events`` raises.
    """
    train = config.train
    with (
        RunDisplay(train.epochs, lambda: torch.get_num_threads() > 1, train.monitor) as display,
        contextlib.closing(events(config, command)) as run_events,
    ):
        for event in run_events:
            if isinstance(event, StepDone):
                display.step(*event)
            elif isinstance(event, EpochDone):
                display.epoch(event.row)
            elif isinstance(event, RunDone):
                result = event.result
    return result


def events(config: Config, command: str) -> Generator[RunEvent]:
    """Train, or resume, one config; yields at its start, each step and epoch, and the result.

    When an epoch is yielded, its state is saved. Nothing is written before data and network are
    known to be valid. The caller may stop at any event, and must then close the generator, which
    holds the run's lock; ``throw(Pruned())`` records the reason in the run's log. Raises UserError
    for errors that the user can fix, and Stopped after a signal, with a checkpoint saved.
    """
    device = runtime.choose_device(config.device)
    mirrors.require(config.tracker, f"tracker={config.tracker}")
    with runtime.settings(device, config.threads, config.deterministic):
        yield from _events(config, command)


def _events(config: Config, command: str) -> Iterator[RunEvent]:
    files = run_folder(config)
    started = time.perf_counter()
    before = stamp(files.result_file)
    prepared = prepare(config)
    with files.sole_writer():
        # Another process may have finished this run while this one waited.
        finished = files.valid_result(config, is_new=stamp(files.result_file) != before)
        if finished is not None:
            present.answer(prepared, files, finished)
            yield RunDone(finished)
            return
        files.make_room(config)
        checkpoints = Checkpoints(
            files.last_checkpoint, files.next_checkpoint, files.previous_checkpoint,
            files.best_checkpoint, run_id(config),
        )  # fmt: skip
        state = _resume_state(prepared, files, checkpoints)
        if state is None and (earlier := files.brought_back(config)) is not None:
            present.answer(prepared, files, earlier)
            yield RunDone(earlier)
            return
        with disk_errors(files.path):
            files.path.mkdir(parents=True, exist_ok=True)
        with log_to(files.log_file):
            try:
                yield from _run(prepared, files, checkpoints, state, command, started)
            except Pruned:
                say("pruned, checkpoint saved; tinylab train with this config resumes it")
                raise
            except Stopped:
                say("stopped, checkpoint saved; run the same command to resume")
                raise
            # Non-Exceptions request a stop, such as submitit's SystemExit before a requeue.
            except Exception as error:
                words = _message(error, prepared)
                if words is None:
                    _record(files, error)
                    raise
                try:
                    raise UserError(words) from error
                except UserError as shown:  # with its cause, for the log
                    _record(files, shown)
                    raise


def _record(files: RunFolder, error: BaseException) -> None:
    with contextlib.suppress(UserError):  # a full disk: the error itself says more
        files.record_failure(error)


def _message(error: BaseException, prepared: Prepared) -> str | None:
    """Return the message for an error that is not tinylab's; None if it is, or says enough."""
    if (remedy := _remedy(error)) is not None:
        return f"{user_code.first_line(error)}\n  {remedy}"
    if isinstance(error, UserError):
        return None
    own = [each for each in options.chosen(prepared.config) if not each.is_builtin]
    words = user_code.message_of(error, " ".join(f"{each.group}={each.name}" for each in own))
    return words or own_model.message_of(error, prepared.config.model, prepared.model)


def _remedy(error: BaseException) -> str | None:
    """Return the remedy for an error of torch caused by the config."""
    text = str(error)
    if isinstance(error, torch.OutOfMemoryError):
        return "lower train.batch_size or train.eval_batch_size, or choose a smaller model"
    if "does not have a deterministic implementation" in text:
        return "choose another model, or deterministic=false, which gives up bit-identical results"
    if "Expected more than 1 value per channel when training" in text:
        return "batch normalization needs train.batch_size of at least 2, or fewer model.stages"
    return None


def _resume_state(prepared: Prepared, files: RunFolder, checkpoints: Checkpoints) -> State | None:
    """Return the state of an earlier attempt at this run, if it can be resumed."""
    config = prepared.config
    state = checkpoints.load_last()
    if state is None:
        return None
    why = code.changed(state["code_sha256"], state, config, files.config().get("code"))
    why = why or own_metrics.changed(state.get("own_metrics", {}), config)
    if why is not None:
        files.archive(f"half finished, and {why}")
        return None
    if state["fingerprint"] != prepared.splits.fingerprint:
        raise UserError(
            f"{files.path}: the {config.dataset.name} images have changed since this unfinished "
            "run was started\n  restore the old data, or start over with fresh=true"
        )
    return state


def _run(
    prepared: Prepared,
    files: RunFolder,
    checkpoints: Checkpoints,
    state: State | None,
    command: str,
    started: float,
) -> Iterator[RunEvent]:
    config, recipe = prepared.config, prepared.recipe
    files.write_start(config, prepared.splits.split, prepared.splits.digests[:, 0])
    files.forget_failure()
    present.introduce(prepared, files.path)
    yield RunStarted(prepared)
    training = start(prepared.model, recipe)
    checkpoints.stamp = {
        "fingerprint": prepared.splits.fingerprint,
        "own_metrics": prepared.own_metrics,
        **prepared.code,
    }
    if state is not None:
        training.load_state_dict(state)
        training.resumed_at.append({"epoch": training.epoch, "step": training.step_in_epoch})
        say(
            f"resuming at epoch {training.epoch + 1}, step {training.step_in_epoch}"
            f"{_other_machine(state, recipe.device)}"
        )
    checkpoints.stamp |= {"device": recipe.device.type, "threads": torch.get_num_threads()}
    tracker = present.open_tracker(config, files, training.history)
    with contextlib.ExitStack() as tracking:
        tracking.callback(tracker.close)
        present.show_start(prepared, tracker)
        mirror = present.open_mirror(config, training.history)
        tracking.callback(mirror.close)
        with signals.watch() as stop_signal:
            for event in fit_and_save(training, prepared.parts, recipe, checkpoints, stop_signal):
                if isinstance(event, EpochDone):
                    tracker.log(event.row)
                    mirror.log(event.row)
                yield event
        result, test = _evaluate(prepared, training, command, files.past_failures())
        _write_predictions(prepared, test, files)
        seconds = dataclasses.replace(result.seconds, total=time.perf_counter() - started)
        result = dataclasses.replace(result, seconds=seconds)
        files.write_result(result)
        tracking.pop_all()  # a finished run must not fail any more
    present.show_end(prepared, files, result, tracker)
    present.end_mirror(mirror, files, result)
    yield RunDone(result)


def fit_and_save(
    training: Training,
    parts: Mapping[str, Batches],
    recipe: Recipe,
    checkpoints: Checkpoints,
    stop_signal: Callable[[], int | None],
) -> Iterator[Event]:
    """``fit`` with checkpoints: after each epoch, and every ``train.checkpoint_seconds``.

    ``stop_signal`` is called after every event; if it returns a signal, Stopped is raised with the
    state saved.
    """
    saved = time.perf_counter()
    for event in fit(training, parts, recipe):
        if isinstance(event, EpochDone):
            checkpoints.save_last(training.state_dict())
            saved = time.perf_counter()
        yield event
        signum = stop_signal()
        is_due = time.perf_counter() - saved > recipe.train.checkpoint_seconds
        if isinstance(event, StepDone) and (is_due or signum is not None):
            checkpoints.save_last(training.resume_point())
            saved = time.perf_counter()
        if signum is not None:
            raise Stopped(signum)
    checkpoints.save_best(training.tested().state_dict())


def _other_machine(state: State, device: torch.device) -> str:
    """Return a note if a resumed run will not be bit-identical."""
    before, now = (state["device"], state["threads"]), (device.type, torch.get_num_threads())
    if before == now:
        return ""
    return (
        f"; started on {before[0]} with {before[1]} threads, now {now[0]} with {now[1]}: "
        "results will not be bit-identical"
    )


def _evaluate(
    prepared: Prepared, training: Training, command: str, failures: list[dict[str, Any]]
) -> tuple[Result, Evaluation]:
    """Evaluate the tested weights on every part: the only place where test labels are read."""
    config, splits, recipe = prepared.config, prepared.splits, prepared.recipe
    started = time.perf_counter()
    model = training.tested()
    parts = {name: part for name, part in prepared.parts.items() if len(part)}
    plain = {name: evaluate(model, part, recipe, is_final=True) for name, part in parts.items()}
    augmented = _with_views(parts, model, recipe)
    evaluations = {**plain, **augmented}
    test = evaluations["test"]
    labels = splits.data.labels[splits.split.test]
    matrix = metrics.confusion_matrix(labels, test.predicted, recipe.num_classes)
    train_seconds = sum(row["seconds"] for row in training.history)
    num_trained = len(splits.split.train) * len(training.history)
    _, C, H, W = splits.data.pixels.shape
    result: dict[str, Any] = {
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
            name: _metrics(name, evaluations[name]) if name in evaluations else None
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
            **prepared.code,
        },
        "own_metrics": prepared.own_metrics or None,
        "failures": failures,
        "resumed_at": training.resumed_at,
    }
    if (trained := models.count_trained(model)) != result["num_parameters"]:
        result["num_trained_parameters"] = trained
    result |= {f"{name}_plain": plain[name].as_dict() for name in augmented}
    result["test"] |= {
        "accuracy_ci95": metrics.wilson_interval(int(matrix.trace()), int(matrix.sum())),
        "per_class_recall": metrics.per_class_recall(matrix),
    }
    made = parse(result)
    assert isinstance(made, Result), made
    return made, test


def _metrics(name: str, evaluation: Evaluation) -> dict[str, Any]:
    """Return the metrics of a part for ``result.json``; non-finite outputs are reported."""
    values: dict[str, Any] = evaluation.as_dict()
    if evaluation.num_guessed:
        say(
            f"{name}: the outputs for {evaluation.num_guessed:,} of {evaluation.score.num:,} "
            "images are not finite; they count as misclassified, also in the loss"
        )
        values["num_guessed"] = evaluation.num_guessed
    return values


def _with_views(
    parts: dict[str, Batches], model: nn.Module, recipe: Recipe
) -> dict[str, Evaluation]:
    """Return validation and test metrics with test-time augmentation; nothing without."""
    tta = recipe.train.tta
    asked = [name for name in ("val", "test") if name in parts and tta != "none"]
    return {name: evaluate(model, parts[name], recipe, tta, is_final=True) for name in asked}


def _write_predictions(prepared: Prepared, test: Evaluation, files: RunFolder) -> None:
    dataset, indices = prepared.splits.data, prepared.splits.split.test
    predictions.write(
        files.predictions_file, indices, dataset.labels[indices], test.predicted,
        test.probabilities, dataset.paths(indices),
    )  # fmt: skip
