"""Stochastic gradient descent with torch's fused kernel."""

from typing import Any

import torch
from torch import Tensor

from tinylab.config.decorators import optimizer
from tinylab.config.values import option
from tinylab.models import kernels
from tinylab.training.optim import copy_states, group_lr, with_gradient, zeros_like


@optimizer(weight_decay=0.0005, schedule="onecycle")
class SGD:
    """Stochastic gradient descent with momentum, by default with a one-cycle learning rate."""

    def __init__(
        self,
        groups: list[dict[str, Any]],
        lr: float = 0.1,
        momentum: float = option(0.9, "momentum", at_least=0, below=1),
        nesterov: bool = option(True, "Nesterov's momentum", needs="momentum"),
    ) -> None:
        self.lr: float | Tensor = lr
        self.param_groups = groups
        self._momentum, self._nesterov = momentum, nesterov
        self._momenta = zeros_like(groups)

    @torch.no_grad()
    def step(self) -> None:
        """Update all parameters that have a gradient."""
        for group, state in zip(self.param_groups, self._momenta, strict=True):
            parameters, grads, momenta = with_gradient(group["params"], state)
            if not parameters:
                continue
            kernels.sgd(
                parameters,
                grads,
                momenta,
                lr=group_lr(self.lr, group),
                momentum=self._momentum,
                weight_decay=group["weight_decay"],
                nesterov=self._nesterov,
            )

    def state_dict(self) -> dict[str, Any]:
        """Return the momenta."""
        return {"momenta": self._momenta}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Copy a saved state into this one."""
        copy_states(state["momenta"], self._momenta)
