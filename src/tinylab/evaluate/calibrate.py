"""Calibration of a run's probabilities, fitted on its validation images.

The temperature is that of Guo, Pleiss, Sun, Weinberger: On Calibration of Modern Neural Networks
(ICML 2017); it stays 1 unless a likelihood-ratio test (Wilks, 1938) rejects that, since on few
images a fitted temperature may be further from the best one than 1 is. An image is unlike the
training data if the features of its nearest training images are far (Sun, Ming, Zhu, Li:
Out-of-Distribution Detection with Deep Nearest Neighbors, ICML 2022).
"""

import dataclasses
import math

import numpy as np
import torch
from numpy.typing import NDArray

from tinylab.errors import UserError
from tinylab.evaluate.scope import choose
from tinylab.evaluate.scores import Scores
from tinylab.inference import (
    Ensemble,
    Trained,
    at_temperature,
    evenly,
    in_batches,
    neighbor_distance,
)
from tinylab.store import calibration
from tinylab.store.calibration import Calibration
from tinylab.store.folder import RunFolder
from tinylab.ui.console import say

LARGEST = 20.0  # largest temperature; the smallest is 1 / LARGEST
HALVINGS = 60  # bisections of the interval of its logarithm: to the last bit
MOST_KEPT = 5000  # training images; with 512 features these are 5 MB
LIKE = 0.99  # fraction of the validation images that count as like the training data
# Validation images for that fraction: of fewer, the largest distance is exceeded by over 1% of
# further images.
ENOUGH = 100
LEVEL = 0.01  # stricter than 0.05, since the same images have usually chosen the epoch
# Misclassified validation images: these keep the temperature up. With 2 to 5 of them, of 161, the
# NLL on the test set rose in 6 of 12 runs on digits, while the calibration error fell in 11.
FEW_ERRORS = 10


def calibrate(member: Trained) -> Trained:
    """Calibrate the run's probabilities; saves the result in its folder and reports it.

    Raises UserError without validation images, and if its data has changed.
    """
    if member.result.val is None:
        raise UserError(
            f"--calibrate: {member.name} has no validation images\n"
            "  expected a run with validation images, such as split.val=0.1"
        )
    own = member.config.dataset
    val, train = (choose(Ensemble((member,)), own, part) for part in ("val", "train"))
    plain = dataclasses.replace(member, calibration=None)
    logits = in_batches(plain, lambda images: plain.logits(images).double().numpy(), val.images)
    best = fit_temperature(logits, val.labels)
    p = p_of_one(logits, val.labels, best)
    fitted = Calibration(
        member.result.weights_sha256, best if p < LEVEL else 1.0,
        *_likeness(plain, val.images, train.images),
    )  # fmt: skip
    calibration.write(RunFolder(member.folder).calibration_file, fitted)
    _say(member, logits, val.labels, best, p)
    return dataclasses.replace(member, calibration=fitted)


def fit_temperature(logits: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """Return the temperature with the lowest NLL, from 1 / LARGEST to LARGEST.

    logits: (N, num_classes). labels: (N,). It is 1 if all predictions are correct: the likelihood
    is then unbounded. The loss is convex in the inverse temperature, so its slope has one zero.
    """
    if (logits.argmax(axis=1) == labels).all():
        return 1.0
    true = logits[np.arange(len(labels)), labels]

    def slope(temperature: float) -> float:
        scaled = logits / temperature
        weights = np.exp(scaled - scaled.max(axis=1, keepdims=True))
        expected = (weights * logits).sum(axis=1) / weights.sum(axis=1)
        return float((expected - true).mean())

    low, high = -np.log(LARGEST), np.log(LARGEST)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if slope(float(np.exp(middle))) > 0 else (low, middle)
    return float(np.exp((low + high) / 2))


def p_of_one(logits: NDArray[np.float64], labels: NDArray[np.int64], temperature: float) -> float:
    """Return the p-value of temperature = 1, given the temperature with the lowest NLL.

    By the likelihood ratio, of which twice the logarithm is chi-squared with 1 degree of freedom.
    """
    gain = _nll(logits, labels, 1.0) - _nll(logits, labels, temperature)
    return math.erfc(math.sqrt(max(gain, 0.0) * len(labels)))


def _nll(logits: NDArray[np.float64], labels: NDArray[np.int64], temperature: float) -> float:
    scaled = torch.from_numpy(logits / temperature)
    return float(torch.nn.functional.cross_entropy(scaled, torch.from_numpy(labels)))


def _likeness(
    plain: Trained, val: NDArray[np.uint8], train: NDArray[np.uint8]
) -> tuple[NDArray[np.float16], float]:
    """Return features of training images, and the distance from which an image is unlike them.

    No features and infinity if there are not ENOUGH validation images.
    """
    if len(val) < ENOUGH:
        return np.zeros((0, 0), np.float16), math.inf
    kept = train[evenly(np.arange(len(train)), MOST_KEPT)]
    features = in_batches(plain, plain.features, kept)
    distances = neighbor_distance(in_batches(plain, plain.features, val), features)
    threshold = float(np.quantile(distances, LIKE, method="higher"))
    return features.astype(np.float16), threshold


def _say(
    member: Trained, logits: NDArray[np.float64], labels: NDArray[np.int64], best: float, p: float
) -> None:
    say(f"calibration of {member.name}, on {len(labels):,} validation images:")
    lines = _outcome(*_at(logits, labels, member.classes, best), best, p)
    if len(labels) < ENOUGH:
        lines.append(
            f"images unlike the training data will not be marked: that needs {ENOUGH} validation "
            "images"
        )
    for line in [*lines, "saved with the run; tinylab predict applies it"]:
        say(f"        {line}")


def _at(
    logits: NDArray[np.float64], labels: NDArray[np.int64], classes: tuple[str, ...], best: float
) -> tuple[Scores, Scores]:
    """Return the scores at temperature 1 and at the best one."""
    before, after = (at_temperature(logits, each) for each in (1.0, best))
    return Scores(labels, before, classes), Scores(labels, after, classes)


def _outcome(before: Scores, after: Scores, best: float, p: float) -> list[str]:
    nll = f"NLL {before.score.loss:.4f} to {after.score.loss:.4f}"
    errors = int((before.predicted != before.labels).sum())
    if errors == 0:
        return ["all are classified correctly, so the temperature stays 1"]
    if p >= LEVEL:
        return [
            f"the temperature stays 1: {best:.3f} fits these images best ({nll}), but not "
            "significantly",
            f"(likelihood-ratio test: p = {p:.3f}, expected below {LEVEL:g})",
        ]
    ece = f"calibration error {before.score.ece:.2%} to {after.score.ece:.2%}"
    lines = [f"temperature {best:.3f}: {nll}, {ece}"]
    if errors < FEW_ERRORS:
        lines.append(
            f"uncertain, since only {errors} of these are misclassified: the loss on new images "
            "may rise"
        )
    return lines
