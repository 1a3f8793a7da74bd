"""Adam and AdamW with torch's fused kernels."""

from typing import Any

import torch
from torch import Tensor

from tinylab.config.decorators import optimizer
from tinylab.config.values import option
from tinylab.models import kernels
from tinylab.training.optim import copy_states, group_lr, with_gradient, zeros_like


@optimizer
class Adam:
    """Adam (Kingma and Ba, 2015); weight decay is added to the gradient."""

    decoupled = False  # weight decay is part of the gradient

    def __init__(
        self,
        groups: list[dict[str, Any]],
        lr: float = 0.001,
        beta1: float = option(
            0.9, "decay of the running mean of the gradient", at_least=0, below=1
        ),
        beta2: float = option(
            0.999, "decay of the running mean of the squared gradient", at_least=0, below=1
        ),
        eps: float = option(1e-8, "added to the denominator", above=0),
    ) -> None:
        self.lr: float | Tensor = lr
        self.param_groups = groups
        self._beta1, self._beta2, self._eps = beta1, beta2, eps
        self._means = zeros_like(groups)
        self._squares = zeros_like(groups)
        self._steps = [[torch.zeros((), device=p.device) for p in g["params"]] for g in groups]

    @torch.no_grad()
    def step(self) -> None:
        """Update all parameters that have a gradient."""
        for group, *state in zip(
            self.param_groups, self._means, self._squares, self._steps, strict=True
        ):
            parameters, grads, means, squares, steps = with_gradient(group["params"], *state)
            if not parameters:
                continue
            kernels.adam(
                parameters,
                grads,
                means,
                squares,
                steps,
                decoupled=self.decoupled,
                lr=group_lr(self.lr, group),
                beta1=self._beta1,
                beta2=self._beta2,
                weight_decay=group["weight_decay"],
                eps=self._eps,
            )

    def state_dict(self) -> dict[str, Any]:
        """Return running means, and the number of updates of each parameter."""
        return {"means": self._means, "squares": self._squares, "steps": self._steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Copy a saved state into this one."""
        copy_states(state["means"], self._means)
        copy_states(state["squares"], self._squares)
        copy_states(state["steps"], self._steps)


@optimizer(weight_decay=0.01, schedule="cosine", warmup=0.05)
class AdamW(Adam):
    """AdamW (Loshchilov and Hutter, 2019); weight decay is decoupled from the gradient."""

    decoupled = True

    def __init__(
        self,
        groups: list[dict[str, Any]],
        lr: float = 0.001,
        beta1: float = option(
            0.9, "decay of the running mean of the gradient", at_least=0, below=1
        ),
        beta2: float = option(
            0.999, "decay of the running mean of the squared gradient", at_least=0, below=1
        ),
        eps: float = option(1e-8, "added to the denominator", above=0),
    ) -> None:
        super().__init__(groups, lr, beta1, beta2, eps)
