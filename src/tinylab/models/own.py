"""A network from user code, and the checks before training."""

from typing import Any

import torch
from torch import Tensor, nn

from tinylab.config import options
from tinylab.config.base_records import ModelConfig
from tinylab.config.user_code import mistakes_reported
from tinylab.errors import UserError
from tinylab.ui.console import say


def build(config: ModelConfig, image_shape: tuple[int, int, int], num_classes: int) -> nn.Module:
    """Build the network on the CPU, as ``models.build`` returns it.

    Raises UserError with the traceback of the user's file if it raises, and if its output is not
    (N, num_classes).
    """
    option = options.of(config)
    said = f"model={config.name}"
    with mistakes_reported(said):
        network = option.make(config, image_shape, num_classes)
    if not isinstance(network, nn.Module):
        raise UserError(f"{said}: {kind(network)}; expected an nn.Module, of {option.file}")
    if not any(parameter.requires_grad for parameter in network.parameters()):
        raise UserError(f"{said}: no trainable parameters; expected layers, of {option.file}")
    with mistakes_reported(said):
        output = _tried(network, image_shape)
    if not isinstance(output, Tensor) or output.shape != (2, num_classes):
        size = "x".join(map(str, (2, *image_shape)))
        raise UserError(
            f"{said}: gives {kind(output)} for images of {size}\n"
            f"  expected logits (N, num_classes), here 2x{num_classes}"
            f"{f', as with +model.num_classes={num_classes}' * option.declaration.takes_further}; "
            f"see {option.defined_in or option.file}"
        )
    if _are_probabilities(output):
        say(
            f"warning: model={config.name}: its outputs are probabilities (they sum to 1); "
            "expected logits\n  remove its final softmax: the loss applies its own, and with two "
            f"a network trains slowly; see {option.defined_in or option.file}"
        )
    return network


def _are_probabilities(output: Tensor) -> bool:
    """Return whether rows (N, num_classes) are non-negative and sum to 1, as after a softmax."""
    sums = output.sum(1)
    return bool((output >= 0).all()) and torch.allclose(sums, torch.ones_like(sums))


@torch.inference_mode()
def _tried(network: nn.Module, image_shape: tuple[int, int, int]) -> Any:
    """Return its output for two images; its mode and torch's generator are restored."""
    was_training = network.training
    try:
        with torch.random.fork_rng(devices=[]):
            return network.eval()(torch.zeros(2, *image_shape))
    finally:
        network.train(was_training)


def kind(value: Any) -> str:
    """Describe a value in words: its shape if it is a tensor."""
    if isinstance(value, Tensor):
        return "x".join(map(str, value.shape)) or "a scalar"
    return f"a {type(value).__name__}"
