"""Optimizers, parameter groups, and the learning rate as a pure function of the step.

The updates are torch's own fused kernels, called directly (``models/kernels.py`` says why). They
are bit-identical to ``torch.optim`` with ``fused=True``; a test compares them.
"""

import functools
import math
from itertools import compress
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from tinylab.config import options
from tinylab.config.base_records import OptimConfig
from tinylab.models import kernels
from tinylab.models.pretrained import head
from tinylab.training import torch_optim
from tinylab.training.own import Schedule


class Optimizer(Protocol):
    """Updates parameters in place from their gradients."""

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The parameters by group, as torch's GradScaler expects."""

    def step(self) -> None:
        """Update every parameter that has a gradient, with the rate in ``lr``."""

    # A number, or a one-element tensor (float32 on CUDA), which a recorded step re-reads each time.
    lr: float | Tensor

    def state_dict(self) -> dict[str, Any]:
        """Return what the next update depends on besides parameters, gradients and ``lr``."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a saved state."""


def build(config: OptimConfig, model: nn.Module) -> Optimizer:
    """Build the optimizer for all trainable parameters of ``model``.

    The loop sets its ``lr`` before each step (``learning_rate``).
    """
    return _made(config, parameter_groups(model, config.weight_decay, config.backbone_lr))


def _made(config: OptimConfig, groups: list[dict[str, Any]]) -> Optimizer:
    option = options.of(config)
    if option.is_builtin:
        made: Optimizer = option.make(config, groups)
        return made
    said = f"optim={config.name}"
    if option.declaration.is_class:
        torch_optim.refuse_closure(option.load(), said)
    return torch_optim.wrapped(option.make(config, groups), config.weight_decay, said)


def is_torchs(config: OptimConfig) -> bool:
    """Return whether it is one of torch.optim's classes, built-in or the user's."""
    option = options.of(config)
    return not option.is_builtin or option.name == "torch"


def rehearse(config: OptimConfig, model: nn.Module) -> None:
    """Raise UserError if an optimizer of torch or the user does not work with ``model``."""
    if is_torchs(config):
        groups = parameter_groups(model, config.weight_decay, config.backbone_lr)
        made, option = functools.partial(_made, config), options.of(config)
        said, file = f"optim={config.name}", str(option.file)
        if option.is_builtin:
            algorithm = getattr(config, "algorithm", "")
            said, file = f"optim.algorithm={algorithm}", f"torch.optim.{algorithm}"
        torch_optim.rehearse(made, groups, said, file)


def parameter_groups(
    model: nn.Module, weight_decay: float, backbone_lr: float = 1.0
) -> list[dict[str, Any]]:
    """Return parameter groups: weights decay; biases and norms (one dimension) do not.

    ``backbone_lr`` other than 1: the groups of all but the last module with parameters come first,
    with it as ``lr_factor``.
    """
    decayed: list[Tensor] = []
    spared: list[Tensor] = []
    for parameter in model.parameters():
        if parameter.requires_grad:
            (decayed if parameter.dim() > 1 and weight_decay > 0 else spared).append(parameter)
    groups = [
        {"params": decayed, "weight_decay": weight_decay},
        {"params": spared, "weight_decay": 0.0},
    ]
    if backbone_lr != 1:
        groups = [part for group in groups for part in _divided(group, model, backbone_lr)]
    return [group for group in groups if group["params"]]


def _divided(group: dict[str, Any], model: nn.Module, factor: float) -> list[dict[str, Any]]:
    """Split a group into the backbone's part and the head's."""
    of_head = {id(parameter) for parameter in head(model)[1].parameters(recurse=False)}
    first = [each for each in group["params"] if id(each) not in of_head]
    last = [each for each in group["params"] if id(each) in of_head]
    return [{**group, "params": first, "lr_factor": factor}, {**group, "params": last}]


def group_lr(lr: float | Tensor, group: dict[str, Any]) -> float | Tensor:
    """Return the learning rate of a group; a tensor stays one, as a recorded step needs it."""
    return lr * group["lr_factor"] if "lr_factor" in group else lr


def zeros_like(groups: list[dict[str, Any]]) -> list[list[Tensor]]:
    """Return zero states for each parameter of each group."""
    return [[torch.zeros_like(parameter) for parameter in group["params"]] for group in groups]


def with_gradient(parameters: list[Tensor], *states: list[Tensor]) -> list[list[Any]]:
    """Return parameters, gradients and states; parameters of unused branches have no gradient."""
    used = [parameter.grad is not None for parameter in parameters]
    columns = [list(compress(column, used)) for column in (parameters, *states)]
    columns.insert(1, [_gradient(parameter) for parameter in columns[0]])
    return [[_as_stored(tensor) for tensor in column] for column in columns]


def _gradient(parameter: Tensor) -> Tensor:
    """Return the gradient with the strides of its parameter, which autograd mostly ensures."""
    grad = parameter.grad
    assert grad is not None
    if grad.stride() == parameter.stride():
        return grad
    return torch.empty_like(parameter).copy_(grad)


def _as_stored(tensor: Tensor) -> Tensor:
    """View the same memory as contiguous: (N, C, H, W) in channels_last -> (N, H, W, C).

    The kernels copy non-contiguous tensors, 0.3 ms per step for the baseline CNN's dense layer.
    """
    if tensor.dim() == 4 and not tensor.is_contiguous():
        return tensor.permute(0, 2, 3, 1)
    return tensor


def copy_states(saved: list[list[Tensor]], into: list[list[Tensor]]) -> None:
    """Copy a saved state into the tensors of another."""
    for saved_group, group in zip(saved, into, strict=True):
        if group:
            kernels.foreach("copy_", group, saved_group)


ONECYCLE_START = 1 / 25  # lr of the first step, as a fraction of the peak
ONECYCLE_WARMUP = 0.3  # fraction of all steps until the peak (both as in torch's OneCycleLR)


def learning_rate(
    config: OptimConfig, step: int, total_steps: int, own: Schedule | None = None
) -> float:
    """Return the learning rate of step number ``step``, 0 to total_steps - 1.

    constant: the peak. cosine: from the peak to ``final`` by half a cosine (Loshchilov and Hutter,
    2017). onecycle: up to the peak and down by half cosines (Smith and Topin, 2018). ``warmup`` is
    the fraction of all steps of the rise, which is linear except for onecycle. ``own``, the user's
    schedule, replaces all three after the rise.
    """
    onecycle = config.schedule == "onecycle" and own is None
    warmup = config.warmup
    if warmup is None:
        warmup = ONECYCLE_WARMUP if onecycle else 0.0
    rising_steps = warmup * total_steps
    if step < rising_steps:
        progress = (step + (0 if onecycle else 1)) / rising_steps
        if onecycle:
            progress = ONECYCLE_START + (1 - ONECYCLE_START) * _half_cosine(progress)
        return config.lr * min(progress, 1.0)
    if own is not None:
        start = math.ceil(rising_steps)
        return config.lr * own(step - start, total_steps - start)
    if config.schedule == "constant":
        return config.lr
    progress = (step - rising_steps) / (total_steps - rising_steps)
    return config.lr * (1 - (1 - config.final) * _half_cosine(progress))


def _half_cosine(progress: float) -> float:
    """0 to 1 along half a cosine."""
    return (1 - math.cos(math.pi * progress)) / 2
