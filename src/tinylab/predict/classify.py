"""Classifying image files in a stream: files in, predictions out, memory flat."""

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
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
    """What became of a file: a picture and its probabilities (num_classes,), or a fault."""

    file: str
    picture: Picture | None
    probabilities: NDArray[np.float64]
    fault: str = ""

    def best(self, count: int) -> list[tuple[int, float]]:
        """The most probable classes and their probabilities, the best first."""
        order = np.argsort(-self.probabilities, kind="stable")[:count]
        return [(int(label), float(self.probabilities[label])) for label in order]


def classify(
    ensemble: Ensemble, files: Sequence[str], read: Callable[[Path], Picture]
) -> Iterator[Prediction]:
    """A prediction for each file, in their order. Only one batch of pictures is held at a time."""
    batch_size = min(BATCH_SIZE, max(1, BATCH_BYTES // math.prod(ensemble.first.image_shape)))
    pool = ThreadPoolExecutor(cores())
    try:
        for start in range(0, len(files), batch_size):
            batch = files[start : start + batch_size]
            yield from _classify_batch(ensemble, batch, list(pool.map(_reading(read), batch)))
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
    ensemble: Ensemble, files: Sequence[str], answers: Sequence[Picture | str]
) -> Iterator[Prediction]:
    pictures = [answer for answer in answers if isinstance(answer, Picture)]
    nothing = np.zeros(0)
    rows = iter(())
    if pictures:
        pixels = np.stack([picture.pixels for picture in pictures])
        rows = iter(ensemble.probabilities(pixels).mean(axis=0))
    for file, answer in zip(files, answers, strict=True):
        if isinstance(answer, Picture):
            yield Prediction(file, answer, next(rows))
        else:
            yield Prediction(file, None, nothing, answer)
