"""Models: the table of builders, and building by config.

A new model is one module here, one row in BUILDERS, one dataclass in ``config.py``, one YAML in
``conf/model/`` and one test. The class count and the image shape come from the data.
"""

from collections.abc import Callable
from typing import Any

from torch import nn

from tinylab.config.schema import ModelConfig
from tinylab.models import baseline, mlp, resnet, torchvision

# Each builder takes its own record of config.py, the image shape (C, H, W) and the class count.
BUILDERS: dict[str, Callable[[Any, tuple[int, int, int], int], nn.Module]] = {
    "baseline": baseline.Baseline,
    "mlp": mlp.build,
    "resnet": resnet.Resnet,
    "torchvision": torchvision.build,
}


def build(config: ModelConfig, image_shape: tuple[int, int, int], num_classes: int) -> nn.Module:
    """A network on the CPU, from float32 (N, C, H, W) to logits (N, num_classes).

    Its initial weights come from torch's global stream. Raises UserError where the network
    does not fit the images.
    """
    return BUILDERS[config.name](config, image_shape, num_classes)


def count_parameters(model: nn.Module) -> int:
    """Number of trained values."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
