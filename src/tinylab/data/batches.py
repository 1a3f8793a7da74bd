"""Batches on the device: the whole dataset lives there as uint8, a batch is an index away."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from tinylab.data.arrays import Images
from tinylab.data.split import Indices


@dataclass(frozen=True)
class Normalization:
    """Per-channel ``pixels * scale + offset``; float32 (1, C, 1, 1) each, on the device."""

    scale: Tensor
    offset: Tensor

    def __call__(self, images_NCHW: Tensor) -> Tensor:
        """uint8 or float pixels 0..255 -> float32 of the same shape and memory format."""
        return torch.addcmul(self.offset, images_NCHW.float(), self.scale)

    def as_dict(self) -> dict[str, list[float]]:
        """For ``result.json``: one number a channel, to the last bit."""
        return {"scale": self.scale.flatten().tolist(), "offset": self.offset.flatten().tolist()}


def fit_normalization(images_NCHW: Tensor, kind: str) -> Normalization:
    """``unit``: to [0, 1]. ``standard``: to mean 0, deviation 1 of the given images a channel.

    images_NCHW: uint8, the training images only: nothing of the test set may leak in.
    """
    C = images_NCHW.shape[1]
    device = images_NCHW.device
    if kind == "unit":
        scale, offset = torch.full((C,), 1 / 255), torch.zeros(C)
    else:
        # Sums of integers are exact in any order, so every machine gets the same numbers.
        levels = torch.arange(256, dtype=torch.float64)
        counts = torch.stack(
            [torch.bincount(images_NCHW[:, c].flatten().cpu(), minlength=256) for c in range(C)]
        ).double()
        total = counts.sum(1)
        mean = (counts * levels).sum(1) / total
        variance = (counts * levels.square()).sum(1) / total - mean.square()
        # A channel that never changes is only centred.
        deviation = torch.where(variance > 1e-6, variance, 1.0).sqrt()
        scale, offset = 1 / deviation, -mean / deviation
    shape = (1, C, 1, 1)
    return Normalization(
        scale.to(device, torch.float32).view(shape), offset.to(device, torch.float32).view(shape)
    )


def fit_class_weights(labels: Tensor, num_classes: int, kind: str) -> Tensor | None:
    """``none``, or ``balanced``: N / (num_classes * images of the class), so all count the same.

    labels: int64 (N,), of the training images only, with every class among them. float32
    (num_classes,), on the device of the labels, with mean 1 over the images. As scikit-learn's
    ``compute_class_weight`` (King and Zeng, 2001).
    """
    if kind == "none":
        return None
    counts = torch.bincount(labels.cpu(), minlength=num_classes).double()
    return (len(labels) / (num_classes * counts)).to(labels.device, torch.float32)


@dataclass(frozen=True)
class Batches:
    """One part of a dataset on the device.

    images: uint8 (N, C, H, W). labels: int64 (N,).
    """

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """The images and labels at ``indices``, in the same memory format."""
        if self.images.is_contiguous():
            return self.images[indices], self.labels[indices]
        images_NHWC = self.images.permute(0, 2, 3, 1)
        return images_NHWC[indices].permute(0, 3, 1, 2), self.labels[indices]

    def in_order(self, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Every image once, in order, the last short batch included."""
        images, labels = torch.split(self.images, batch_size), torch.split(self.labels, batch_size)
        yield from zip(images, labels, strict=True)


def to_device(data: Images, indices: Indices, device: torch.device, channels_last: bool) -> Batches:
    """Copy the chosen images onto the device, in the memory format the network wants."""
    images = torch.from_numpy(data.images[indices]).to(device)
    if channels_last:
        # One channel is the same memory in both formats, and is left as it is.
        images = images.contiguous(memory_format=torch.channels_last)
    labels = torch.from_numpy(data.labels[indices]).to(device)
    return Batches(images, labels)


def batch_bounds(num_images: int, batch_size: int) -> list[tuple[int, int]]:
    """Where each batch of an epoch begins and ends; the last may be short.

    A last batch of a single image joins the batch before it: batch normalisation has no variance
    of one value.
    """
    starts = list(range(0, num_images, batch_size))
    if batch_size > 1 and len(starts) > 1 and num_images - starts[-1] == 1:
        starts.pop()
    return list(zip(starts, [*starts[1:], num_images], strict=True))
