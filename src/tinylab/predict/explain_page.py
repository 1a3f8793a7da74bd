"""Each image, where the network looks, what it resembles: a page, and a part of a run's report."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tinylab import reporting
from tinylab.data.cache import Decoded
from tinylab.errors import UserError
from tinylab.inference import Trained, load_ensemble
from tinylab.predict.explain import (
    Learnt,
    first_filters,
    grad_cam,
    learnt,
    overlaid,
    present,
)
from tinylab.predict.feature_map import FeatureMap, feature_map
from tinylab.reporting import figures, mistakes
from tinylab.reporting.charts import Chart
from tinylab.reporting.gallery import Explanation, Galleries, Gallery, Item
from tinylab.reporting.mistakes import thumbnail
from tinylab.store.collect import Skipped, read
from tinylab.store.run import Run
from tinylab.training.metrics import worst_mistakes

MOST_FILTERS = 64
IN_REPORT = 6  # mistakes
TRAINING_IN_REPORT = 5000  # training images that are compared
HEAT = "; red: regions of the last convolution that support the class (Grad-CAM)"


@dataclass(frozen=True)
class Asked:
    """An image to explain: uint8 (C, H, W), its name, and its label if known."""

    image: NDArray[np.uint8]
    name: str
    label: str = ""


def write(
    out: Path,
    trained: Trained,
    asked: Sequence[Asked],
    decoded: Decoded | None,
    words: Sequence[str],
) -> FeatureMap | None:
    """Write the page; ``words`` are its command, ``decoded`` the run's data where it is here.

    Returns the map of the features of the test images.
    """
    projected = None if decoded is None else feature_map(trained, decoded)
    why = explanation(trained, asked, decoded, projected)
    page = Galleries(
        title=f"Explanation: {trained.name}",
        summary=[*_calibrated(trained), *why.missing],
        galleries=why.galleries,
        repeat=shlex.join(words),
        charts=why.charts,
    )
    reporting.write_galleries(out, page)
    return projected


def _calibrated(trained: Trained) -> list[str]:
    """Return how the probabilities differ from those of the run's own report."""
    if trained.calibration is None:
        return []
    return [f"Probabilities are calibrated: temperature {trained.calibration.temperature:.3f}."]


def of_single_run(path: Path) -> Explanation | None:
    """What the report of one run says of its worst mistakes, bounded in size and time.

    None where it is not finished. Nothing of the user's own code is executed.
    """
    run = read(path)
    if isinstance(run, Skipped):
        return None
    if run.result.environment.extra.get("own_code_sha256"):
        command = shlex.join(["tinylab", "explain", str(path)])
        return Explanation([f"Your own code is not executed for a report; see {command}."])
    try:
        trained = load_ensemble([run], "auto").first  # as the report's mistakes: not calibrated
        decoded = present(trained)
        asked = worst(run, decoded, IN_REPORT)
        projected = feature_map(trained, decoded)
        return explanation(trained, asked, decoded, projected, TRAINING_IN_REPORT)
    except UserError as error:
        return Explanation([f"Not available: {str(error).partition(chr(10))[0]}."])


def worst(run: Run, decoded: Decoded, most: int) -> list[Asked]:
    """The wrong predictions of the highest probability on a run's test images."""
    predictions, dataset = mistakes.read(run), decoded.dataset
    wrong = worst_mistakes(predictions.label, predictions.predicted, predictions.probability)[:most]
    names = dataset.names or [f"test image {index}" for index in range(len(dataset.labels))]
    return [
        Asked(dataset.pixels[index], str(names[index]), dataset.classes[dataset.labels[index]])
        for index in predictions.index[wrong]
    ]


def explanation(
    trained: Trained,
    asked: Sequence[Asked],
    decoded: Decoded | None,
    projected: FeatureMap | None,
    most: int | None = None,
) -> Explanation:
    """What there is to show; at most ``most`` training images are compared with."""
    missing = (
        [] if decoded is not None else ["No training images: the data is missing or has changed."]
    )
    galleries: list[Gallery] = []
    if asked:
        images = np.stack([each.image for each in asked])
        probabilities = trained.probabilities(images)
        heat = grad_cam(trained, images, probabilities.argmax(axis=1))
        if heat is None:
            missing.append("No Grad-CAM: the network has no convolution.")
        near = None if decoded is None else learnt(trained, decoded, most)
        alike = _alike(near, trained.features(images)) if near is not None else [[] for _ in asked]
        galleries = [
            _gallery(trained, each, probabilities[n], None if heat is None else heat[n], alike[n])
            for n, each in enumerate(asked)
        ]
        if near is not None and len(near.index) < near.total:
            missing.append(
                f"The nearest training images are searched among {len(near.index):,} of "
                f"{near.total:,}; tinylab explain searches all."
            )
    charts = [] if decoded is None or projected is None else [_chart(decoded, projected)]
    return Explanation(missing, [*galleries, *_filters(trained)], charts)


def _chart(decoded: Decoded, projected: FeatureMap) -> Chart:
    dataset = decoded.dataset
    labels = dataset.labels[projected.index]
    drawn = figures.feature_map(projected.points, labels, projected.predicted, dataset.classes)
    caption = (
        f"{len(labels):,} test images by the input of the last layer (t-SNE), colored by class; "
        "ringed: misclassified. Neighbors are similar to the network; distances between "
        "clusters and their sizes are not meaningful"
    )
    return Chart(drawn, caption)


def _gallery(
    trained: Trained,
    asked: Asked,
    probabilities: NDArray[np.float64],
    heat: NDArray[np.float32] | None,
    alike: Sequence[Item],
) -> Gallery:
    order = np.argsort(-probabilities, kind="stable")[:3]
    said = ", ".join(f"{trained.classes[k]} ({probabilities[k]:.1%})" for k in order)
    seen = f"labeled {asked.label}" if asked.label else "as preprocessed"
    items = [Item([thumbnail(asked.image)], seen, [asked.name])]
    if heat is not None:
        picture = thumbnail(overlaid(asked.image, heat))
        items.append(Item([picture], f"evidence for {trained.classes[order[0]]}", []))
    caption = f"The image{HEAT if heat is not None else ''}"
    caption += "; followed by the training images with the nearest features" if alike else ""
    return Gallery(f"{asked.name}: {said}", caption, [*items, *alike])


def _alike(known: Learnt, features: NDArray[np.float32]) -> list[list[Item]]:
    """Return the nearest training images of each image."""
    dataset = known.decoded.dataset
    indices, distances = known.nearest(features)

    def item(index: int, distance: float) -> Item:
        name = dataset.names[index] if dataset.names else f"training image {index}"
        label = dataset.classes[dataset.labels[index]]
        return Item([thumbnail(dataset.pixels[index])], f"{label}, distance {distance:.2f}", [name])

    return [
        [item(int(index), float(far)) for index, far in zip(*row, strict=True)]
        for row in zip(indices, distances, strict=True)
    ]


def _filters(trained: Trained) -> list[Gallery]:
    kernels = first_filters(trained)
    if kernels is None:
        return []
    items = [
        Item([thumbnail(kernel)], "", [f"filter {n}"])
        for n, kernel in enumerate(kernels[:MOST_FILTERS])
    ]
    caption = "Kernels of the first convolution; gray levels from the lowest weight to the highest"
    return [Gallery("First layer", caption, items)]
