"""The page of ``tinylab explain``: each image, where the network looks, what it resembles."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tinylab import reporting
from tinylab.errors import UserError
from tinylab.inference import Trained
from tinylab.predict.explain import Learnt, first_filters, grad_cam, learnt, overlaid
from tinylab.reporting.gallery import Galleries, Gallery, Item
from tinylab.reporting.mistakes import thumbnail

MOST_FILTERS = 64
HEAT = "; red: regions of the last convolution that support the class (Grad-CAM)"


@dataclass(frozen=True)
class Asked:
    """An image to explain: uint8 (C, H, W), its name, and its label where it has one."""

    image: NDArray[np.uint8]
    name: str
    label: str = ""


def write(out: Path, trained: Trained, asked: Sequence[Asked], words: Sequence[str]) -> list[str]:
    """Write the page; ``words`` are its command. Returns what cannot be shown, and why."""
    images = np.stack([each.image for each in asked])
    probabilities = trained.probabilities(images)
    heat = grad_cam(trained, images, probabilities.argmax(axis=1))
    missing = [] if heat is not None else ["no Grad-CAM: the network has no convolution"]
    near = None
    try:
        near = learnt(trained)
    except UserError as error:
        missing.append(f"no training images available: {str(error).partition(chr(10))[0]}")
    alike = _alike(near, trained.features(images)) if near is not None else [[] for _ in asked]
    galleries = [
        _gallery(trained, each, probabilities[n], None if heat is None else heat[n], alike[n])
        for n, each in enumerate(asked)
    ]
    page = Galleries(
        title=f"Explanation: {trained.name}",
        summary=[f"{each[0].upper()}{each[1:]}." for each in missing],
        galleries=[*galleries, *_filters(trained)],
        repeat=shlex.join(words),
    )
    reporting.write_galleries(out, page)
    return missing


def _gallery(
    trained: Trained,
    asked: Asked,
    probabilities: NDArray[np.float64],
    heat: NDArray[np.float32] | None,
    alike: Sequence[Item],
) -> Gallery:
    order = np.argsort(-probabilities, kind="stable")[:3]
    said = ", ".join(f"{trained.classes[k]} {probabilities[k]:.1%}" for k in order)
    seen = f"labeled {asked.label}" if asked.label else "as preprocessed"
    items = [Item([thumbnail(asked.image)], seen, [asked.name])]
    if heat is not None:
        picture = thumbnail(overlaid(asked.image, heat))
        items.append(Item([picture], f"evidence for {trained.classes[order[0]]}", []))
    caption = f"The image{HEAT if heat is not None else ''}"
    caption += "; followed by the training images with the nearest features" if alike else ""
    return Gallery(f"{asked.name}: {said}", caption, [*items, *alike])


def _alike(known: Learnt, features: NDArray[np.float32]) -> list[list[Item]]:
    """The nearest training images of each image."""
    images = known.decoded.images
    places, distances = known.nearest(features)

    def item(place: int, distance: float) -> Item:
        name = images.names[place] if images.names else f"training image {place}"
        label = images.classes[images.labels[place]]
        return Item([thumbnail(images.images[place])], f"{label}, distance {distance:.2f}", [name])

    return [
        [item(int(place), float(far)) for place, far in zip(*row, strict=True)]
        for row in zip(places, distances, strict=True)
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
