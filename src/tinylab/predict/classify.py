"""Classify image files in a stream, with constant memory."""

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

BATCH_SIZE = 256  # images per batch, or fewer by BATCH_BYTES of pixels
BATCH_BYTES = 2**26


@dataclass(frozen=True)
class Prediction:
    """The outcome for a file: a picture and its probabilities (num_classes,), or a fault.

    marks: whether it is ``rejected``, because its highest probability is too low, and ``unlike``
    the training data; only what was requested or is known.
    """

    file: str
    picture: Picture | None
    probabilities: NDArray[np.float64]
    fault: str = ""
    marks: dict[str, bool] = field(default_factory=dict)

    def best(self, count: int) -> list[tuple[int, float]]:
        """Return the most probable classes and their probabilities, best first."""
        order = np.argsort(-self.probabilities, kind="stable")[:count]
        return [(int(label), float(self.probabilities[label])) for label in order]


def marks_of(ensemble: Ensemble, reject: float | None) -> list[str]:
    """Return the names of the marks that ``classify`` sets."""
    return [*["rejected"] * (reject is not None), *["unlike"] * bool(ensemble.judges)]


def classify(
    ensemble: Ensemble,
    files: Sequence[str],
    read: Callable[[Path], Picture],
    reject: float | None = None,
) -> Iterator[Prediction]:
    """Yield a prediction for each file, in order. Only one batch of pictures is in memory.

    Images with a highest probability below ``reject`` are marked.
    """
    batch_size = min(BATCH_SIZE, max(1, BATCH_BYTES // math.prod(ensemble.first.image_shape)))
    pool = ThreadPoolExecutor(cores())
    try:
        for start in range(0, len(files), batch_size):
            batch = files[start : start + batch_size]
            answers = list(pool.map(_reading(read), batch))
            yield from _classify_batch(ensemble, batch, answers, reject)
    finally:
        pool.shutdown(cancel_futures=True)  # an interrupt cancels what has not started


def _reading(read: Callable[[Path], Picture]) -> Callable[[str], Picture | str]:
    """Call ``read``, returning the reason of a fault."""

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
    """Return the marks of each image, by the names of ``marks_of``."""
    columns: dict[str, NDArray[np.bool_] | None] = {
        "rejected": None if reject is None else probabilities.max(axis=1) < reject,
        "unlike": ensemble.unlike(pixels),
    }
    known = {name: column for name, column in columns.items() if column is not None}
    return [{name: bool(known[name][n]) for name in known} for n in range(len(pixels))]
