"""Explain predictions: Grad-CAM, and the most similar training images.

Grad-CAM: Selvaraju et al.: Grad-CAM: Visual Explanations from Deep Networks via Gradient-based
Localization (ICCV 2017).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from tinylab import data
from tinylab.data.cache import Decoded
from tinylab.inference import Trained, evenly, in_batches, own_data

NEIGHBORS = 6  # nearest training images to show


def grad_cam(
    trained: Trained, images: NDArray[np.uint8], labels: NDArray[np.int64]
) -> NDArray[np.float32] | None:
    """Grad-CAM of the last convolution for the classes ``labels``, (N,): float32 (N, H, W).

    images: uint8 (N, C, H, W). The values are 0 to 1, with maximum 1 in each image (or 0, if there
    is no evidence for its class). None if the network has no convolution.
    """
    maps: list[Tensor] = []

    def keep(layer: nn.Module, given: Any, output: Tensor) -> Tensor:
        output.retain_grad()
        maps.append(output)
        return output.clone()  # which the next layer may modify in place

    layers = [each for each in trained.model.modules() if isinstance(each, nn.Conv2d)]
    hooks = [layer.register_forward_hook(keep) for layer in layers]
    recipe = trained.recipe
    try:
        with torch.enable_grad():
            pixels = torch.from_numpy(images).to(recipe.device).float().requires_grad_()
            logits = trained.model(recipe.normalization(pixels)).float()
            logits[torch.arange(len(images)), torch.from_numpy(labels).to(recipe.device)].sum(
            ).backward()  # fmt: skip
    finally:
        for hook in hooks:
            hook.remove()
        trained.model.zero_grad(set_to_none=True)
    if not maps:
        return None
    last = maps[-1]
    assert last.grad is not None
    weights = last.grad.mean((2, 3), keepdim=True)  # equation 1
    heat = F.relu((weights * last).sum(1, keepdim=True)).detach()  # equation 2
    heat = F.interpolate(heat, images.shape[2:], mode="bilinear", align_corners=False)[:, 0]
    largest = heat.amax((1, 2), keepdim=True)
    return (heat / torch.where(largest > 0, largest, 1)).cpu().numpy()


def first_filters(trained: Trained) -> NDArray[np.uint8] | None:
    """Return the kernels of the first convolution as images, uint8 (filters, C, k, k).

    Black is the lowest weight of all, white the highest. None if the first layer is not a
    convolution, or takes other than 1 or 3 channels.
    """
    weight = next((each for each in trained.model.parameters() if each.dim() > 1), None)
    if weight is None or weight.dim() != 4 or weight.shape[1] not in (1, 3):
        return None
    kernels = weight.detach().float().cpu()
    low, high = kernels.min(), kernels.max()
    shown = (kernels - low) / (high - low).clamp_min(1e-12)
    return (shown * 255).round().to(torch.uint8).contiguous().numpy()


@dataclass(frozen=True)
class Learnt:
    """A network's training images. index: int64 (M,), in the data. features: float32 (M, D).

    total: the number of all training images, of which these M are some or all.
    """

    decoded: Decoded
    index: NDArray[np.int64]
    features: NDArray[np.float32]
    total: int

    def nearest(
        self, features: NDArray[np.float32]
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Features (N, D) -> the nearest training images, their indices and distances, (N, k)."""
        near = features.astype(np.float64) @ self.features.T.astype(np.float64)
        order = np.argsort(-near, axis=1, kind="stable")[:, :NEIGHBORS]
        cosine = np.take_along_axis(near, order, axis=1)
        return self.index[order], np.sqrt(np.maximum(2 - 2 * cosine, 0))


def present(trained: Trained) -> Decoded:
    """A run's own data. Raises UserError where it is not here as it was."""
    return own_data(trained.name, trained.result, trained.config.dataset)


def learnt(trained: Trained, decoded: Decoded, most: int | None = None) -> Learnt:
    """The training images and their features; of more than ``most`` so many, evenly over all."""
    train = data.divide(decoded, trained.config.split, trained.config.dataset).train
    index = train if most is None else evenly(train, most)
    features = in_batches(trained, trained.features, decoded.dataset.pixels[index])
    return Learnt(decoded, index, features, len(train))


def overlaid(image: NDArray[np.uint8], heat: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Overlay an image, uint8 (C, H, W), in gray, with red by the heat map, (H, W): (3, H, W)."""
    gray = image.mean(axis=0)
    red = np.array([255.0, 60.0, 0.0])[:, None, None]
    mixed = gray * (1 - 0.6 * heat) + red * 0.6 * heat
    colored: NDArray[np.uint8] = np.rint(mixed).astype(np.uint8)
    return colored
