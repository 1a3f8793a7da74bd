"""Finished runs, ready to classify: the tested network and its preprocessing.

A network needs no training data; what does loads it with ``own_data``. Code from a run's folder is
never executed.
"""

import contextlib
import dataclasses
import glob
import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tinylab import data, models
from tinylab.comparison.settings import group
from tinylab.config import code, options, user_code
from tinylab.config.base_records import DatasetConfig, ModelConfig
from tinylab.config.compose import restore
from tinylab.config.schema import Config
from tinylab.data.batches import restore_normalization
from tinylab.data.cache import Decoded
from tinylab.errors import UserError
from tinylab.models.pretrained import head
from tinylab.store.calibration import Calibration
from tinylab.store.collect import Skipped, collect, read
from tinylab.store.folder import RunFolder
from tinylab.store.result import Fault, Result
from tinylab.store.run import Run, best_first
from tinylab.store.sweep import SweepFolder
from tinylab.system import runtime
from tinylab.system.project import default_outputs
from tinylab.training import checkpoint
from tinylab.training.checkpoint import CheckpointError, weights_sha256
from tinylab.training.evaluate import mean_logits
from tinylab.training.state import Recipe
from tinylab.ui.console import say

MOST_NAMED = 20  # classes in a message
NEIGHBOR = 10  # which nearest training image determines how unlike the training data an image is
CHUNK = 256  # images whose distances to all others are in memory at once


@dataclass(frozen=True)
class Trained:
    """A finished run's network, on the device and in evaluation mode, with its metadata.

    calibration: applied to its probabilities; None: none.
    """

    folder: Path
    result: Result
    config: Config
    model: nn.Module
    recipe: Recipe
    calibration: Calibration | None = None

    @property
    def name(self) -> str:
        """The run's id."""
        return self.result.run_id

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names, in the order of the logits."""
        return tuple(self.result.dataset.classes)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of its input images."""
        return self.result.dataset.image_shape

    @torch.inference_mode()
    def logits(self, images: NDArray[np.uint8]) -> Tensor:
        """uint8 (N, C, H, W) -> logits float32 (N, num_classes) on the CPU, as in the run's own
        test.
        """
        device, train = self.recipe.device, self.config.train
        with runtime.settings(device, None, self.config.deterministic):
            pixels = torch.from_numpy(images).to(device)
            if train.channels_last:
                pixels = pixels.contiguous(memory_format=torch.channels_last)
            with user_code.mistakes_reported(f"model={self.config.model.name}"):
                return mean_logits(self.model, pixels, self.recipe, train.tta).cpu()

    @property
    def temperature(self) -> float:
        """The divisor of its logits: 1 unless it is calibrated."""
        return 1.0 if self.calibration is None else self.calibration.temperature

    def probabilities(self, images: NDArray[np.uint8]) -> NDArray[np.float64]:
        """uint8 (N, C, H, W) -> probabilities (N, num_classes), from the calibrated logits."""
        return at_temperature(self.logits(images).double().numpy(), self.temperature)

    @torch.inference_mode()
    def features(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """uint8 (N, C, H, W) -> (N, D): the input of the last layer, normalized to unit length.

        Feature maps are averaged over positions. Raises UserError if the layer is not called.
        """
        kept: list[Tensor] = []
        hook = head(self.model)[1].register_forward_pre_hook(lambda _, given: kept.append(given[0]))
        plain = dataclasses.replace(self.config.train, tta="none")
        config = dataclasses.replace(self.config, train=plain)
        try:
            dataclasses.replace(self, config=config).logits(images)
        finally:
            hook.remove()
        if not kept:
            raise UserError(
                f"{self.name}: model={self.config.model.name} does not call its last layer, so "
                "its images have no features"
            )
        features = kept[-1].float()
        features = features.mean((2, 3)) if features.dim() == 4 else features.flatten(1)
        return torch.nn.functional.normalize(features).cpu().numpy()

    def unlike(self, images: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """uint8 (N, C, H, W) -> (N,): which are unlike the training data, by the calibration."""
        assert self.calibration is not None
        near = neighbor_distance(self.features(images), self.calibration.features)
        return near > self.calibration.threshold


@dataclass(frozen=True)
class Ensemble:
    """One or more runs whose probabilities are averaged; all read images in the same way."""

    members: tuple[Trained, ...]

    @property
    def first(self) -> Trained:
        """The run whose class order and file reading the others share."""
        return self.members[0]

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names, in the order of the probabilities."""
        return self.first.classes

    def logits(self, images: NDArray[np.uint8]) -> NDArray[np.float64]:
        """uint8 (N, C, H, W) -> the logits of each member, (members, N, num_classes)."""
        orders = [list(map(member.classes.index, self.classes)) for member in self.members]
        return np.stack(
            [
                member.logits(images).double().numpy()[:, order]
                for member, order in zip(self.members, orders, strict=True)
            ]
        )

    def calibrated(self, logits: NDArray[np.float64]) -> NDArray[np.float64]:
        """The members' logits (members, N, num_classes) -> their probabilities."""
        temperatures = [member.temperature for member in self.members]
        return np.stack(list(map(at_temperature, logits, temperatures)))

    def probabilities(self, images: NDArray[np.uint8]) -> NDArray[np.float64]:
        """uint8 (N, C, H, W) -> the probabilities of each member, (members, N, num_classes)."""
        return self.calibrated(self.logits(images))

    @property
    def judges(self) -> list[Trained]:
        """The members that can tell which images are unlike their training data."""
        return [
            each for each in self.members
            if each.calibration is not None and each.calibration.tells_unlike
        ]  # fmt: skip

    def unlike(self, images: NDArray[np.uint8]) -> NDArray[np.bool_] | None:
        """uint8 (N, C, H, W) -> (N,): which images most ``judges`` find unlike their training data;
        None without any.
        """
        votes = [each.unlike(images) for each in self.judges]
        return np.mean(votes, axis=0) > 0.5 if votes else None


def at_temperature(logits: NDArray[np.float64], temperature: float) -> NDArray[np.float64]:
    """Return the probabilities (N, num_classes) of float64 logits at a temperature."""
    probabilities: NDArray[np.float64] = torch.from_numpy(logits / temperature).softmax(1).numpy()
    return probabilities


def in_batches(
    member: Trained,
    function: Callable[[NDArray[np.uint8]], NDArray[Any]],
    images: NDArray[np.uint8],
) -> NDArray[Any]:
    """What a function of the network gives for images, uint8 (N, C, H, W), of any number."""
    size = member.config.train.eval_batch_size
    starts = range(0, len(images), size)
    return np.concatenate([function(images[start : start + size]) for start in starts])


def own_data(name: str, result: Result, dataset: DatasetConfig) -> Decoded:
    """Load a run's own data. Raises UserError if it is missing or has changed."""
    decoded = data.load_present(dataset)
    if decoded.fingerprint != result.dataset.fingerprint:
        raise UserError(f"{name}: its data has changed since\n  restore the old data")
    return decoded


def evenly(indices: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """Return at most so many of the indices, evenly spaced: most datasets are sorted by class."""
    count = min(len(indices), most)
    return indices[np.unique(np.linspace(0, len(indices) - 1, count).astype(np.int64))]


def neighbor_distance(
    features: NDArray[np.floating[Any]], others: NDArray[np.floating[Any]]
) -> NDArray[np.float64]:
    """(N, D), (M, D), of unit length -> (N,), the distance to the NEIGHBOR-th nearest other."""
    rank = min(NEIGHBOR, len(others)) - 1
    there = others.astype(np.float32)
    distances = np.empty(len(features))
    for start in range(0, len(features), CHUNK):
        nearness = features[start : start + CHUNK].astype(np.float32) @ there.T
        cosine = -np.partition(-nearness, rank, axis=1)[:, rank]
        distances[start : start + CHUNK] = np.sqrt(np.maximum(2 - 2 * cosine.astype(np.float64), 0))
    return distances


def load_ensemble(runs: Sequence[Run], device: str, calibrated: bool = False) -> Ensemble:
    """Load the networks of finished runs onto ``device``.

    ``calibrated``: with the calibrations saved with them. Raises UserError for what ``load``
    refuses, and if the runs do not match.
    """
    chosen = runtime.choose_device(device)
    members = [load(run, chosen) for run in runs]
    if calibrated:
        members = [_calibrated(member) for member in members]
    ensemble = Ensemble(tuple(members))
    for other in ensemble.members[1:]:
        _refuse_misfit(ensemble.first, other)
    return ensemble


def _calibrated(member: Trained) -> Trained:
    kept = RunFolder(member.folder).calibration(member.result.weights_sha256)
    return dataclasses.replace(member, calibration=kept)


def _refuse_misfit(first: Trained, other: Trained) -> None:
    if set(other.classes) != set(first.classes):
        raise UserError(
            f"{first.name} and {other.name} have different classes: {few(first.classes)}; "
            f"and {few(other.classes)}\n  average only runs on one dataset"
        )
    if other.image_shape != first.image_shape:
        shapes = ["x".join(map(str, each.image_shape)) for each in (first, other)]
        raise UserError(
            f"{first.name} and {other.name} take images of {' and of '.join(shapes)}\n"
            "  average only runs with the same dataset options"
        )
    if reading(other.config) != reading(first.config):
        raise UserError(
            f"{first.name} and {other.name} read images differently: {reading(first.config)}; and "
            f"{reading(other.config)}\n  average only runs with the same dataset options"
        )


def few(classes: Sequence[str]) -> str:
    """Return class names for a message: all if few, otherwise the first ones."""
    more = f" and {len(classes) - MOST_NAMED} more" if len(classes) > MOST_NAMED else ""
    return ", ".join(classes[:MOST_NAMED]) + more


def reading(config: Config) -> dict[str, Any]:
    """Return what determines the pixels of an image file; the data's location does not."""
    keys = (*options.WHICH_DATA, "image_size", "grayscale", "interpolation")
    values = dataclasses.asdict(config.dataset)
    return {key: values[key] for key in keys if key in values}


def is_run(path: Path) -> bool:
    """Return whether a path is the folder of a run, in any state, or of a sweep."""
    return RunFolder(path).is_run() or SweepFolder(path).is_sweep()


def the_run(path: Path) -> Run:
    """Return the finished run in a folder, or a sweep's best by validation. Raises UserError."""
    if SweepFolder(path).is_sweep():
        return _best(path)
    run = read(path)
    if isinstance(run, Skipped):
        remedy = "expected the folder of a finished run or a sweep"
        fault = RunFolder(path).result_or_fault()
        if isinstance(fault, Fault) and fault.is_newer:
            remedy = "update tinylab"
        elif is_run(path):
            remedy = f"finish it: {_again(path)}"
        elif not path.exists() and (meant := _meant(path.name)) is not None:
            remedy = f"did you mean {meant}?"
        raise UserError(f"{path}: {run.reason}\n  {remedy}")
    return run


def _meant(name: str) -> Path | None:
    """Return the run or sweep of this name, or the run of this hash, in the outputs folder."""
    runs, sweeps = (Path(default_outputs()) / kind for kind in ("runs", "sweeps"))
    by_hash = runs.glob(f"*-{glob.escape(name)}")
    return next(filter(is_run, [runs / name, *by_hash, sweeps / name]), None)


def _best(sweep: Path) -> Run:
    """Return the best run of the setting that is best by validation, by its mean over seeds.

    If a sweep keeps only some checkpoints, one of those.
    """
    runs, _ = collect([sweep])
    ranked = [run for run in runs if run.result.val is not None]
    if not ranked:
        raise UserError(
            f"{sweep}: no finished run with a validation accuracy to select by\n"
            "  pass the folder of a single run"
        )
    kept = [run for run in ranked if run.files.best_checkpoint.exists()]
    best = min(group(kept or ranked)[0].runs, key=best_first)
    say(f"{sweep.name}: the best of {len(ranked)} by validation is {best.name}")
    return best


def _again(folder: Path) -> str:
    """Return the command that trains what is missing of a run."""
    outputs = folder.absolute().parent.parent
    where = (
        ""
        if outputs == Path(default_outputs()).absolute()
        else f" outputs={shlex.quote(str(outputs))}"
    )
    return f"tinylab train --from {shlex.quote(str(folder))}{where}"


def load(run: Run, device: torch.device) -> Trained:
    """Load the tested network of a finished run.

    Raises UserError if its weights are damaged or not those that were tested, if another version of
    tinylab wrote it and this one cannot reproduce it, or if its own code is missing or has changed.
    """
    environment = run.result.environment
    code.require(run.result.config, environment.extra.get("own_code_sha256"), run.folder)
    weights = _weights(run)
    # A new network uses torch's global generator for its initial weights.
    with runtime.settings(device, None, deterministic=True), _another_version(run.folder):
        config, dataset = restore(run.result.config), run.result.dataset
        if dataset.normalization is None:
            raise ValueError("its result has no dataset.normalization")
        recipe = Recipe(
            config.train, config.optim, config.augment, config.seed, len(dataset.classes),
            restore_normalization(dataset.normalization, device), device,
        )  # fmt: skip
        shape = (recipe.normalization.channels, *dataset.image_shape[1:])
        model = build_model(config.model, shape, recipe.num_classes)
        model.load_state_dict(weights)
        if weights_sha256(model) != run.result.weights_sha256:
            raise _unusable(run.files, "its weights are not those that were tested")
    if not code.is_same(environment.code_sha256, config):
        say(f"{run.name}: trained by another version of tinylab's code")
    layout = torch.channels_last if config.train.channels_last else torch.contiguous_format
    model = model.to(device, memory_format=layout).eval()  # type: ignore[call-overload]
    return Trained(run.folder, run.result, config, model, recipe)


def build_model(
    config: ModelConfig, image_shape: tuple[int, int, int], num_classes: int
) -> nn.Module:
    """Build a network whose weights are to be loaded; pretrained ones are not downloaded."""
    return models.build(options.of(config).for_trained(config), image_shape, num_classes)


def _weights(run: Run) -> dict[str, Tensor]:
    try:
        state = checkpoint.load(run.files.best_checkpoint)
        if state.get("run_id") != run.result.run_id:
            raise CheckpointError(f"it belongs to run {state.get('run_id')}")
        weights: dict[str, Tensor] = state["model"]
    except (CheckpointError, KeyError) as error:
        raise _unusable(run.files, str(error)) from error
    return weights


def _unusable(files: RunFolder, why: str) -> UserError:
    return UserError(
        f"{files.best_checkpoint}: cannot be used: {why}\n"
        f"  delete {files.result_file}, then train it again: {_again(files.path)}"
    )


@contextlib.contextmanager
def _another_version(folder: Path) -> Iterator[None]:
    """A complete run that does not fit this version was written by another one."""
    try:
        yield
    except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"{folder}: written by another version of tinylab ({type(error).__name__}: {reason})\n"
            f"  train it again: {_again(folder)} fresh=true"
        ) from error
