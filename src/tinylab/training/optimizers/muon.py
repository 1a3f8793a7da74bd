"""Muon: orthogonalized updates of the hidden layers' weights."""

import math
from typing import Any

import torch
from torch import Tensor

from tinylab.config.decorators import optimizer
from tinylab.config.values import option
from tinylab.models import kernels
from tinylab.training.optim import copy_states, group_lr, with_gradient, zeros_like
from tinylab.training.optimizers.adam import AdamW


@optimizer(schedule="onecycle")
class Muon:
    """Muon (Jordan et al., 2024) for hidden layers, AdamW for the output layer and all vectors.

    Each update of a hidden layer is an orthogonal matrix. AdamW, with the rate ``rest_lr``, is used
    for the last weight, which is the output layer's, and for biases and norms. A convolution's
    kernels are a matrix with one row per output channel.
    """

    def __init__(
        self,
        groups: list[dict[str, Any]],
        lr: float = 0.02,
        weight_decay: float = 0.05,
        momentum: float = option(0.95, "momentum", at_least=0, below=1),
        rest_lr: float = option(
            0.003, "peak learning rate of AdamW, for all parameters but hidden weights", above=0
        ),
    ) -> None:
        self.lr: float | Tensor = lr
        self.param_groups = groups
        self._weight_decay, self._momentum = weight_decay, momentum
        self._rest_ratio = rest_lr / lr
        weights = [p for group in groups for p in group["params"] if p.dim() > 1][:-1]
        hidden = {id(weight) for weight in weights}
        self._hidden, rest = (
            [
                {**group, "params": [p for p in group["params"] if (id(p) in hidden) == is_hidden]}
                for group in groups
            ]
            for is_hidden in (True, False)
        )
        self._momenta = zeros_like(self._hidden)
        self._adamw = AdamW(rest, rest_lr)

    @torch.no_grad()
    def step(self) -> None:
        """Update all parameters that have a gradient."""
        self._adamw.lr = self.lr * self._rest_ratio
        self._adamw.step()
        for group, state in zip(self._hidden, self._momenta, strict=True):
            weights, grads, momenta = with_gradient(group["params"], state)
            if weights:
                self._update(weights, grads, momenta, group_lr(self.lr, group))

    def _update(
        self, weights: list[Tensor], grads: list[Tensor], momenta: list[Tensor], lr: float | Tensor
    ) -> None:
        kernels.foreach("lerp_", momenta, grads, 1 - self._momentum)
        directions = kernels.foreach("lerp", grads, momenta, self._momentum)  # Nesterov's
        kernels.foreach("mul_", weights, 1 - lr * self._weight_decay)
        for weight, direction in zip(weights, directions, strict=True):
            matrix = direction.flatten(1)  # (rows, columns)
            scale = math.sqrt(max(1, matrix.size(0) / matrix.size(1)))
            update = orthogonal(matrix).reshape(weight.shape)
            rate = lr * scale
            if isinstance(rate, Tensor):  # reading it for ``alpha`` would wait for the device
                weight.addcmul_(update.float(), rate, value=-1)
            else:
                weight.add_(update, alpha=-rate)

    def state_dict(self) -> dict[str, Any]:
        """Return the momenta, and AdamW's state."""
        return {"momenta": self._momenta, "adamw": self._adamw.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Copy a saved state into this one."""
        copy_states(state["momenta"], self._momenta)
        self._adamw.load_state_dict(state["adamw"])


NEWTON_SCHULZ_STEPS = 5


def orthogonal(matrix: Tensor) -> Tensor:
    """Return about U V^T, where ``matrix`` is U S V^T by SVD: (M, N) -> bfloat16 (M, N).

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
