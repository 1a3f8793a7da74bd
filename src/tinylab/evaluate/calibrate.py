"""Calibration of a run's probabilities, fitted on its validation images.

The temperature is that of Guo, Pleiss, Sun, Weinberger: On Calibration of Modern Neural Networks
(ICML 2017). An image is unlike the training data if the features of its nearest training images are
far (Sun, Ming, Zhu, Li: Out-of-Distribution Detection with Deep Nearest Neighbors, ICML 2022).
"""

import dataclasses

import numpy as np
import torch
from numpy.typing import NDArray

from tinylab.errors import UserError
from tinylab.evaluate.scope import choose
from tinylab.evaluate.scores import Scores
from tinylab.inference import Ensemble, Trained, in_batches, neighbor_distance
from tinylab.store import calibration
from tinylab.store.calibration import Calibration
from tinylab.store.folder import RunFolder
from tinylab.ui.console import say

LARGEST = 20.0  # largest temperature; the smallest is 1 / LARGEST
HALVINGS = 60  # bisections of the interval of its logarithm: to the last bit
MOST_KEPT = 5000  # training images; with 512 features these are 5 MB
LIKE = 0.99  # fraction of the validation images that count as like the training data


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
    temperature = fit_temperature(logits, val.labels)
    kept = train.images[_evenly(len(train.images), MOST_KEPT)]
    features = in_batches(plain, plain.features, kept)
    distances = neighbor_distance(in_batches(plain, plain.features, val.images), features)
    threshold = float(np.quantile(distances, LIKE, method="higher"))
    fitted = Calibration(
        member.result.weights_sha256, temperature, features.astype(np.float16), threshold
    )
    calibration.write(RunFolder(member.folder).calibration_file, fitted)
    _say(member, logits, val.labels, temperature)
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


def at_temperature(logits: NDArray[np.float64], temperature: float) -> NDArray[np.float64]:
    """Return the probabilities (N, num_classes) of float64 logits at a temperature."""
    probabilities: NDArray[np.float64] = torch.from_numpy(logits / temperature).softmax(1).numpy()
    return probabilities


def _evenly(count: int, most: int) -> NDArray[np.int64]:
    """Return at most this many positions, evenly spaced: most datasets are sorted by class."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(np.int64))


def _say(
    member: Trained, logits: NDArray[np.float64], labels: NDArray[np.int64], temperature: float
) -> None:
    before, after = (
        Scores(labels, at_temperature(logits, each), member.classes) for each in (1.0, temperature)
    )
    say(f"calibration of {member.name}, on {len(labels):,} validation images:")
    if (before.predicted == labels).all():
        say("        all are classified correctly, so the temperature stays 1")
    else:
        say(
            f"        temperature {temperature:.3f}: NLL {before.score.loss:.4f} to "
            f"{after.score.loss:.4f}, calibration error {before.score.ece:.2%} to "
            f"{after.score.ece:.2%}"
        )
    say("        saved with the run; tinylab predict applies it")
