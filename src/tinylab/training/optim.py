"""Optimisers, parameter groups, and the learning rate as a pure function of the step.

The updates are torch's own fused kernels, called directly (``models/kernels.py`` says why). The
bits are those of ``torch.optim`` with ``fused=True``; a test compares them.
"""

import math
from collections.abc import Callable
from itertools import compress
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from tinylab.config.schema import AdamConfig, AdamwConfig, MuonConfig, OptimConfig, SgdConfig
from tinylab.models import kernels


class Optimizer(Protocol):
    """Updates parameters in place from their gradients."""

    # As torch's GradScaler wants it: the parameters, by group.
    param_groups: list[dict[str, Any]]

    def step(self) -> None:
        """Update every parameter that has a gradient, by the rate in ``lr``."""

    # A number, or a tensor of one (float32 on CUDA), which a recorded step reads anew each time.
    lr: float | Tensor

    def state_dict(self) -> dict[str, Any]:
        """What the next update depends on besides parameters, gradients and ``lr``."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to a saved state."""


class Adam:
    """Adam (Kingma and Ba, 2015) and AdamW (Loshchilov and Hutter, 2019), fused."""

    def __init__(self, config: AdamConfig, groups: list[dict[str, Any]]) -> None:
        self.lr: float | Tensor = config.lr
        self.param_groups = groups
        self._config = config
        self._means = _zeros_like(groups)
        self._squares = _zeros_like(groups)
        self._steps = [[torch.zeros((), device=p.device) for p in g["params"]] for g in groups]

    @torch.no_grad()
    def step(self) -> None:
        """One update of all parameters that have a gradient."""
        for group, *state in zip(
            self.param_groups, self._means, self._squares, self._steps, strict=True
        ):
            parameters, grads, means, squares, steps = _with_gradient(group["params"], *state)
            if not parameters:
                continue
            kernels.adam(
                parameters,
                grads,
                means,
                squares,
                steps,
                decoupled=isinstance(self._config, AdamwConfig),
                lr=self.lr,
                beta1=self._config.beta1,
                beta2=self._config.beta2,
                weight_decay=group["weight_decay"],
                eps=self._config.eps,
            )

    def state_dict(self) -> dict[str, Any]:
        """Running means, and the number of updates of each parameter."""
        return {"means": self._means, "squares": self._squares, "steps": self._steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Copy a saved state into this one."""
        _copy(state["means"], self._means)
        _copy(state["squares"], self._squares)
        _copy(state["steps"], self._steps)


class Sgd:
    """Stochastic gradient descent with momentum, fused."""

    def __init__(self, config: SgdConfig, groups: list[dict[str, Any]]) -> None:
        self.lr: float | Tensor = config.lr
        self.param_groups = groups
        self._config = config
        self._momenta = _zeros_like(groups)

    @torch.no_grad()
    def step(self) -> None:
        """One update of all parameters that have a gradient."""
        for group, state in zip(self.param_groups, self._momenta, strict=True):
            parameters, grads, momenta = _with_gradient(group["params"], state)
            if not parameters:
                continue
            kernels.sgd(
                parameters,
                grads,
                momenta,
                lr=self.lr,
                momentum=self._config.momentum,
                weight_decay=group["weight_decay"],
                nesterov=self._config.nesterov,
            )

    def state_dict(self) -> dict[str, Any]:
        """The momenta."""
        return {"momenta": self._momenta}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Copy a saved state into this one."""
        _copy(state["momenta"], self._momenta)


class Muon:
    """Muon (Jordan et al., 2024): each update of a hidden layer is an orthogonal matrix.

    It is AdamW, at the rate ``rest_lr``, for the last weight, which is the output layer's, and for
    biases and normalisation. A convolution's kernels are a matrix with a row an output channel.
    """

    def __init__(self, config: MuonConfig, groups: list[dict[str, Any]]) -> None:
        self.lr: float | Tensor = config.lr
        self.param_groups = groups
        self._config = config
        self._weights = [p for group in groups for p in group["params"] if p.dim() > 1][:-1]
        self._momenta = [torch.zeros_like(weight) for weight in self._weights]
        hidden = {id(weight) for weight in self._weights}
        rest = [
            {**group, "params": [p for p in group["params"] if id(p) not in hidden]}
            for group in groups
        ]
        self._adamw = Adam(AdamwConfig(lr=config.rest_lr), rest)

    @torch.no_grad()
    def step(self) -> None:
        """One update of all parameters that have a gradient."""
        config = self._config
        self._adamw.lr = self.lr * (config.rest_lr / config.lr)
        self._adamw.step()
        weights, grads, momenta = _with_gradient(self._weights, self._momenta)
        if not weights:
            return
        kernels.foreach("lerp_", momenta, grads, 1 - config.momentum)
        directions = kernels.foreach("lerp", grads, momenta, config.momentum)  # Nesterov's
        kernels.foreach("mul_", weights, 1 - self.lr * config.weight_decay)
        for weight, direction in zip(weights, directions, strict=True):
            matrix = direction.flatten(1)  # (rows, columns)
            scale = math.sqrt(max(1, matrix.size(0) / matrix.size(1)))
            update = orthogonal(matrix).reshape(weight.shape)
            rate = self.lr * scale
            if isinstance(rate, Tensor):  # reading it for ``alpha`` would wait for the device
                weight.addcmul_(update.float(), rate, value=-1)
            else:
                weight.add_(update, alpha=-rate)

    def state_dict(self) -> dict[str, Any]:
        """The momenta, and AdamW's state."""
        return {"momenta": [self._momenta], "adamw": self._adamw.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Copy a saved state into this one."""
        _copy(state["momenta"], [self._momenta])
        self._adamw.load_state_dict(state["adamw"])


NEWTON_SCHULZ_STEPS = 5


def orthogonal(matrix: Tensor) -> Tensor:
    """About U V^T, where ``matrix`` is U S V^T by its singular values: (M, N) -> bfloat16 (M, N).

    Five quintic Newton-Schulz steps bring all but tiny singular values to 0.7 to 1.2 (Jordan et
    al., 2024, with their coefficients and precision).
    """
    is_tall = matrix.size(0) > matrix.size(1)
    X = matrix.bfloat16()
    X = X.T if is_tall else X
    X = X / X.norm().clamp(min=1e-7)
    for _ in range(NEWTON_SCHULZ_STEPS):
        gram = X @ X.T
        polynomial = torch.addmm(gram, gram, gram, beta=-4.7750, alpha=2.0315)
        X = torch.addmm(X, polynomial, X, beta=3.4445)
    return X.T if is_tall else X


OPTIMIZERS: dict[str, Callable[[Any, list[dict[str, Any]]], Optimizer]] = {
    "adam": Adam,
    "adamw": Adam,
    "muon": Muon,
    "sgd": Sgd,
}


def build(config: OptimConfig, model: nn.Module) -> Optimizer:
    """The optimiser over all trained parameters of ``model``.

    The loop sets its ``lr`` before each step (``learning_rate``).
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


def _zeros_like(groups: list[dict[str, Any]]) -> list[list[Tensor]]:
    return [[torch.zeros_like(parameter) for parameter in group["params"]] for group in groups]


def _with_gradient(parameters: list[Tensor], *states: list[Tensor]) -> list[list[Any]]:
    """Parameters, gradients and states, without those of an unused branch: it has no gradient."""
    used = [parameter.grad is not None for parameter in parameters]
    columns = [list(compress(column, used)) for column in (parameters, *states)]
    columns.insert(1, [_gradient(parameter) for parameter in columns[0]])
    return [[_as_stored(tensor) for tensor in column] for column in columns]


def _gradient(parameter: Tensor) -> Tensor:
    """The gradient, with the strides of its parameter, which autograd gives it in most cases."""
    grad = parameter.grad
    assert grad is not None
    if grad.stride() == parameter.stride():
        return grad
    return torch.empty_like(parameter).copy_(grad)


def _as_stored(tensor: Tensor) -> Tensor:
    """The same memory as a contiguous tensor: (N, C, H, W) in channels_last -> (N, H, W, C).

    The kernels copy what is not contiguous, 0.3 ms a step for the baseline CNN's dense layer.
    """
    if tensor.dim() == 4 and not tensor.is_contiguous():
        return tensor.permute(0, 2, 3, 1)
    return tensor


def _copy(saved: list[list[Tensor]], into: list[list[Tensor]]) -> None:
    for saved_group, group in zip(saved, into, strict=True):
        kernels.foreach("copy_", group, saved_group)


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
        progress = (step + (0 if onecycle else 1)) / rising_steps
        if onecycle:
            progress = ONECYCLE_START + (1 - ONECYCLE_START) * _half_cosine(progress)
        return config.lr * min(progress, 1.0)
    if config.schedule == "constant":
        return config.lr
    progress = (step - rising_steps) / (total_steps - rising_steps)
    return config.lr * (1 - (1 - config.final) * _half_cosine(progress))


def _half_cosine(progress: float) -> float:
    """0 to 1 along half a cosine."""
    return (1 - math.cos(math.pi * progress)) / 2
