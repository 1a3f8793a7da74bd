"""The exported network, with normalization and test-time augmentation, and its metadata."""

import copy
import dataclasses
from typing import Any

import torch
from torch import Tensor, nn

from tinylab import __version__
from tinylab.data import augment
from tinylab.data.batches import Normalization
from tinylab.inference import Trained, reading


class Deployed(nn.Module):
    """Images uint8 (N, C, H, W), 0 to 255 -> logits float32 (N, num_classes), for any N."""

    scale: Tensor
    offset: Tensor

    def __init__(self, model: nn.Module, normalization: Normalization, tta: str) -> None:
        super().__init__()
        self.model = model
        self.tta = tta
        self.register_buffer("scale", normalization.scale.cpu())
        self.register_buffer("offset", normalization.offset.cpu())

    def forward(self, images: Tensor) -> Tensor:
        normalization = Normalization(self.scale, self.offset)
        views = [self.model(normalization(view)) for view in augment.views(images, self.tta)]
        return torch.stack(views).mean(0)


def deployed(trained: Trained) -> Deployed:
    """Copy a run's network to the CPU, in float32, in the default memory format."""
    model = copy.deepcopy(trained.model).cpu().to(memory_format=torch.contiguous_format)
    return Deployed(model, trained.recipe.normalization, trained.config.train.tta).eval()


def metadata(trained: Trained) -> dict[str, Any]:
    """Return what users of the file need to know, as plain values."""
    test = trained.result.test
    return {
        "run_id": trained.name,
        "classes": list(trained.classes),
        "input": "images, uint8 (batch, channels, height, width), 0 to 255, channels RGB or gray",
        "output": "logits, float32 (batch, classes)",
        "image_shape": list(trained.image_shape),
        "reading": reading(trained.config),
        "test_accuracy": test.accuracy,
        "test_accuracy_ci95": list(test.accuracy_ci95),
        "test_num": test.num,
        "model": dataclasses.asdict(trained.config.model),
        "normalization": trained.recipe.normalization.as_dict(),
        "tta": trained.config.train.tta,
        "tinylab": __version__,
        "torch": str(torch.__version__),
    }
