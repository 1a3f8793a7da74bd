"""torch's private kernels, each beside the public class or function that does the same.

A name with an underscore may go in any version of torch. Each function looks for its kernel when it
is called; without it, the public way gives equal numbers but for rounding, and takes longer.
"""

from itertools import repeat
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

Tensors = list[Tensor]


def foreach(name: str, tensors: Tensors, *operands: Any) -> Any:
    """The method ``name`` of each tensor, in one launch for all.

    An operand that is a list has one value for each tensor, another is for all of them.
    """
    kernel = getattr(torch, f"_foreach_{name}", None)
    if kernel is not None:
        return kernel(tensors, *operands)
    columns = [operand if isinstance(operand, list) else repeat(operand) for operand in operands]
    return [
        getattr(tensor, name)(*values)
        for tensor, *values in zip(tensors, *columns, strict=False)  # repeat has no end
    ]


def adam(
    parameters: Tensors,
    grads: Tensors,
    means: Tensors,
    squares: Tensors,
    steps: Tensors,
    *,
    decoupled: bool,
    lr: float | Tensor,
    beta1: float,
    beta2: float,
    weight_decay: float,
    eps: float,
) -> None:
    """One update in place, which counts ``steps``: Adam's, or AdamW's with decoupled decay.

    ``torch.optim``'s classes import torch's whole compiler (2 to 4 s at every start) and spend
    0.25 ms of Python on each step, where the kernel of the baseline CNN takes 0.2 ms.
    """
    kernel = getattr(torch, "_fused_adamw_" if decoupled else "_fused_adam_", None)
    if kernel is None:
        _by_class(
            torch.optim.AdamW if decoupled else torch.optim.Adam, parameters, grads,
            {"exp_avg": means, "exp_avg_sq": squares, "step": steps},
            lr=lr, betas=(beta1, beta2), eps=eps, weight_decay=weight_decay,
            capturable=parameters[0].is_cuda,
        )  # fmt: skip
        return
    foreach("add_", steps, 1)
    kernel(
        parameters, grads, means, squares, [], steps, lr=lr, beta1=beta1, beta2=beta2,
        weight_decay=weight_decay, eps=eps, amsgrad=False, maximize=False,
    )  # fmt: skip


def sgd(
    parameters: Tensors,
    grads: Tensors,
    momenta: Tensors,
    *,
    lr: float | Tensor,
    momentum: float,
    weight_decay: float,
    nesterov: bool,
) -> None:
    """One update by stochastic gradient descent, in place; without momentum no ``momenta``."""
    kernel = getattr(torch, "_fused_sgd_", None)
    if kernel is None:
        _by_class(
            torch.optim.SGD, parameters, grads, {"momentum_buffer": momenta} if momentum else {},
            lr=lr, momentum=momentum, weight_decay=weight_decay, nesterov=nesterov,
        )  # fmt: skip
        return
    kernel(
        parameters, grads, momenta if momentum else [], lr=lr, momentum=momentum,
        weight_decay=weight_decay, dampening=0.0, nesterov=nesterov, maximize=False,
        is_first_step=False,  # momenta of zero give what the first step would set
    )  # fmt: skip


def _by_class(
    kind: type[torch.optim.Optimizer],
    parameters: Tensors,
    grads: Tensors,
    states: dict[str, Tensors],
    **options: Any,
) -> None:
    """One update by a class of ``torch.optim``, on the memory of these tensors."""
    views = [parameter.detach() for parameter in parameters]
    optimizer: Any = kind(views, **options)
    for number, (view, grad) in enumerate(zip(views, grads, strict=True)):
        view.grad = grad
        optimizer.state[view] = {name: values[number] for name, values in states.items()}
    optimizer.step()


def has_onednn_linear() -> bool:
    """Whether torch has oneDNN's product."""
    is_built = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return is_built and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def onednn_linear(inputs: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``F.linear`` of float32 tensors on the CPU, by oneDNN where torch has its product."""
    if not has_onednn_linear():
        return F.linear(inputs, weight, bias)
    output: Tensor = torch.ops.mkldnn._linear_pointwise(inputs, weight, bias, "none", [], "")
    return output
