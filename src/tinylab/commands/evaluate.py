"""``tinylab evaluate``: evaluate finished runs on labeled data."""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tinylab import data
from tinylab.commands.parser import Parser
from tinylab.config.base_records import DatasetConfig
from tinylab.config.compose import replay, run_hydra, to_config
from tinylab.config.options import options as options_of
from tinylab.config.options import without_code
from tinylab.config.schema import Config
from tinylab.config.user_code import is_key
from tinylab.data.folder import Folder
from tinylab.errors import UserError
from tinylab.evaluate import report
from tinylab.evaluate.calibrate import calibrate
from tinylab.evaluate.scope import PARTS, Scope, choose
from tinylab.evaluate.scores import Scores
from tinylab.inference import Ensemble, Trained, load_ensemble, the_run
from tinylab.predict.formats import DONE
from tinylab.predict.pictures import Picture, reader
from tinylab.system.runtime import command_line
from tinylab.ui.console import say, track

EPILOG = """\
Evaluates on the test set of the run's own data by default, and on all images of other data.

examples:
  tinylab evaluate outputs/runs/RUN
  tinylab evaluate outputs/runs/RUN --calibrate
  tinylab evaluate outputs/runs/RUN dataset=folder dataset.root=more_photos
  tinylab evaluate outputs/runs/RUN dataset.interpolation=area   its test set, resized differently
  tinylab evaluate outputs/runs/RUN --part val train.tta=grid    with test-time augmentation
  tinylab evaluate outputs/runs/A outputs/runs/B                 probabilities averaged over both"""
FEW = 10  # batches without a progress bar


def main(arguments: list[str]) -> None:
    """Run the command. Raises UserError for errors that the user can fix."""
    options = _parser().parse_intermixed_args(without_code(arguments))
    overrides = [word for word in options.run if "=" in word and not Path(word).is_dir()]
    folders = [Path(word) for word in options.run if word not in overrides]
    if not folders:
        raise UserError("RUN: expected the folder of a finished run or a sweep")
    ensemble = load_ensemble([the_run(folder) for folder in folders], options.device)
    own = list(filter(is_key, arguments))
    config = _config(ensemble.first, overrides, own)
    if any(map(_is_tta, overrides)):
        ensemble = _with_tta(ensemble, config.train.tta, options.calibrate)
    if options.calibrate:
        ensemble = Ensemble(tuple(map(calibrate, ensemble.members)))
    seen: list[Picture] = []
    read = _reader(ensemble.first, config.dataset, options.invert, seen)
    scope = choose(ensemble, config.dataset, options.part, read)
    logits = _logits(ensemble, scope.images)
    members, whole = _scores(ensemble, scope, logits)
    before = _scores(_uncalibrated(ensemble), scope, logits)[1] if options.calibrate else None
    report.show(ensemble, members, whole, scope, config.dataset.name, _handling(seen), before)
    folder = report.folder_of(ensemble, config, scope)
    report.write(folder, ensemble, config, members, whole, scope, command_line("evaluate"))


def _reader(
    trained: Trained, dataset: DatasetConfig, invert: str, seen: list[Picture]
) -> Callable[[Path], NDArray[np.uint8]] | None:
    """Return the reader of ``predict`` for image files of digits; None if not applicable.

    It appends the pictures to ``seen``. Raises UserError if nothing can be inverted.
    """
    own = trained.config.dataset
    is_files = isinstance(data.part_of(dataset), Folder)
    if not hasattr(data.part_of(own), "ink") or not is_files:
        if invert != "auto":
            raise UserError(
                f"--invert {invert}: expected a network for digits, and image files "
                "(dataset=folder)"
            )
        return None
    read = reader(own, invert)

    def pixels(file: Path) -> NDArray[np.uint8]:
        picture = read(file)
        seen.append(picture)
        return picture.pixels

    return pixels


def _handling(seen: Sequence[Picture]) -> str:
    """Describe the preprocessing of digit images, as ``predict`` does."""
    done = [f"{sum(getattr(each, word) for each in seen):,} {word}" for word in DONE]
    return f"read as predict reads them: {', '.join(done)}" if seen else ""


def _parser() -> Parser:
    parser = Parser(
        prog="tinylab evaluate",
        description="Evaluate a finished run on labeled data; several runs form an ensemble.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "run",
        nargs="+",
        help="folders of runs or sweeps; dataset=NAME, dataset.KEY=VALUE, train.tta=KIND, "
        "outputs=FOLDER",
    )
    parser.add_argument(
        "--calibrate",
        action="store_true",
        help="fit a temperature on the run's validation images, save it with the run and apply it",
    )
    parser.add_argument("--part", choices=PARTS, help="images to evaluate")
    parser.add_argument(
        "--invert",
        choices=("auto", "yes", "no"),
        default="auto",
        help="for image files of digits: dark ink on a light background; auto decides by the "
        "border",
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N, mps")
    return parser


def _config(trained: Trained, overrides: Sequence[str], own: Sequence[str]) -> Config:
    """Return the run's config with other data, read as the training images were, or another
    test-time augmentation.

    ``own``: the override that names the user's files.
    """
    for override in overrides:
        if _is_tta(override) and "," in override:
            raise UserError(f"{override}: expected one kind; evaluate once for each")
        key = override.partition("=")[0]
        if key == "dataset.normalize":
            raise UserError(f"{override}: the network keeps the normalization it was trained with")
        if key not in ("dataset", "outputs", "train.tta") and not key.startswith("dataset."):
            raise UserError(
                f"{override}: expected dataset=NAME, dataset.KEY=VALUE, train.tta=KIND, "
                "outputs=FOLDER (or --device); everything else comes from the run"
            )
    chosen = [o.removeprefix("dataset=") for o in overrides if o.startswith("dataset=")]
    as_trained = _as_trained(trained, chosen[-1]) if chosen else []
    composed: list[Config] = []
    arguments = replay(trained.folder, trained.result.config, [*as_trained, *overrides, *own])
    try:
        run_hydra(lambda values: composed.append(to_config(values)), arguments)
    except UserError as error:
        if not any(override.startswith("dataset") for override in overrides):
            raise
        shape = "x".join(map(str, trained.image_shape))
        raise UserError(f"{error}\n  (the network takes images of {shape})") from error
    return composed[0]


def _is_tta(override: str) -> bool:
    return override.startswith("train.tta=")


def _with_tta(ensemble: Ensemble, tta: str, is_calibrating: bool) -> Ensemble:
    """Return the networks with another test-time augmentation.

    Raises UserError where a calibration would be saved that is not of the run's own.
    """
    for own in {member.config.train.tta for member in ensemble.members} - {tta}:
        if is_calibrating:
            raise UserError(
                f"--calibrate with train.tta={tta}: the temperature is saved with the run, which "
                f"has train.tta={own}; expected only one of them"
            )
    return Ensemble(tuple(_at_tta(member, tta) for member in ensemble.members))


def _at_tta(member: Trained, tta: str) -> Trained:
    config = replace(member.config, train=replace(member.config.train, tta=tta))
    return replace(member, config=config)


def _as_trained(trained: Trained, dataset: str) -> list[str]:
    """Return overrides that preprocess another dataset as the training images."""
    C, H, _ = trained.image_shape
    alike = {"image_size": H, "grayscale": str(C == 1).lower()}
    if hasattr(trained.config.dataset, "interpolation"):
        alike["interpolation"] = trained.config.dataset.interpolation
    option = options_of("dataset").get(dataset)
    known = {key.name for key in fields(option.record)} if option is not None else set()
    return [f"dataset.{key}={value}" for key, value in alike.items() if key in known]


def _uncalibrated(ensemble: Ensemble) -> Ensemble:
    return Ensemble(tuple(replace(member, calibration=None) for member in ensemble.members))


def _scores(
    ensemble: Ensemble, scope: Scope, logits: NDArray[np.float64]
) -> tuple[list[Scores], Scores]:
    """Return the scores of each member, and of their mean probabilities."""
    probabilities = ensemble.calibrated(logits)
    _count_as_wrong(probabilities, scope.labels)
    members = [Scores(scope.labels, each, ensemble.classes) for each in probabilities]
    return members, Scores(scope.labels, probabilities.mean(axis=0), ensemble.classes)


def _logits(ensemble: Ensemble, images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return each member's logits, (members, N, num_classes), batch by batch."""
    size = ensemble.first.config.train.eval_batch_size
    starts = range(0, len(images), size)
    shown = track(starts, "evaluating batches", len(starts)) if len(starts) > FEW else starts
    # Allocated first, as in ``train.evaluate``, for the same reason.
    shape = (len(ensemble.members), len(images), len(ensemble.classes))
    logits = np.empty(shape, np.float64)
    for start in shown:
        logits[:, start : start + size] = ensemble.logits(images[start : start + size])
    return logits


def _count_as_wrong(probabilities: NDArray[np.float64], labels: NDArray[np.int64]) -> None:
    """Replace non-finite outputs by misclassifications, in place, as at the end of a training."""
    broken = ~np.isfinite(probabilities).all(axis=2)
    for member, index in np.argwhere(broken):
        logits = np.zeros(probabilities.shape[2])
        logits[labels[index]] = -1.0
        probabilities[member, index] = np.exp(logits) / np.exp(logits).sum()
    if broken.any():
        say(
            f"the outputs for {broken.any(axis=0).sum():,} of {len(labels):,} images are not "
            "finite; they count as misclassified, also in the loss"
        )
