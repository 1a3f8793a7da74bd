"""A network from user code, and the checks before training."""

import ast
import contextlib
import traceback
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from tinylab.config import options, user_code
from tinylab.config.base_records import ModelConfig
from tinylab.config.option import Option
from tinylab.errors import UserError
from tinylab.ui.console import say


def build(config: ModelConfig, image_shape: tuple[int, int, int], num_classes: int) -> nn.Module:
    """Build the network on the CPU, as ``models.build`` returns it.

    Raises UserError with the lines of the user's file, or the layer, if it raises, and if its
    output is not (N, num_classes).
    """
    option = options.of(config)
    said = f"model={config.name}"
    with mistakes_reported(config):
        network = option.make(config, image_shape, num_classes)
    if not isinstance(network, nn.Module):
        raise UserError(f"{said}: {kind(network)}; expected an nn.Module, of {option.file}")
    if not any(parameter.requires_grad for parameter in network.parameters()):
        raise UserError(f"{said}: no trainable parameters; expected layers, of {option.file}")
    with mistakes_reported(config, network):
        output = _tried(network, image_shape)
    if (unused := _lazy(network)) is not None:
        raise UserError(
            f"{said}: {unused} is still uninitialized after a trial pass in eval mode\n"
            f"  expected a forward that then uses all lazy layers; see {_place(option)}"
        )
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


@torch.no_grad()  # weights that a layer creates in inference mode could not be trained
def _tried(network: nn.Module, image_shape: tuple[int, int, int]) -> Any:
    """Return its output for two images; its mode and torch's generator are restored.

    Lazy layers draw their initial weights here, from the generator, as others did before.
    """
    was_training = network.training
    try:
        with torch.random.fork_rng(devices=[], enabled=_lazy(network) is None):
            return network.eval()(torch.zeros(2, *image_shape))
    finally:
        network.train(was_training)


def _lazy(network: nn.Module) -> str | None:
    """Return the name of its first uninitialized parameter or buffer, as lazy layers have."""
    tensors = (*network.named_parameters(), *network.named_buffers())
    return next((name for name, tensor in tensors if is_lazy(tensor)), None)


# ---------------------------------------------------------------- mistakes


@contextlib.contextmanager
def mistakes_reported(config: ModelConfig, network: nn.Module | None = None) -> Iterator[None]:
    """Convert exceptions of a user's network, built or called in the block, to UserError."""
    try:
        with user_code.mistakes_reported(f"model={config.name}"):
            yield
    except UserError:
        raise
    except Exception as error:  # without a line of theirs in the traceback
        if options.of(config).is_builtin:
            raise
        layer = None if network is None else _layer(error, network)
        raise UserError(_described(error, config, layer)) from error


def message_of(error: BaseException, config: ModelConfig, network: nn.Module) -> str | None:
    """Describe an exception in a user's network, for which no line of theirs is in the traceback.

    None for a built-in network, and for an exception that was raised outside the network.
    """
    layer = None if options.of(config).is_builtin else _layer(error, network)
    return None if layer is None else _described(error, config, layer)


def _described(error: BaseException, config: ModelConfig, layer: str | None) -> str:
    words = f"model={config.name}: {type(error).__name__}: {user_code.first_line(error)}"
    return f"{words}\n  {f'in {layer}; ' if layer else ''}see {_place(options.of(config))}"


def _layer(error: BaseException, network: nn.Module) -> str | None:
    """Describe the layer that raised an exception: ``1: Linear(...) (input: 2x64)``."""
    frames = [
        frame
        for frame, _ in traceback.walk_tb(error.__traceback__)
        if frame.f_code.co_name == "forward" and isinstance(frame.f_locals.get("self"), nn.Module)
    ]
    # By type: the network may be a copy, such as the averaged one.
    if not frames or type(frames[0].f_locals["self"]) is not type(network):
        return None
    whole, layer = (frame.f_locals["self"] for frame in (frames[0], frames[-1]))
    name = next((name for name, each in whole.named_modules() if each is layer), "")
    kind = type(layer).__name__ if [*layer.children()] else str(layer)
    return f"{name}: " * bool(name) + kind + user_code.shapes(frames[-1])


def _place(option: Option) -> str:
    """Return the file and line where a user's network is defined."""
    file = option.defined_in or option.file
    with contextlib.suppress(OSError, SyntaxError, ValueError):  # edited since
        for node in ast.parse(file.read_bytes()).body:
            if getattr(node, "name", None) == option.declaration.attribute:
                return f"{file}:{node.lineno}"
    return str(file)


def kind(value: Any) -> str:
    """Describe a value in words: its shape if it is a tensor."""
    if isinstance(value, Tensor):
        return "x".join(map(str, value.shape)) or "a scalar"
    return f"a {type(value).__name__}"
