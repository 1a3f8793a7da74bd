"""Optimiser, parameter groups, and the learning rate as a pure function of the step."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from tinylab.config import AdamConfig, OptimConfig, SgdConfig


def build(config: OptimConfig, model: nn.Module) -> torch.optim.Optimizer:
    """The optimiser over all trained parameters of ``model``, in one fused kernel a step.

    The learning rate is set before each step by the loop (``learning_rate``).
    """
    return OPTIMIZERS[config.name](config, parameter_groups(model, config.weight_decay))


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Weights that multiply inputs decay; biases and normalisation (one dimension) do not."""
    decayed: list[Tensor] = []
    spared: list[Tensor] = []
    for parameter in model.parameters():
        if parameter.requires_grad:
            (decayed if parameter.dim() > 1 and weight_decay > 0 else spared).append(parameter)
    groups = [
        {"params": decayed, "weight_decay": weight_decay},
        {"params": spared, "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def _adam(config: AdamConfig, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    betas = (config.beta1, config.beta2)
    return torch.optim.Adam(groups, lr=config.lr, betas=betas, eps=config.eps, fused=True)


def _adamw(config: AdamConfig, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    betas = (config.beta1, config.beta2)
    return torch.optim.AdamW(groups, lr=config.lr, betas=betas, eps=config.eps, fused=True)


def _sgd(config: SgdConfig, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    return torch.optim.SGD(
        groups, lr=config.lr, momentum=config.momentum, nesterov=config.nesterov, fused=True
    )


OPTIMIZERS: dict[str, Callable[[Any, list[dict[str, Any]]], torch.optim.Optimizer]] = {
    "adam": _adam,
    "adamw": _adamw,
    "sgd": _sgd,
}

ONECYCLE_START = 1 / 25  # lr of the first step, as a share of the peak
ONECYCLE_WARMUP = 0.3  # share of all steps until the peak (both as in torch's OneCycleLR)


def learning_rate(config: OptimConfig, step: int, total_steps: int) -> float:
    """The learning rate of step number ``step``, 0 to total_steps - 1.

    constant: the peak. cosine: from the peak to ``final`` by half a cosine (Loshchilov and
    Hutter, 2017). onecycle: up to the peak and down by half cosines (Smith and Topin, 2018).
    ``warmup`` is the share of all steps of the rise, which is linear but for onecycle.
    """
    onecycle = config.schedule == "onecycle"
    warmup = config.warmup
    if warmup is None:
        warmup = ONECYCLE_WARMUP if onecycle else 0.0
    rising_steps = warmup * total_steps
    if step < rising_steps:
        progress = (step + (0 if onecycle else 1)) / max(rising_steps, 1)
        if onecycle:
            progress = ONECYCLE_START + (1 - ONECYCLE_START) * _half_cosine(progress)
        return config.lr * min(progress, 1.0)
    if config.schedule == "constant":
        return config.lr
    falling_steps = max(total_steps - rising_steps, 1)
    progress = min((step - rising_steps) / falling_steps, 1.0)
    return config.lr * (1 - (1 - config.final) * _half_cosine(progress))


def _half_cosine(progress: float) -> float:
    """0 to 1 along half a cosine."""
    return (1 - math.cos(math.pi * progress)) / 2
