"""Layers that PyTorch lacks."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from tinylab.models import kernels
from tinylab.system.runtime import device_name


class DenseOverMap(nn.Module):
    """Flatten and a dense layer in one, for any memory format of the feature map.

    The weight is stored as (out, C, H, W), flattened like the map. In channels_last both are read
    innermost channel first, without the copies that ``flatten`` makes forward and backward (a
    quarter of the baseline CNN's step on two cores). The function is the same in both formats.
    """

    def __init__(self, map_shape: tuple[int, int, int], out_features: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(out_features, *map_shape))
        self.bias = nn.Parameter(torch.empty(out_features))
        bound = 1 / math.sqrt(math.prod(map_shape))  # as nn.Linear does
        nn.init.uniform_(self.weight, -bound, bound)
        nn.init.uniform_(self.bias, -bound, bound)

    def forward(self, map_NCHW: Tensor) -> Tensor:
        weight: Tensor = self.weight
        if map_NCHW.is_contiguous(memory_format=torch.channels_last):
            map_NCHW, weight = map_NCHW.permute(0, 2, 3, 1), weight.permute(0, 2, 3, 1)
        tensors = (map_NCHW.flatten(1), weight.flatten(1), self.bias)
        # Exported networks, in evaluation mode, need operators that other programs know.
        product = Products.apply if self.training and _suits_onednn(*tensors) else F.linear
        output: Tensor = product(*tensors)  # (N, out)
        return output


def dense(features: Tensor, layer: nn.Linear, by_onednn: bool) -> Tensor:
    """``layer(features)``; in training by oneDNN if asked for and suitable (``Products``).

    Its bits do not depend on the number of threads, as those of MKL's product do.
    """
    tensors = (features, layer.weight, layer.bias)
    if by_onednn and layer.training and _suits_onednn(*tensors):
        product: Tensor = Products.apply(*tensors)
        return product
    output: Tensor = layer(features)
    return output


# MKL is optimized for Intel processors: on two cores of a Xeon the baseline CNN's step takes 0.94
# of the time with it in batches of 32, and the same in batches of 512.
PREFERS_ONEDNN = device_name(torch.device("cpu")).startswith("AMD") and kernels.has_onednn_linear()


def _suits_onednn(*tensors: Tensor) -> bool:
    """Return whether ``Products`` may replace ``F.linear``.

    Not for the compiler, which supports oneDNN's product only with constant weights, and not for
    autocast, which has its own dtypes.
    """
    return (
        PREFERS_ONEDNN
        and not torch.compiler.is_compiling()
        and not torch.is_autocast_enabled("cpu")
        and all(t.dtype == torch.float32 and t.device.type == "cpu" for t in tensors)
    )


class Products(torch.autograd.Function):
    """``F.linear`` of float32 (N, in), (out, in) and (out,), its three products by oneDNN.

    torch uses MKL for them, which is slow on AMD processors for matrices with a short side such as
    the batch: forward and backward of the baseline CNN's dense layer take 1.0 to 1.8 ms with it and
    0.83 ms with oneDNN (two cores of an EPYC, batch 32), and 17.7 and 10.9 ms in batches of 512.
    """

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(inputs, weight)
        return kernels.onednn_linear(inputs, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        inputs, weight = ctx.saved_tensors
        grad = grad.contiguous()  # (N, out)
        product = kernels.onednn_linear
        return product(grad, weight.T), product(grad.T, inputs.T), grad.sum(0)
