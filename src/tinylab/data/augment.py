"""Random augmentation of a batch of training images, independent for each image.

The random parameters of a whole epoch are drawn at once from a separate generator, before its first
step: ``draw`` is a pure function of seed and epoch, so a resumed epoch sees the same images.
Shapes: N images, C channels, height H, width W.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tinylab.config.base_records import AugmentConfig
from tinylab.system.runtime import send

# Upper left corners of the views in images that are padded by a pixel.
STRAIGHT = ((0, 1), (2, 1), (1, 0), (1, 2))
DIAGONAL = ((0, 0), (0, 2), (2, 0), (2, 2))
ROTATED = 10.0  # degrees


class Draws(NamedTuple):
    """The augmentation of each image of an epoch, in the order of the images.

    matrix: float32 (N, 2, 3), from output to input coordinates, in half sides from the center.
    bend: float32 (N, 2, 4, 4), added to the input coordinates (x, y) at 4x4 points of the output.
    mirror: bool (N, 1, 1, 1), whether to flip horizontally, after ``matrix``.
    gain, shift: float32 (N, 1, 1, 1): pixels become gain * (pixels - mean) + mean + shift.
    hole: float32 (N, 2), center (x, y) of the blanked square in [-1, 1].
    keep: float32 (N, 1), the mixup coefficient lam of the image itself, 0.5 to 1.
    patch: float32 (N, 3), center (x, y) in [-1, 1] and half the side of CutMix's square.
    Disabled augmentations are None.
    """

    matrix: Tensor | None
    bend: Tensor | None
    mirror: Tensor | None
    gain: Tensor | None
    shift: Tensor | None
    hole: Tensor | None
    keep: Tensor | None
    patch: Tensor | None

    def rows(self, start: int, end: int) -> "Draws":
        """Return the parameters of consecutive images."""
        return Draws(*[None if draws is None else draws[start:end] for draws in self])


def draw(config: AugmentConfig, count: int, seed: int, device: torch.device) -> Draws:
    """Draw parameters for ``count`` images, on the CPU, so that all devices agree."""
    if config == AugmentConfig(fill=config.fill, no_aug_epochs=config.no_aug_epochs):
        return Draws(*[None] * 8)
    generator = torch.Generator().manual_seed(seed)

    def uniform(bound: float, *shape: int) -> Tensor:
        return (torch.rand(count, *shape, generator=generator) * 2 - 1) * bound

    # Each kind is always drawn, so that enabling one does not change the others.
    matrix = _matrices(config, uniform)
    mirror = uniform(1.0, 1, 1, 1) < 0
    gain, shift = 1 + uniform(config.contrast, 1, 1, 1), uniform(config.brightness * 255, 1, 1, 1)
    hole = uniform(1.0, 2)
    keep = _mixup_lam(config.mixup, count, seed)
    bend = uniform(2 * config.elastic, 2, 4, 4)  # a side is two half sides
    patch = torch.cat([uniform(1.0, 2), _patch_sides(config.cutmix, count, seed)], dim=1)
    if config.mixup and config.cutmix:
        pasted = uniform(1.0, 1) < 0
        keep = torch.where(pasted, 1.0, keep)
        patch[:, 2:] = torch.where(pasted, patch[:, 2:], 0.0)
    geometric = any((config.shift, config.rotate, config.scale, config.shear, config.elastic))
    photometric = bool(config.contrast or config.brightness)
    return Draws(
        matrix=send(matrix, device) if geometric else None,
        bend=send(bend, device) if config.elastic else None,
        mirror=send(mirror, device) if config.flip else None,
        gain=send(gain, device) if photometric else None,
        shift=send(shift, device) if photometric else None,
        hole=send(hole, device) if config.cutout else None,
        keep=send(keep, device) if config.mixup else None,
        patch=send(patch, device) if config.cutmix else None,
    )


def _matrices(config: AugmentConfig, uniform: Callable[..., Tensor]) -> Tensor:
    """Return output-to-input affine maps, float32 (N, 2, 3): rotation, shear, zoom, shift."""
    angle, shear = uniform(math.radians(config.rotate)), uniform(math.radians(config.shear))
    zoom = 1 / (1 + uniform(config.scale))
    shift_N2 = uniform(2 * config.shift, 2)  # a side is two half sides
    cos, sin, slant = torch.cos(angle) * zoom, torch.sin(angle) * zoom, torch.tan(shear)
    # rotation(angle) @ [[1, slant], [0, 1]], all times zoom
    row_x = torch.stack([cos, cos * slant - sin, shift_N2[:, 0]], dim=1)
    row_y = torch.stack([sin, sin * slant + cos, shift_N2[:, 1]], dim=1)
    return torch.stack([row_x, row_y], dim=1)


def _mixup_lam(alpha: float, count: int, seed: int) -> Tensor:
    """Draw max(lam, 1 - lam) for lam from Beta(alpha, alpha). float32 (count, 1)."""
    beta = np.random.Generator(np.random.PCG64(seed)).beta(alpha, alpha, count) if alpha else None
    lam = torch.ones(count) if beta is None else torch.from_numpy(beta).float()
    return torch.maximum(lam, 1 - lam).unsqueeze(1)


def _patch_sides(alpha: float, count: int, seed: int) -> Tensor:
    """Draw sides of squares with areas Beta(alpha, alpha) of the image's. float32 (count, 1)."""
    stream = np.random.Generator(np.random.PCG64(seed).jumped())  # mixup applies to the others
    areas = stream.beta(alpha, alpha, count) if alpha else np.zeros(count)
    return torch.from_numpy(areas).sqrt().float().unsqueeze(1)


def apply(images: Tensor, draws: Draws, config: AugmentConfig, shrink: int = 1) -> Tensor:
    """Augment N images by N parameters: pixels 0..255, uint8 or float (N, C, H, W) -> float32.

    The result is ``shrink`` times smaller in each dimension: pixels are averaged after the warp,
    which blurs less than a warp at the smaller size, and shows new detail when zooming in.
    """
    pixels = images.float()
    if draws.matrix is not None:
        pixels = _warp(pixels, draws.matrix, draws.bend, config.fill)
    if shrink > 1:
        pixels = F.avg_pool2d(pixels, shrink)
    if draws.mirror is not None:
        pixels = torch.where(draws.mirror, pixels.flip(3), pixels)
    if draws.gain is not None and draws.shift is not None:
        mean = pixels.mean(dim=(1, 2, 3), keepdim=True)
        pixels = (pixels - mean) * draws.gain + (mean + draws.shift)
        pixels = pixels.clamp_(0, 255)
    if draws.hole is not None:
        pixels = _cut_out(pixels, draws.hole, config.cutout)
    return pixels


def _warp(pixels: Tensor, matrix: Tensor, bend: Tensor | None, fill: str) -> Tensor:
    """Bilinear sampling at the mapped positions; keeps the memory format.

    Elastic displacements are interpolated bicubically (Ronneberger et al., 2015, section 3.1).
    """
    H, W = pixels.shape[-2:]
    if H != W:  # in half sides, a rotation in pixels would not be one
        matrix = matrix.clone()
        matrix[:, 0, 1] *= H / W
        matrix[:, 1, 0] *= W / H
    grid_NHW2 = F.affine_grid(matrix, list(pixels.shape), align_corners=False)
    if bend is not None:
        field_N2HW = F.interpolate(bend, (H, W), mode="bicubic", align_corners=True)
        grid_NHW2 = grid_NHW2 + field_N2HW.permute(0, 2, 3, 1)
    warped = F.grid_sample(
        pixels, grid_NHW2, mode="bilinear", padding_mode=fill, align_corners=False
    )
    is_nchw = pixels.is_contiguous()
    return warped.contiguous(
        memory_format=torch.contiguous_format if is_nchw else torch.channels_last
    )


def _cut_out(pixels: Tensor, hole: Tensor, side: float) -> Tensor:
    """Set a square to the image's mean (DeVries and Taylor, 2017); it may exceed the image."""
    mean = pixels.mean(dim=(2, 3), keepdim=True)
    return torch.where(_square(pixels, hole, side), mean, pixels)


def _square(pixels: Tensor, center: Tensor, half_side: Tensor | float) -> Tensor:
    """Return which pixel centers are in the square: bool (N, 1, H, W).

    center: float32 (N, 2), x and y. half_side: one, or (N, 1). All in half sides of the image.
    """
    H, W = pixels.shape[-2:]
    y = (torch.arange(H, device=pixels.device) + 0.5) * (2 / H) - 1
    x = (torch.arange(W, device=pixels.device) + 0.5) * (2 / W) - 1
    inside_x = (x[None] - center[:, :1]).abs() < half_side  # (N, W)
    inside_y = (y[None] - center[:, 1:]).abs() < half_side  # (N, H)
    return inside_y[:, None, :, None] & inside_x[:, None, None, :]


def mix(inputs: Tensor, labels: Tensor, num_classes: int, draws: Draws) -> tuple[Tensor, Tensor]:
    """Mixup and CutMix of each image with its mirror position in the batch, whose order is random.

    inputs: float32 (N, C, H, W). labels: int64 (N,). Returns the mixed inputs and class
    probabilities, float32 (N, num_classes); a patch counts by its pixels inside the image.
    """
    partner = inputs.flip(0)
    lam_N1 = inputs.new_ones(len(inputs), 1)
    if draws.keep is not None:
        lam_N1 = draws.keep
        inputs = torch.lerp(partner, inputs, lam_N1[:, :, None, None])
    if draws.patch is not None:
        inside = _square(inputs, draws.patch[:, :2], draws.patch[:, 2:])
        inputs = torch.where(inside, partner, inputs)
        lam_N1 = lam_N1 * (1 - inside.to(inputs.dtype).mean(dim=(2, 3)))
    one_hot = F.one_hot(labels, num_classes).to(inputs.dtype)
    return inputs, torch.lerp(one_hot.flip(0), one_hot, lam_N1)


def views(images: Tensor, kind: str) -> list[Tensor]:
    """Return the views for test-time augmentation, starting with the images themselves.

    none: only the images. Otherwise one or more of these, joined by ``_``. shift: also shifted by
    one pixel in each direction, repeating the border. grid: also diagonally. rotate: also rotated
    by ``ROTATED`` degrees to either side. flip: each of these also flipped. Shapes and dtype are
    unchanged.
    """
    made, parts = [images], kind.split("_")
    if "shift" in parts:
        made += _shifted(images, STRAIGHT)
    if "grid" in parts:
        made += _shifted(images, STRAIGHT + DIAGONAL)
    if "rotate" in parts:
        made += [_rotated(images, -ROTATED), _rotated(images, ROTATED)]
    if "flip" in parts:
        made += [view.flip(3) for view in made]
    return made


def _shifted(images: Tensor, corners: tuple[tuple[int, int], ...]) -> list[Tensor]:
    H, W = images.shape[-2:]
    padded = torch.cat([images[:, :, :1], images, images[:, :, -1:]], dim=2)
    padded = torch.cat([padded[..., :1], padded, padded[..., -1:]], dim=3)
    return [padded[:, :, top : top + H, left : left + W] for top, left in corners]


def _rotated(images: Tensor, degrees: float) -> Tensor:
    angle = math.radians(degrees)
    row_x, row_y = (math.cos(angle), -math.sin(angle), 0.0), (math.sin(angle), math.cos(angle), 0.0)
    matrix = torch.tensor([row_x, row_y], device=images.device).expand(images.shape[0], 2, 3)
    return _warp(images.float(), matrix, None, "border").round().to(images.dtype)
