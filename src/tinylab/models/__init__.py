"""Models: building a network from its config.

A new model is one module here and one test: a class or function decorated by ``@model``, whose
parameters with defaults are its config keys. The number of classes and the image shape come from
the data.
"""

import importlib.metadata
import importlib.util
from typing import Any

import torch
from torch import nn

from tinylab.config import options
from tinylab.config.base_records import ModelConfig
from tinylab.data.batches import IMAGENET, Statistics
from tinylab.models import own, pretrained
from tinylab.models.conv_pool import PooledConv2d


def build(config: ModelConfig, image_shape: tuple[int, int, int], num_classes: int) -> nn.Module:
    """Build a network on the CPU, from float32 (N, C, H, W) to logits (N, num_classes).

    Its initial weights come from torch's global generator, or from the file in ``weights``; what
    ``freeze`` names is not trained. Raises UserError if the network does not fit the images, or the
    weights the network.
    """
    option = options.of(config)
    if option.is_builtin:
        network: nn.Module = option.make(config, image_shape, num_classes)
    else:
        network = own.build(config, image_shape, num_classes)
    weights = weights_of(config)
    if weights is not None and "weights" not in option.declaration.takes:
        pretrained.load(network, pretrained.read(weights), weights)
    if is_frozen(config):
        pretrained.freeze(network, option.shared(config, "freeze"))
    return network


def weights_of(config: ModelConfig) -> str | None:
    """Return ``model.weights``, if that is the common key of all models."""
    weights: str | None = options.of(config).shared(config, "weights")
    return weights


def is_frozen(config: ModelConfig) -> bool:
    """Return whether a part of the network is frozen."""
    return bool(options.of(config).shared(config, "freeze") != "none")


def statistics(config: ModelConfig) -> Statistics:
    """Return the statistics of ``dataset.normalize=imagenet``, as pretrained weights expect."""
    of_model = options.of(config).companion("statistics")
    values: Statistics = IMAGENET if of_model is None else of_model(config)
    return values


@torch.inference_mode()
def multiply_adds(model: nn.Module, image_shape: tuple[int, int, int]) -> int:
    """Count the multiplications of weights by inputs for one image, over all layers.

    ``model`` is on the CPU; its state and torch's generator are restored.
    """
    counts: list[int] = []

    def count(layer: nn.Module, inputs: Any, output: Any) -> None:
        weight = getattr(layer, "weight", None)
        if isinstance(weight, torch.Tensor) and weight.dim() > 1 and hasattr(output, "numel"):
            counts.append(output.numel() // weight.shape[0] * weight.numel())

    hooks = [layer.register_forward_hook(count) for layer in model.modules()]
    was_training = model.training
    try:
        with torch.random.fork_rng(devices=[]):
            model.eval()(torch.zeros(1, *image_shape))
    finally:
        model.train(was_training)
        for hook in hooks:
            hook.remove()
    return sum(counts)


# Multiply-adds of convolutions in a whole training, forward, that justify compiling: one core saves
# 0.2 ns on each, 5 s here, and loses 1.4 s at the start and once some seconds.
WORTH_COMPILING = 25_000_000_000


def choose_kernels(
    model: nn.Module, image_shape: tuple[int, int, int], num_images: int
) -> dict[str, str]:
    """Fuse convolution and pooling in layers if ``num_images`` in training justify compiling.

    Returns what else affects the bits, for the record: Numba's version, or nothing.
    """
    layers = [layer for layer in model.modules() if isinstance(layer, PooledConv2d)]
    chosen = [each for each in layers if each.fused_work(image_shape) * num_images
              >= WORTH_COMPILING]  # fmt: skip
    if not chosen or importlib.util.find_spec("numba") is None:
        return {}
    for layer in chosen:
        layer.in_one_pass, layer.parts = True, torch.get_num_threads()
    return {"numba": importlib.metadata.version("numba")}


def count_parameters(model: nn.Module) -> int:
    """Return the number of values, trainable or frozen."""
    return sum(parameter.numel() for parameter in model.parameters())


def count_trained(model: nn.Module) -> int:
    """Return the number of trainable values."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
