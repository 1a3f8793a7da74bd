"""Figures for people: learning curves, confusion matrix, gallery. The only user of matplotlib."""

import io
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import imsave
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

TRAIN, VAL = "#4269d0", "#e8743b"  # told apart by people with any colour vision


def curves(history: list[dict[str, Any]], title: str) -> Figure:
    """Loss and accuracy by epoch, for train and validation."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    figure.suptitle(title, fontsize=10)
    epochs = [row["epoch"] for row in history]
    for place, name in enumerate(("loss", "accuracy"), start=1):
        axes = figure.add_subplot(1, 2, place)
        for part, color in (("train", TRAIN), ("val", VAL)):
            values = [row[f"{part}_{name}"] for row in history]
            if None not in values:
                label = {"train": "train (while learning)", "val": "validation"}[part]
                axes.plot(epochs, values, color=color, label=label, marker="o", markersize=3)
        axes.set_xlabel("epoch")
        axes.set_ylabel(name)
        axes.grid(alpha=0.3)
        axes.legend()
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


def confusion(matrix: NDArray[np.int64], classes: tuple[str, ...], title: str) -> Figure:
    """Counts by true class (rows) and predicted class (columns), shaded by the row's share."""
    K = len(classes)
    side = max(4.0, 0.42 * K + 1.5)
    figure = Figure(figsize=(side + 0.5, side), layout="constrained")
    axes = figure.add_subplot()
    share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    axes.set_title(title, fontsize=10)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    rotation = 0 if max(map(len, classes)) <= 2 else 60
    axes.set_xticks(range(K), classes, rotation=rotation, ha="center" if not rotation else "right",
                    rotation_mode="anchor")  # fmt: skip
    axes.set_yticks(range(K), classes)
    if K <= 40:
        for row, column in np.argwhere(matrix > 0):
            color = "white" if share[row, column] > 0.5 else "black"
            axes.text(column, row, str(matrix[row, column]), ha="center", va="center",
                      color=color, fontsize=8)  # fmt: skip
    return figure


def gallery(images: NDArray[np.uint8], captions: list[str], title: str) -> Figure:
    """Small images in a grid, uint8 (N, C, H, W) with C 1 or 3, each with its caption.

    One picture and one set of axes for all: axes of their own cost 30 ms an image.
    """
    columns, gap = 8, 0.5  # the gap holds the caption, in heights of an image
    rows = max(1, -(-len(images) // columns))
    figure = Figure(figsize=(1.4 * columns, (1 + gap) * 1.4 * rows + 0.4))
    axes = figure.add_axes((0.01, 0.01, 0.98, 0.95 - 0.25 / (rows + 1)))
    figure.suptitle(title, fontsize=11)
    axes.set_axis_off()
    axes.set_xlim(-0.05, columns)
    axes.set_ylim(rows * (1 + gap), 0)
    for place, (image, caption) in enumerate(zip(images, captions, strict=True)):
        row, column = divmod(place, columns)
        left, top = float(column), row * (1 + gap) + gap
        pixels = image.transpose(1, 2, 0).squeeze()
        axes.imshow(
            pixels, cmap="gray", vmin=0, vmax=255, interpolation="nearest", aspect="auto",
            extent=(left, left + 0.9, top + 0.95, top),
        )  # fmt: skip
        axes.text(left, top - 0.04, caption, fontsize=8, va="bottom")
    axes.set_xlim(-0.05, columns)
    axes.set_ylim(rows * (1 + gap), 0)
    return figure


def draw(figure: Figure) -> NDArray[np.uint8]:
    """The figure as uint8 (H, W, 3)."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # type: ignore[no-untyped-call]
    pixels_HW4 = np.asarray(canvas.buffer_rgba(), np.uint8)  # type: ignore[no-untyped-call]
    return pixels_HW4[..., :3].copy()


def to_png(pixels_HWC: NDArray[np.uint8]) -> bytes:
    """Drawn pixels as a PNG file."""
    buffer = io.BytesIO()
    imsave(buffer, pixels_HWC, format="png")
    return buffer.getvalue()
