"""Models: building a network by its config.

A new model is one module here and one test: a class or function under ``@model``, whose parameters
with defaults are its config keys. The class count and the image shape come from the data.
"""

from torch import nn

from tinylab.config import options
from tinylab.config.schema import ModelConfig


def build(config: ModelConfig, image_shape: tuple[int, int, int], num_classes: int) -> nn.Module:
    """A network on the CPU, from float32 (N, C, H, W) to logits (N, num_classes).

    Its initial weights come from torch's global stream. Raises UserError where the network
    does not fit the images.
    """
    network: nn.Module = options.of(config).make(config, image_shape, num_classes)
    return network


def count_parameters(model: nn.Module) -> int:
    """Number of trained values."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
