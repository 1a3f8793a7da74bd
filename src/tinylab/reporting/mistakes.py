"""What a run gets wrong: the classes it confuses, and the errors in which it believed most.

A run keeps its predictions, not the images; those come from the dataset, if it is still the same.
"""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinylab import data
from tinylab.config import options
from tinylab.config.schema import DatasetConfig, SplitConfig
from tinylab.data.folder import png_bytes
from tinylab.errors import UserError
from tinylab.reporting.tables import ABSENT, Cell, Table, number
from tinylab.store.result import Result
from tinylab.store.run import Run
from tinylab.training.metrics import confusion_matrix, worst_mistakes

MOST = 24  # pictures
LARGEST = 64  # pixels a side in the page; larger images are thinned out
MOST_CLASSES = 20  # of a confusion matrix with names and counts
MOST_PAIRS = 15
MOST_CELLS = 1000  # of the picture of a confusion matrix, along each side


@dataclass(frozen=True)
class Predictions:
    """A run's predictions on its N test images, and the names of its K classes."""

    index: NDArray[np.int64]  # (N,), in the dataset
    label: NDArray[np.int64]  # (N,)
    predicted: NDArray[np.int64]  # (N,)
    belief: NDArray[np.float64]  # (N,), the probability of the predicted class
    classes: tuple[str, ...]

    @property
    def matrix(self) -> NDArray[np.int64]:
        """The confusion matrix (K, K): row the true class, column the predicted one."""
        return confusion_matrix(self.label, self.predicted, len(self.classes))


@dataclass(frozen=True)
class Mistake:
    """A test image with a wrong prediction."""

    index: int
    label: str
    predicted: str
    belief: float
    picture: str | None  # a data: address


def read(run: Run) -> Predictions:
    """The predictions of a run. Raises UserError where they are absent or damaged."""
    saved = run.files.predictions(with_probabilities=True)
    classes = tuple(map(str, run.result.dataset.classes))
    try:
        if saved is None or saved.probabilities is None:
            raise ValueError("damaged")
        belief = saved.probabilities[np.arange(len(saved.label)), saved.predicted]
        found = Predictions(
            saved.index, saved.label, saved.predicted, belief.astype(np.float64), classes
        )
        found.matrix  # noqa: B018 (raises where a class is none of the classes)
    except (ValueError, IndexError) as error:
        raise UserError(f"{run.files.predictions_file} cannot be read") from error
    return found


@dataclass(frozen=True)
class Mistakes:
    """What a run gets wrong on the test set."""

    confusion: Table | str  # a picture as a data: address
    confused: Table
    recall: Table
    worst: Sequence[Mistake]
    no_pictures: str  # why, if the worst have none


def find(run: Run) -> Mistakes:
    """What a run gets wrong. Raises UserError where its predictions are absent or damaged."""
    found = read(run)
    chosen, no_pictures = worst(run, found)
    return Mistakes(confusion(found), confused(found), recall(found), chosen, no_pictures)


def confusion(found: Predictions) -> Table | str:
    """Counts by true and predicted class, shaded by the share of the true class.

    With many classes it is a picture, a pixel a cell or a few of them, as a data: address.
    """
    shares = found.matrix / np.maximum(found.matrix.sum(axis=1, keepdims=True), 1)
    if len(found.classes) > MOST_CLASSES:
        return data_address((255 * (1 - _coarse(shares))).round().astype(np.uint8)[None])
    lines = zip(found.classes, found.matrix.tolist(), shares.tolist(), strict=True)
    return Table(
        "Test images by true class (downwards) and predicted class (across), shaded by the share "
        "of the true class",
        ["", *found.classes],
        [
            [Cell(name), *(_count(n, share) for n, share in zip(counts, inner, strict=True))]
            for name, counts, inner in lines
        ],
        is_matrix=True,
    )


def _coarse(shares: NDArray[np.float64]) -> NDArray[np.float64]:
    if len(shares) <= MOST_CELLS:
        return shares
    from tinylab.ui import plots  # and with it matplotlib, 0.4 s

    return plots.coarse(shares, MOST_CELLS)


def _count(n: int, share: float) -> Cell:
    return Cell(str(n) if n else "", n, share)


def confused(found: Predictions) -> Table:
    """The pairs of classes that are confused most."""
    matrix = found.matrix
    wrong = matrix - np.diag(matrix.diagonal())
    order = np.argsort(-wrong, axis=None, kind="stable")[:MOST_PAIRS]
    pairs = [divmod(int(place), len(found.classes)) for place in order if wrong.flat[place]]
    totals = matrix.sum(axis=1)
    return Table(
        "Classes confused most often, on the test set",
        ["true class", "taken for", "images", "share of the true class"],
        [
            [
                Cell(found.classes[i]),
                Cell(found.classes[j]),
                number(int(wrong[i, j]), "{}"),
                number(float(wrong[i, j] / totals[i]), "{:.1%}"),
            ]
            for i, j in pairs
        ],
    )


def recall(found: Predictions) -> Table:
    """Accuracy by true class."""
    matrix = found.matrix
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
                found.classes, matrix.sum(axis=1), matrix.diagonal(), strict=True
            )
        ],
    )


def worst(run: Run, found: Predictions) -> tuple[list[Mistake], str]:
    """The wrong predictions with the highest belief, and why they have no pictures, if so."""
    chosen = worst_mistakes(found.label, found.predicted, found.belief)[:MOST]
    pictures, why_not = _pictures(run.result, found.index[chosen])
    mistakes = [
        Mistake(
            int(found.index[item]),
            found.classes[found.label[item]],
            found.classes[found.predicted[item]],
            float(found.belief[item]),
            picture,
        )
        for item, picture in zip(chosen, pictures, strict=True)
    ]
    return mistakes, why_not


def _pictures(result: Result, indices: NDArray[np.int64]) -> tuple[Sequence[str | None], str]:
    """The images at these indices of the dataset as data: addresses; or Nones and the reason.

    Nothing is downloaded for this.
    """
    option = options.options("dataset").get(result.config["dataset"]["name"])
    if not option.is_builtin if option is not None else result.config.get("code"):
        return [None] * len(indices), "they are of your own code, which a report does not execute"
    try:
        dataset, split = _configs(result.config)
        if data.fingerprint(dataset) != result.dataset.fingerprint:
            return [None] * len(indices), "the dataset has changed since the run"
        images = data.load(dataset, split).data.images[indices]
    except UserError as error:
        return [None] * len(indices), str(error).partition("\n")[0]
    except IndexError:
        return [None] * len(indices), "the dataset has no images of these numbers"
    step = -(-images.shape[-1] // LARGEST)
    return [data_address(image[:, ::step, ::step]) for image in images], ""


def data_address(image: NDArray[np.uint8]) -> str:
    """An image, uint8 (C, H, W) with C 1 (gray) or 3 (red, green, blue), as a data: address."""
    return "data:image/png;base64," + base64.b64encode(png_bytes(image)).decode()


def _configs(config: dict[str, Any]) -> tuple[DatasetConfig, SplitConfig]:
    """The records whose values a result holds. Raises UserError where they are not today's."""
    try:
        return options.record("dataset", **config["dataset"]), SplitConfig(**config["split"])
    except (KeyError, TypeError) as error:
        raise UserError("its config is of another version of tinylab") from error
