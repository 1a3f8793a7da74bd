"""The mistakes of a run: the classes it confuses, and the most confident errors.

A run stores its predictions, not the images; those come from the dataset, if it is unchanged.
"""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from tinylab import data
from tinylab.config import options
from tinylab.config.base_records import DatasetConfig
from tinylab.config.schema import SplitConfig
from tinylab.data.folder import png_bytes
from tinylab.errors import UserError
from tinylab.reporting import figures
from tinylab.reporting.risk import RiskCoverage, risk_coverage
from tinylab.reporting.tables import ABSENT, Cell, Table, number
from tinylab.store.result import Result
from tinylab.store.run import Run, best_first
from tinylab.training.metrics import confusion_matrix, worst_mistakes

MOST = 24  # pictures
LARGEST = 64  # maximum side in pixels; larger images are subsampled
MOST_CLASSES = 20  # of a confusion matrix with names and counts
MOST_PAIRS = 15
MOST_CELLS = 1000  # of the picture of a confusion matrix, along each side
LEAST_WRONG = 10  # for a risk-coverage curve; with fewer it is noise
KEPT = 0.9  # fraction of the images, in the sentence on rejection
SPLIT = ("split.folds", "split.seed")  # equal for all folds of a cross-validation


@dataclass(frozen=True)
class Predictions:
    """A run's predictions for its N test images, and the names of its K classes."""

    index: NDArray[np.int64]  # (N,), in the dataset
    label: NDArray[np.int64]  # (N,)
    predicted: NDArray[np.int64]  # (N,)
    probability: NDArray[np.float64]  # (N,), the probability of the predicted class
    classes: tuple[str, ...]
    path: NDArray[np.str_] | None = None  # (N,), their files

    @property
    def matrix(self) -> NDArray[np.int64]:
        """The confusion matrix (K, K): rows are true classes, columns predicted ones."""
        return confusion_matrix(self.label, self.predicted, len(self.classes))


@dataclass(frozen=True)
class Mistake:
    """A misclassified test image."""

    index: int
    label: str
    predicted: str
    probability: float
    picture: str | None  # a data: URL
    file: str = ""


def read(run: Run) -> Predictions:
    """Return the predictions of a run. Raises UserError if they are missing or damaged."""
    saved = run.files.predictions(with_probabilities=True)
    classes = tuple(map(str, run.result.dataset.classes))
    try:
        if saved is None or saved.probabilities is None:
            raise ValueError("damaged")
        probability = saved.probabilities[np.arange(len(saved.label)), saved.predicted]
        predictions = Predictions(
            saved.index, saved.label, saved.predicted, probability.astype(np.float64), classes,
            saved.path,
        )  # fmt: skip
        predictions.matrix  # noqa: B018 (raises where a class is none of the classes)
    except (ValueError, IndexError) as error:
        raise UserError(f"{run.files.predictions_file} cannot be read") from error
    return predictions


@dataclass(frozen=True)
class Mistakes:
    """The mistakes of runs on the test set. whose: which runs these are, in words."""

    whose: str
    confusion: Table | str  # a picture as a data: URL
    confused: Table
    recall: Table
    worst: Sequence[Mistake]
    no_pictures: str  # why the worst have no pictures, if so
    rejecting: Markup | None  # the risk-coverage curve; None for fewer than LEAST_WRONG
    rejected: str


def find(runs: Sequence[Run]) -> Mistakes:
    """Find the mistakes of the best run by validation, or of all folds of its cross-validation.

    It is the run that ``tinylab predict`` takes from a sweep.
    Raises UserError if their predictions are missing or damaged.
    """
    folds = one_of_each_fold(sorted(runs, key=best_first))
    predictions = _joined([read(run) for run in folds])
    chosen, no_pictures = worst(folds[0], predictions)
    whose = f"all {len(folds)} folds pooled" if len(folds) > 1 else _whose(folds[0], len(runs))
    curve = risk_coverage(predictions.probability, predictions.predicted == predictions.label)
    num_wrong = int(np.count_nonzero(predictions.predicted != predictions.label))
    return Mistakes(
        whose, confusion(predictions), confused(predictions), recall(predictions), chosen,
        no_pictures,
        figures.risk_coverage(curve.coverage, curve.risk) if num_wrong >= LEAST_WRONG else None,
        _rejected(curve),
    )  # fmt: skip


def _whose(run: Run, total: int) -> str:
    chosen = "the first" if run.result.val is None else "the best by validation"
    return f"the run {run.name}{f', {chosen} of {total}' if total > 1 else ''}"


def one_of_each_fold(runs: Sequence[Run]) -> list[Run]:
    """Return the first of ``runs``, and for a cross-validation the runs that tested other images.

    Folds of data with an official test set are all tested on it, and are not pooled.
    """
    first, *others = runs
    chosen, tested = [first], read(first).index
    for run in others if first.values.get("split.folds") is not None else []:
        is_other_fold = all(run.values.get(key) == first.values.get(key) for key in SPLIT)
        is_same_data = run.result.dataset.fingerprint == first.result.dataset.fingerprint
        if is_other_fold and is_same_data and not np.isin(index := read(run).index, tested).any():
            chosen.append(run)
            tested = np.concatenate([tested, index])
    return chosen


def _joined(folds: Sequence[Predictions]) -> Predictions:
    paths = [each.path for each in folds if each.path is not None]
    return Predictions(
        np.concatenate([each.index for each in folds]),
        np.concatenate([each.label for each in folds]),
        np.concatenate([each.predicted for each in folds]),
        np.concatenate([each.probability for each in folds]),
        folds[0].classes,
        np.concatenate(paths) if len(paths) == len(folds) else None,
    )


def _rejected(curve: RiskCoverage) -> str:
    """Describe the effect of rejecting the least confident tenth."""
    index = int(np.searchsorted(curve.coverage, KEPT))
    return (
        f"Rejecting the {1 - curve.coverage[index]:.1%} of images with the lowest probability "
        f"lowers the error on the others from {curve.risk[-1]:.2%} to "
        f"{curve.risk[index]:.2%}. Area under the curve: {curve.area:.4f}"
    )


def confusion(predictions: Predictions) -> Table | str:
    """Return counts by true and predicted class, shaded by the fraction of the true class.

    With many classes it is a picture with a pixel or a few per cell, as a data: URL.
    """
    fractions = predictions.matrix / np.maximum(predictions.matrix.sum(axis=1, keepdims=True), 1)
    if len(predictions.classes) > MOST_CLASSES:
        return data_address((255 * (1 - _coarse(fractions))).round().astype(np.uint8)[None])
    lines = zip(predictions.classes, predictions.matrix.tolist(), fractions.tolist(), strict=True)
    return Table(
        "Confusion matrix of the test images: true class (rows) by predicted class (columns), "
        "shaded by fraction of the true class",
        ["", *predictions.classes],
        [
            [Cell(name), *(_count(n, fraction) for n, fraction in zip(counts, inner, strict=True))]
            for name, counts, inner in lines
        ],
        is_matrix=True,
    )


def _coarse(fractions: NDArray[np.float64]) -> NDArray[np.float64]:
    if len(fractions) <= MOST_CELLS:
        return fractions
    from tinylab.ui import plots  # imports matplotlib, 0.4 s

    return plots.coarse(fractions, MOST_CELLS)


def _count(n: int, fraction: float) -> Cell:
    return Cell(str(n) if n else "", n, fraction)


def confused(predictions: Predictions) -> Table:
    """Return the most confused pairs of classes."""
    matrix = predictions.matrix
    wrong = matrix - np.diag(matrix.diagonal())
    order = np.argsort(-wrong, axis=None, kind="stable")[:MOST_PAIRS]
    pairs = [divmod(int(index), len(predictions.classes)) for index in order if wrong.flat[index]]
    totals = matrix.sum(axis=1)
    return Table(
        "Most confused classes on the test set",
        ["true class", "predicted as", "images", "fraction of the true class"],
        [
            [
                Cell(predictions.classes[i]),
                Cell(predictions.classes[j]),
                number(int(wrong[i, j]), "{}"),
                number(float(wrong[i, j] / totals[i]), "{:.1%}"),
            ]
            for i, j in pairs
        ],
    )


def recall(predictions: Predictions) -> Table:
    """Return the accuracy by true class."""
    matrix = predictions.matrix
    return Table(
        "Test accuracy by true class (recall)",
        ["class", "test images", "recall"],
        [
            [
                Cell(name),
                number(int(total), "{}"),
                number(float(right / total), "{:.1%}") if total else ABSENT,
            ]
            for name, total, right in zip(
                predictions.classes, matrix.sum(axis=1), matrix.diagonal(), strict=True
            )
        ],
    )


def worst(run: Run, predictions: Predictions) -> tuple[list[Mistake], str]:
    """Return the most confident wrong predictions, and why they have no pictures, if so."""
    order = worst_mistakes(predictions.label, predictions.predicted, predictions.probability)
    chosen = order[:MOST]
    pictures, why_not = _pictures(run.result, predictions.index[chosen])
    mistakes = [
        Mistake(
            int(predictions.index[item]),
            predictions.classes[predictions.label[item]],
            predictions.classes[predictions.predicted[item]],
            float(predictions.probability[item]),
            picture,
            "" if predictions.path is None else str(predictions.path[item]),
        )
        for item, picture in zip(chosen, pictures, strict=True)
    ]
    return mistakes, why_not


def _pictures(result: Result, indices: NDArray[np.int64]) -> tuple[Sequence[str | None], str]:
    """Return the images at these indices as data: URLs; or Nones and the reason.

    Nothing is downloaded.
    """
    option = options.options("dataset").get(result.config["dataset"]["name"])
    if not option.is_builtin if option is not None else result.config.get("code"):
        return [None] * len(
            indices
        ), "the dataset is defined by your own code, which a report does not execute"
    try:
        dataset, split = _configs(result.config)
        if data.fingerprint(dataset) != result.dataset.fingerprint:
            return [None] * len(indices), "the dataset has changed since the run"
        images = data.load(dataset, split).data.pixels[indices]
    except UserError as error:
        return [None] * len(indices), str(error).partition("\n")[0]
    except IndexError:
        return [None] * len(indices), "the dataset has no images with these indices"
    return [thumbnail(image) for image in images], ""


def thumbnail(image: NDArray[np.uint8]) -> str:
    """Return an image (C, H, W), subsampled to at most LARGEST pixels, as a data: URL."""
    step = -(-image.shape[-1] // LARGEST)
    return data_address(image[:, ::step, ::step])


def data_address(image: NDArray[np.uint8]) -> str:
    """Return an image, uint8 (C, H, W) with C 1 (gray) or 3 (RGB), as a data: URL."""
    return "data:image/png;base64," + base64.b64encode(png_bytes(image)).decode()


def _configs(config: dict[str, Any]) -> tuple[DatasetConfig, SplitConfig]:
    """Rebuild the records of a result. Raises UserError if they do not match the current schema."""
    try:
        return options.record("dataset", **config["dataset"]), SplitConfig(**config["split"])
    except (KeyError, TypeError) as error:
        raise UserError("its config was written by another version of tinylab") from error
