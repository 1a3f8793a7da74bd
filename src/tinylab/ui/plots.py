"""Plots: learning curves, confusion matrix, gallery. The only user of matplotlib."""

import io
import warnings
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import imsave
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from tinylab.ui.tables import fitted

MOST_CLASSES = 40  # classes of a confusion matrix that are named, with counts
MOST_CELLS = 800  # maximum side of a confusion matrix
CAPTION = 40  # characters per line of a caption
TRAIN, VAL = "#4269d0", "#e8743b"  # told apart by people with any color vision


class Drawing(Figure):
    """A figure that notebooks display, though pyplot does not manage it."""

    def _repr_png_(self) -> bytes:
        return to_png(render(self))


def curves(history: list[dict[str, Any]], title: str) -> Drawing:
    """Plot loss and accuracy by epoch, for training and validation."""
    figure = Drawing(figsize=(9, 3.6))
    figure.subplots_adjust(left=0.07, right=0.98, bottom=0.14, top=0.9, wspace=0.2)
    figure.suptitle(title, fontsize=10)
    epochs = [row["epoch"] for row in history]
    for column, name in enumerate(("loss", "accuracy"), start=1):
        axes = figure.add_subplot(1, 2, column)
        for part, color in (("train", TRAIN), ("val", VAL)):
            values = [row[f"{part}_{name}"] for row in history]
            if None not in values:
                label = {"train": "train (during the epoch)", "val": "validation"}[part]
                axes.plot(epochs, values, color=color, label=label, marker="o", markersize=3)
        axes.set_xlabel("epoch")
        axes.set_ylabel(name)
        axes.grid(alpha=0.3)
        axes.legend()
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


def confusion(matrix: NDArray[np.int64], classes: tuple[str, ...], title: str) -> Figure:
    """Plot counts by true class (rows) and predicted class (columns), shaded by fraction of the
    row.

    With more than ``MOST_CLASSES`` the figure stops growing, and only some classes are named.
    """
    K = len(classes)
    shown = range(0, K, -(-K // MOST_CLASSES))
    names = [fitted(classes[k], 30) for k in shown]
    letters = max(map(len, names))
    margin = 0.7 + 0.085 * letters  # inches for the class names, left and below
    side = max(3.0, 0.42 * min(K, MOST_CLASSES))
    width, height = margin + side + 0.3, margin + side + 0.5
    figure = Drawing(figsize=(width, height))
    axes = figure.add_axes((margin / width, margin / height, side / width, side / height))
    fraction = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    # A pixel may cover several classes: the largest fraction among them.
    extent = (-0.5, K - 0.5, K - 0.5, -0.5)
    axes.imshow(coarse(fraction, MOST_CELLS), cmap="Blues", vmin=0, vmax=1, extent=extent)
    figure.text(0.5, 1 - 0.15 / height, title, fontsize=10, ha="center", va="top")
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    if letters <= 2:
        axes.set_xticks(shown, names, parse_math=False)
    else:
        axes.set_xticks(
            shown, names, rotation=60, ha="right", rotation_mode="anchor", parse_math=False
        )
    axes.set_yticks(shown, names, parse_math=False)
    for row, column in np.argwhere(matrix > 0) if K <= MOST_CLASSES else ():
        color = "white" if fraction[row, column] > 0.5 else "black"
        count = str(matrix[row, column])
        axes.text(column, row, count, ha="center", va="center", color=color, fontsize=8)
    return figure


def coarse(fraction: NDArray[np.float64], most: int) -> NDArray[np.float64]:
    """(K, K) -> at most (most, most): blocks of cells, each with its maximum, so none is lost.

    Averages would hide a single confusion among a thousand classes.
    """
    block = -(-len(fraction) // most)
    if block == 1:
        return fraction
    edges = np.arange(0, len(fraction), block)
    return np.maximum.reduceat(np.maximum.reduceat(fraction, edges, axis=0), edges, axis=1)


def reliability(counts: NDArray[np.int64], accuracy: NDArray[np.float64], title: str) -> Figure:
    """Plot accuracy by predicted probability in equal bins, and the predictions per bin."""
    figure = Drawing(figsize=(5, 5.6))
    figure.subplots_adjust(left=0.13, right=0.97, bottom=0.09, top=0.93, hspace=0.08)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    figure.suptitle(title, fontsize=10)
    M = len(counts)
    middles = (np.arange(M) + 0.5) / M
    upper.bar(middles, np.nan_to_num(accuracy), width=0.9 / M, color=TRAIN, label="accuracy")
    upper.plot([0, 1], [0, 1], color="black", linewidth=1, linestyle="--", label="calibrated")
    upper.set_ylabel("accuracy")
    upper.set_ylim(0, 1)
    upper.legend(loc="upper left")
    lower.bar(middles, counts, width=0.9 / M, color="gray")
    lower.set_ylabel("images")
    lower.set_yscale("symlog", linthresh=1)
    lower.set_xlabel("predicted probability (of the predicted class)")
    lower.set_xlim(0, 1)
    for axes in (upper, lower):
        axes.grid(alpha=0.3)
    return figure


def gallery(images: NDArray[np.uint8], captions: list[str], title: str) -> Figure:
    """Plot small images in a grid, uint8 (N, C, H, W) with C 1 or 3, with captions.

    All are pasted into one picture: matplotlib takes 10 to 30 ms for each separate one.
    """
    N, _, H, W = images.shape
    columns, rows = 8, max(1, -(-N // 8))
    cell_height, cell_width = H + 0.4 * H, W + 0.1 * W  # with space for the caption above
    sheet = np.full((round(rows * cell_height), round(columns * cell_width), 3), 255, np.uint8)
    height = rows * 1.4 * cell_height / cell_width + 0.35  # inches, the last ones for the title
    figure = Drawing(figsize=(1.4 * columns, height))
    axes = figure.add_axes((0.01, 0.0, 0.98, 1 - 0.35 / height))
    axes.set_axis_off()
    figure.suptitle(title, fontsize=11, y=1 - 0.1 / height, va="top")
    for index in range(N):
        row, column = divmod(index, columns)
        top, left = round(row * cell_height + 0.4 * H), round(column * cell_width)
        sheet[top : top + H, left : left + W] = images[index].transpose(1, 2, 0)
        caption = "\n".join(fitted(line, CAPTION) for line in captions[index].splitlines()[:2])
        axes.text(left, top - 0.06 * H, caption, fontsize=8, va="bottom", parse_math=False)
    axes.imshow(sheet, interpolation="nearest", aspect="auto")
    return figure


def render(figure: Figure) -> NDArray[np.uint8]:
    """Render the figure as uint8 (H, W, 3)."""
    canvas = FigureCanvasAgg(figure)
    with warnings.catch_warnings():
        # A file or class name may use a script that the font lacks; boxes are shown for it.
        warnings.filterwarnings("ignore", r"Glyph \d+")
        canvas.draw()  # type: ignore[no-untyped-call]
    pixels_HW4 = np.asarray(canvas.buffer_rgba(), np.uint8)  # type: ignore[no-untyped-call]
    return pixels_HW4[..., :3].copy()


def to_png(pixels_HWC: NDArray[np.uint8]) -> bytes:
    """Encode rendered pixels as PNG."""
    buffer = io.BytesIO()
    imsave(buffer, pixels_HWC, format="png")
    return buffer.getvalue()
