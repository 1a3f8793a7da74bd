"""Problems in the data of finished runs: label errors, duplicates, outliers, class overlap."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tinylab import data
from tinylab.config import code
from tinylab.config.compose import restore
from tinylab.data.cache import Decoded
from tinylab.errors import UserError
from tinylab.evaluate import labels, looks
from tinylab.evaluate.alike import Neighbors, neighbors
from tinylab.evaluate.calibrate import fit_temperature
from tinylab.evaluate.labels import LabelErrors
from tinylab.inference import at_temperature, in_batches, load, own_data
from tinylab.store.collect import collect
from tinylab.store.run import Run
from tinylab.system import runtime

# Pixels: in smaller images the Laplacian of 3x3 pixels measures strokes. All 1,223 "blurred" images
# of MNIST (28x28) were sharp 1s, of one straight stroke.
LEAST_SIDE = 32
LEAST_PROBABILITY = 1e-9
LEAST_SPREAD = 8.0  # minimum deviation of the mean brightness, in gray levels


@dataclass(frozen=True)
class Finding:
    """An image to be looked at.

    kind: one of KINDS. score: what it is ranked by within its kind. suggested: the likely class of
    a label error or doubtful label. other: for duplicates, the other image's index in the dataset.
    """

    kind: str
    index: int
    score: float
    suggested: int | None = None
    other: int | None = None


# Kind -> description, in the order of the page.
KINDS = {
    "label": "likely label errors, most certain first, with the margin in probability of the other "
    "class",
    "doubtful": "labels less probable than another class that is not certain enough for the list "
    "above, largest margin first",
    "identical": "exact duplicates",
    "near": "near-duplicates, such as re-encoded or slightly resized copies",
    "odd": "outliers: images unlike all others, by their pixels",
    "blurred": "images with hardly any edges",
    "dark": "images far darker than the others",
    "light": "images far lighter than the others",
}


@dataclass(frozen=True)
class Inspection:
    """The findings in one dataset.

    covered: int64 (N,), the images predicted by runs not trained on them. overlaps: pairs of
    classes and the fraction of these images that are labeled as one and belong to the other.
    """

    decoded: Decoded
    runs: Sequence[Run]
    covered: NDArray[np.int64]
    findings: Sequence[Finding]
    overlaps: Sequence[tuple[int, int, float]]

    def of(self, kind: str) -> list[Finding]:
        """Return the findings of one kind."""
        return [each for each in self.findings if each.kind == kind]

    def name(self, index: int) -> str:
        """The file of an image, or its place where it has none: in the official test set, if any.

        Papers name MNIST's images so.
        """
        dataset = self.decoded.dataset
        if dataset.names:
            return str(dataset.names[index])
        if not dataset.num_official_test:
            return f"image {index}"
        num_others = len(dataset.labels) - dataset.num_official_test
        is_test = index >= num_others
        return f"test image {index - num_others}" if is_test else f"training image {index}"

    def label(self, index: int) -> str:
        """Return the labeled class of an image."""
        dataset = self.decoded.dataset
        return str(dataset.classes[dataset.labels[index]])

    def has_two_labels(self, finding: Finding) -> bool:
        """Return whether two duplicates have different labels."""
        assert finding.other is not None
        return self.label(finding.index) != self.label(finding.other)


def inspect(paths: Sequence[Path]) -> Inspection:
    """Inspect the data shared by the runs in ``paths``.

    Raises UserError if they use several datasets, have no predictions, or if their data is missing
    or has changed.
    """
    runs = _runs(paths)
    decoded = _data(runs[0])
    covered, given, probabilities = _out_of_sample(runs, decoded)
    wrong = labels.label_errors(given, probabilities)
    others = labels.doubtful_labels(given, probabilities)
    images = decoded.dataset.pixels
    near = neighbors(images, decoded.first_duplicates)
    return Inspection(
        decoded,
        runs,
        covered,
        [
            *_labels("label", covered, wrong),
            *_labels("doubtful", covered, others),
            *_copies(decoded.first_duplicates, near),
            *_looks(images, near),
        ],
        labels.overlapping(given, probabilities),
    )


def across(inspection: Inspection, kind: str) -> int:
    """Count the duplicates of a kind that some run has split between the test set and the rest.

    They make the test accuracy too high.
    """
    pairs = np.array([(each.index, each.other) for each in inspection.of(kind)], np.int64)
    split = np.zeros(len(pairs), bool)
    for run in inspection.runs if len(pairs) else []:
        assert run.predictions is not None
        tested = np.isin(pairs, run.predictions.index)
        split |= tested[:, 0] != tested[:, 1]
    return int(split.sum())


def _runs(paths: Sequence[Path]) -> list[Run]:
    runs, skipped = collect(paths)
    if not runs:
        reasons = "".join(f"\n  {each.path}: {each.reason}" for each in skipped)
        raise UserError(f"no finished run in {', '.join(map(str, paths))}{reasons}")
    first = runs[0]
    for run in runs:
        if run.result.dataset.fingerprint != first.result.dataset.fingerprint:
            raise UserError(
                f"{first.name} and {run.name} were trained on different images\n"
                "  expected runs on one dataset, such as the folder of a cross-validation"
            )
        if run.predictions is None:
            raise UserError(f"{run.files.predictions_file} cannot be read")
    return runs


def _data(run: Run) -> Decoded:
    """Load the images of a run. Raises UserError if they are missing or have changed."""
    code.require(run.result.config, run.result.environment.extra.get("own_code_sha256"), run.folder)
    try:
        dataset = restore(run.result.config).dataset
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{run.folder}: its config was written by another version of tinylab"
        ) from error
    return own_data(run.name, run.result, dataset)


def _out_of_sample(
    runs: Sequence[Run], decoded: Decoded
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """The images that no training of a run has seen, by place, their labels, and the geometric
    mean of their probabilities over the runs that predicted them, calibrated.

    (N,), (N,) and (N, K).
    """
    tested = [run.files.predictions(with_probabilities=True) for run in runs]
    parts = [(each.index, each.probabilities.astype(np.float64)) for each in tested
             if each is not None and each.probabilities is not None]  # fmt: skip
    if len(parts) < len(runs):
        raise UserError("the probabilities of some runs cannot be read; train them again")
    parts += [_validated(run, decoded) for run in runs if _validates_a_fold(run, decoded)]
    indices = np.concatenate([index for index, _ in parts])
    covered, inverse, times = np.unique(indices, return_inverse=True, return_counts=True)
    logits = np.zeros((len(covered), len(runs[0].result.dataset.classes)))
    every = np.concatenate([probabilities for _, probabilities in parts])
    np.add.at(logits, inverse, np.log(np.maximum(every, LEAST_PROBABILITY)))
    given = decoded.dataset.labels[covered]
    return covered, given, calibrated(logits / times[:, None], given, times)


def calibrated(
    logits: NDArray[np.float64], given: NDArray[np.int64], times: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return probabilities (N, K), with one temperature for all images predicted equally often.

    Label smoothing, and a mean over several networks, make probabilities less extreme, so that
    few images reach the thresholds of confident learning.
    """
    probabilities = np.zeros_like(logits)
    for count in np.unique(times):
        alike = times == count
        temperature = fit_temperature(logits[alike], given[alike])
        probabilities[alike] = at_temperature(logits[alike], temperature)
    return probabilities


def _validates_a_fold(run: Run, decoded: Decoded) -> bool:
    """Whether a run has a fold for validation, which it does where there is an official test set.

    Its predictions on that are not kept, but it is needed where all images are to be inspected.
    """
    is_fold = run.result.config["split"].get("folds") is not None
    return is_fold and decoded.dataset.num_official_test > 0 and run.files.best_checkpoint.exists()


def _validated(run: Run, decoded: Decoded) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The indices of a run's validation images, and their probabilities by its network."""
    trained = load(run, runtime.choose_device("auto"))
    index = data.divide(decoded, trained.config.split, trained.config.dataset).val
    return index, in_batches(trained, trained.probabilities, decoded.dataset.pixels[index])


def _labels(kind: str, covered: NDArray[np.int64], wrong: LabelErrors) -> list[Finding]:
    columns = zip(wrong.position, wrong.suggested, wrong.margin, strict=True)
    return [
        Finding(kind, int(covered[position]), float(margin), suggested=int(suggested))
        for position, suggested, margin in columns
    ]


def _copies(first_duplicates: NDArray[np.int64], near: Neighbors) -> list[Finding]:
    """Return every exact duplicate with its first copy, and every near-duplicate pair once."""
    copies = np.flatnonzero(first_duplicates != np.arange(len(first_duplicates)))
    identical = [
        Finding("identical", int(first_duplicates[copy]), 0.0, other=int(copy)) for copy in copies
    ]
    pairs = {
        (min(pair), max(pair)): float(near.distance[index])
        for index in np.flatnonzero(near.near)
        if first_duplicates[index] == index
        for pair in [(int(index), int(first_duplicates[near.nearest[index]]))]
    }
    ranked = sorted(pairs.items(), key=lambda pair: pair[1])
    return [*identical, *(Finding("near", a, far, other=b) for (a, b), far in ranked)]


def can_be_blurred(images: NDArray[np.uint8]) -> bool:
    """Whether the images are so large that sharpness can be judged."""
    return bool(min(images.shape[2:]) >= LEAST_SIDE)


def _looks(images: NDArray[np.uint8], near: Neighbors) -> list[Finding]:
    """Return outliers, blurred, dark and light images, far from the others."""
    bright, sharp = looks.brightness(images), looks.sharpness(images)
    blurred = looks.far_out(sharp)[0][: None if can_be_blurred(images) else 0]
    dark, light = looks.far_out(bright)
    away = np.abs(bright - np.median(bright)) > LEAST_SPREAD
    extremes = {
        "odd": (looks.far_out(np.log1p(near.distance))[1], near.distance),
        "blurred": (blurred, sharp),
        "dark": (dark[away[dark]], bright),
        "light": (light[away[light]], bright),
    }
    return [
        Finding(kind, int(index), float(values[index]))
        for kind, (indices, values) in extremes.items()
        for index in indices
    ]
