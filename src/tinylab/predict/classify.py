"""Classifying image files in a stream: files in, predictions out, memory flat."""

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tinylab.inference import Ensemble
from tinylab.predict.pictures import Picture
from tinylab.system.machine import cores

BATCH_SIZE = 256  # images at a time, or as many as have BATCH_BYTES pixels
BATCH_BYTES = 2**26


@dataclass(frozen=True)
class Prediction:
    """What became of a file: a picture and its probabilities (num_classes,), or a fault.

    marks: whether it is ``rejected``, its highest probability being too low, and ``unlike`` the
    training data; only what was asked or can be told.
    """

    file: str
    picture: Picture | None
    probabilities: NDArray[np.float64]
    fault: str = ""
    marks: dict[str, bool] = field(default_factory=dict)

    def best(self, count: int) -> list[tuple[int, float]]:
        """The most probable classes and their probabilities, the best first."""
        order = np.argsort(-self.probabilities, kind="stable")[:count]
        return [(int(label), float(self.probabilities[label])) for label in order]


def marks_of(ensemble: Ensemble, reject: float | None) -> list[str]:
    """The names of the marks that ``classify`` sets."""
    can_tell = any(member.calibration is not None for member in ensemble.members)
    return [*["rejected"] * (reject is not None), *["unlike"] * can_tell]


def classify(
    ensemble: Ensemble,
    files: Sequence[str],
    read: Callable[[Path], Picture],
    reject: float | None = None,
) -> Iterator[Prediction]:
    """A prediction for each file, in their order. Only one batch of pictures is held at a time.

    Images whose highest probability is below ``reject`` are marked.
    """
    batch_size = min(BATCH_SIZE, max(1, BATCH_BYTES // math.prod(ensemble.first.image_shape)))
    pool = ThreadPoolExecutor(cores())
    try:
        for start in range(0, len(files), batch_size):
            batch = files[start : start + batch_size]
            answers = list(pool.map(_reading(read), batch))
            yield from _classify_batch(ensemble, batch, answers, reject)
    finally:
        pool.shutdown(cancel_futures=True)  # an interrupt waits for nothing that has not begun


def _reading(read: Callable[[Path], Picture]) -> Callable[[str], Picture | str]:
    """``read``, with a fault's reason as an answer like any other."""

    def answer(file: str) -> Picture | str:
        try:
            return read(Path(file))
        except OSError as error:
            return error.strerror or str(error)

    return answer


def _classify_batch(
    ensemble: Ensemble,
    files: Sequence[str],
    answers: Sequence[Picture | str],
    reject: float | None,
) -> Iterator[Prediction]:
    pictures = [answer for answer in answers if isinstance(answer, Picture)]
    nothing = np.zeros(0)
    rows: Iterator[tuple[NDArray[np.float64], dict[str, bool]]] = iter(())
    if pictures:
        pixels = np.stack([picture.pixels for picture in pictures])
        probabilities = ensemble.probabilities(pixels).mean(axis=0)
        marks = _marks(ensemble, pixels, probabilities, reject)
        rows = zip(probabilities, marks, strict=True)
    for file, answer in zip(files, answers, strict=True):
        if isinstance(answer, Picture):
            probability, mark = next(rows)
            yield Prediction(file, answer, probability, marks=mark)
        else:
            yield Prediction(file, None, nothing, answer)


def _marks(
    ensemble: Ensemble,
    pixels: NDArray[np.uint8],
    probabilities: NDArray[np.float64],
    reject: float | None,
) -> list[dict[str, bool]]:
    """What is remarkable of each image, by the names of ``marks_of``."""
    columns: dict[str, NDArray[np.bool_] | None] = {
        "rejected": None if reject is None else probabilities.max(axis=1) < reject,
        "unlike": ensemble.unlike(pixels),
    }
    known = {name: column for name, column in columns.items() if column is not None}
    return [{name: bool(known[name][n]) for name in known} for n in range(len(pixels))]
