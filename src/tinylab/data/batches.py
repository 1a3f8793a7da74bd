"""Batches on the device: the whole dataset is there as uint8, and batches are indexed.

Images that do not fit on the device stay in main memory and are streamed (``stream.py``), in
bit-identical batches.
"""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tinylab.config.base_records import UNIT
from tinylab.data.arrays import Dataset
from tinylab.data.split import Indices
from tinylab.data.stream import stream
from tinylab.errors import UserError
from tinylab.system.runtime import send

Statistics = tuple[tuple[float, ...], tuple[float, ...]]  # per-channel mean and std of pixels / 255
IMAGENET: Statistics = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@dataclass(frozen=True)
class Normalization:
    """Per-channel ``pixels * scale + offset``; float32 (1, C, 1, 1) each, on the device.

    With three channels, one-channel images become equal red, green and blue.
    """

    scale: Tensor
    offset: Tensor

    def __call__(self, images_NCHW: Tensor) -> Tensor:
        """uint8 or float pixels 0..255 -> float32 of the same shape and memory format."""
        # A network pretrained on colors sees a gray image exactly as its color copy. One channel
        # with summed kernels would not be exact: each channel has an offset of its own, and the
        # zeros of the padding have none.
        return torch.addcmul(self.offset, images_NCHW.float(), self.scale)

    @property
    def channels(self) -> int:
        """The number of output channels."""
        return self.scale.shape[1]

    def as_dict(self) -> dict[str, list[float]]:
        """Return the values per channel for ``result.json``, exactly."""
        return {"scale": self.scale.flatten().tolist(), "offset": self.offset.flatten().tolist()}


def restore_normalization(stored: dict[str, list[float]], device: torch.device) -> Normalization:
    """Restore from ``Normalization.as_dict``."""
    scale, offset = (
        torch.tensor(stored[key], dtype=torch.float32, device=device).view(1, -1, 1, 1)
        for key in ("scale", "offset")
    )
    return Normalization(scale, offset)


def fit_normalization(
    train: "Batches", kind: str | None, statistics: Statistics = IMAGENET
) -> Normalization:
    """``unit``: to [0, 1]. ``standard``: to mean 0, std 1 per channel of the training images.

    Only of the training images: nothing of the test set may leak in. ``imagenet``: by the
    ``statistics`` that pretrained weights expect. None: ``unit``. Raises UserError if there are no
    such statistics for this number of channels.
    """
    C, device = train.images.shape[1], train.labels.device
    if kind == "imagenet":
        mean, deviation = (torch.tensor(each, dtype=torch.float64) for each in statistics)
        if C not in (1, len(mean)):
            raise UserError(
                f"dataset.normalize=imagenet: expected gray or color images, but these have {C} "
                "channels\n  use dataset.normalize=standard"
            )
        scale, offset = 1 / (255 * deviation), -mean / deviation
    elif kind in (None, UNIT):
        scale, offset = torch.full((C,), 1 / 255), torch.zeros(C)
    else:
        # Sums of integers are exact in any order, so all machines get the same numbers.
        levels = torch.arange(256, dtype=torch.float64)
        counts = _count_levels(train).double()
        total = counts.sum(1)
        mean = (counts * levels).sum(1) / total
        variance = (counts * levels.square()).sum(1) / total - mean.square()
        # A constant channel is only centered.
        deviation = torch.where(variance > 1e-6, variance, 1.0).sqrt()
        scale, offset = 1 / deviation, -mean / deviation
    shape = (1, -1, 1, 1)
    return Normalization(
        scale.to(device, torch.float32).view(shape), offset.to(device, torch.float32).view(shape)
    )


def _count_levels(train: "Batches") -> Tensor:
    """Count how often each channel has each of the 256 levels: int64 (C, 256), on the CPU."""
    counts = torch.zeros(train.images.shape[1], 256, dtype=torch.int64)
    for images_NCHW, _ in train.in_order(4096):
        for count, channel in zip(counts, images_NCHW.unbind(1), strict=True):
            count += torch.bincount(channel.flatten().cpu(), minlength=256)
    return counts


def fit_class_weights(labels: Tensor, num_classes: int, kind: str) -> Tensor | None:
    """``none``, or ``balanced``: N / (num_classes * images of the class).

    labels: int64 (N,), of the training images only, including every class. float32 (num_classes,),
    on the device of the labels, with mean 1 over the images. As scikit-learn's
    ``compute_class_weight`` (King and Zeng, 2001).
    """
    if kind == "none":
        return None
    counts = torch.bincount(labels.cpu(), minlength=num_classes).double()
    return (len(labels) / (num_classes * counts)).to(labels.device, torch.float32)


@dataclass(frozen=True)
class Batches:
    """One part of a dataset, in batches on the device.

    images: uint8 (M, C, H, W), of all parts, which share them: there is no copy for each. On the
    device; in main memory if they are ``streamed``. rows: int64 (N,), on the CPU, which of the
    images are this part's; None: all. labels: int64 (N,), the part's, on the device. sources:
    uint8 (M, C, S, S), the images at a larger size, from which training images are made.
    """

    images: Tensor
    labels: Tensor
    rows: Tensor | None = None
    streamed: bool = False
    sources: Tensor | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def part(self, indices: Indices) -> "Batches":
        """Return some of the images by index."""
        rows = torch.from_numpy(indices)
        labels = self.labels[rows.to(self.labels.device)]
        return replace(self, labels=labels, rows=rows)

    def for_training(self) -> "Batches":
        """The same part with the images that training starts from: the sources, if any."""
        return self if self.sources is None else replace(self, images=self.sources)

    @property
    def shrink(self) -> int:
        """How many times higher and wider the images for training are."""
        return self.for_training().images.shape[-1] // self.images.shape[-1]

    def take(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Return images and labels at ``indices``, int64 on the CPU, in the same memory format."""
        return next(self.in_turn(indices, [(0, len(indices))]))

    def in_turn(
        self, order: Tensor, bounds: list[tuple[int, int]]
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the batches ``order[start:end]`` for each of the consecutive ``bounds``.

        order: int64, on the CPU. A batch is valid until the next is requested.
        """
        device = self.labels.device
        rows = order if self.rows is None else self.rows[order]
        labels = self.labels[send(order, device)]
        is_nhwc = not self.images.is_contiguous()
        stored = self.images.permute(0, 2, 3, 1) if is_nhwc else self.images
        if self.streamed:
            batches = stream(stored, rows, bounds, device)
        else:
            # Indexing by [] copies byte by byte: 13 instead of 3 us for 32 MNIST images, 127
            # instead of 8 for 512, on two cores.
            batches = (stored.index_select(0, part) for part in _cut(send(rows, device), bounds))
        for images, part in zip(batches, _cut(labels, bounds), strict=True):
            yield images.permute(0, 3, 1, 2) if is_nhwc else images, part

    def in_order(self, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield every image once, in order, including the last short batch."""
        if self.rows is None and not self.streamed:  # as views
            parts = [torch.split(whole, batch_size) for whole in (self.images, self.labels)]
            return zip(*parts, strict=True)
        starts = range(0, len(self), batch_size)
        bounds = [(start, min(start + batch_size, len(self))) for start in starts]
        return self.in_turn(torch.arange(len(self)), bounds)


def to_device(
    data: Dataset, device: torch.device, channels_last: bool, streamed: bool = False
) -> Batches:
    """Return all images, in the network's memory format; on the device, or to be streamed."""

    def placed(array: NDArray[np.uint8]) -> Tensor:
        images = _as_tensor(array) if streamed else _as_tensor(array).to(device)
        # One channel has the same memory in both formats, and is left as it is.
        return images.contiguous(memory_format=torch.channels_last) if channels_last else images

    labels = _as_tensor(data.labels).to(device)
    sources = None if data.sources is None else placed(data.sources)
    return Batches(placed(data.pixels), labels, streamed=streamed, sources=sources)


def _cut(whole: Tensor, bounds: list[tuple[int, int]]) -> Iterator[Tensor]:
    return (whole[start:end] for start, end in bounds)


def _as_tensor(array: NDArray[Any]) -> Tensor:
    """Share the memory, which is only read: arrays from the cache are not writable."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        return torch.from_numpy(array)


def batch_bounds(num_images: int, batch_size: int) -> list[tuple[int, int]]:
    """Where each batch of an epoch begins and ends; the last may be short.

    A last batch of a single image joins the batch before it: batch normalization has no variance
    of one value.
    """
    starts = list(range(0, num_images, batch_size))
    if batch_size > 1 and len(starts) > 1 and num_images - starts[-1] == 1:
        starts.pop()
    return list(zip(starts, [*starts[1:], num_images], strict=True))
