"""torch's private kernels, each with an equivalent public class or function.

A name with an underscore may be removed in any version of torch. Each function looks up its kernel
when called; without it, the public equivalent gives the same numbers up to rounding, and is slower.
"""

from itertools import repeat
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

Tensors = list[Tensor]


def foreach(name: str, tensors: Tensors, *operands: Any) -> Any:
    """Call the method ``name`` of each tensor, in a single launch.

    A list operand has one value per tensor, any other applies to all.
    """
    kernel = getattr(torch, f"_foreach_{name}", None)
    if kernel is not None:
        return kernel(tensors, *operands)
    columns = [operand if isinstance(operand, list) else repeat(operand) for operand in operands]
    return [
        getattr(tensor, name)(*values)
        for tensor, *values in zip(tensors, *columns, strict=False)  # repeat is infinite
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
    """One in-place update, which increments ``steps``: Adam's, or AdamW's with decoupled decay.

    ``torch.optim``'s classes import torch's whole compiler (2 to 4 s at every start) and spend 0.25
    ms of Python per step, while the kernel for the baseline CNN takes 0.2 ms.
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
    """One in-place update by stochastic gradient descent; without momentum no ``momenta``."""
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
        is_first_step=False,  # zero momenta give what the first step would set
    )  # fmt: skip


def _by_class(
    kind: type[torch.optim.Optimizer],
    parameters: Tensors,
    grads: Tensors,
    states: dict[str, Tensors],
    **options: Any,
) -> None:
    """One update by a class of ``torch.optim``, in the memory of these tensors."""
    views = [parameter.detach() for parameter in parameters]
    optimizer: Any = kind(views, **options)
    for number, (view, grad) in enumerate(zip(views, grads, strict=True)):
        view.grad = grad
        optimizer.state[view] = {name: values[number] for name, values in states.items()}
    optimizer.step()


def has_onednn_linear() -> bool:
    """Return whether torch has oneDNN's matrix product."""
    is_built = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return is_built and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def onednn_linear(inputs: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``F.linear`` of float32 tensors on the CPU, by oneDNN if torch has its product."""
    if not has_onednn_linear():
        return F.linear(inputs, weight, bias)
    output: Tensor = torch.ops.mkldnn._linear_pointwise(inputs, weight, bias, "none", [], "")
    return output
