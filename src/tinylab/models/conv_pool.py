"""Convolution of gray images and max-pooling in one pass, compiled by Numba.

torch computes the full feature map (2.4 MB for 32 images of MNIST), reads it again to pool it, and
keeps 64-bit indices for the way back. Here one position of the pooled map is computed at a time,
and a byte says which of its four was the largest. Forward and backward take 0.6 ms where torch's
two layers take 1.4 ms (one core of an EPYC, 32 images of MNIST, 28 filters of 3x3; minimum of 200
interleaved measurements), and with two cores 0.45 and 1.06 ms. Only for one channel and 3x3: with
three channels or 5x5 LLVM did not keep the sums in registers, and torch's layers were as fast or
faster in all variants tried.
"""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

SIDE = 3  # of the kernels


class PooledConv2d(nn.Conv2d):
    """``nn.Conv2d`` whose ``pooled`` output can be computed in one pass.

    ``in_one_pass`` is set if the work justifies compiling (``models.choose_kernels``). Evaluation,
    other devices and dtypes, and gradients of the images always use torch's layers.
    """

    in_one_pass = False
    parts = 1  # of a batch, whose gradients are summed one by one: the bits depend on it

    def fused_work(self, image_shape: tuple[int, int, int]) -> int:
        """Return the multiply-adds per image in one pass; 0 if it does not support the layer.

        The layer is assumed to be the first of its network.
        """
        plain = (self.stride, self.dilation, self.groups) == ((1, 1), (1, 1), 1)
        is_known = (self.in_channels, self.kernel_size) == (1, (SIDE, SIDE))
        if not (plain and is_known and self.padding == (0, 0) and self.bias is not None):
            return 0
        _, H, W = image_shape
        return (H - SIDE + 1) * (W - SIDE + 1) * self.weight.numel()

    def pooled(self, images_NCHW: Tensor) -> Tensor:
        """``F.max_pool2d(self(images_NCHW), 2)``, up to rounding."""
        if self.in_one_pass and self.training and _suits(images_NCHW, self.weight):
            output: Tensor = OnePass.apply(images_NCHW, self.weight, self.bias, self.parts)
            return output
        return F.max_pool2d(self(images_NCHW), 2)


def _suits(images: Tensor, weight: Tensor) -> bool:
    return (
        not torch.compiler.is_compiling()
        and not torch.is_autocast_enabled("cpu")
        and not images.requires_grad
        and all(t.dtype == torch.float32 and t.device.type == "cpu" for t in (images, weight))
    )


class OnePass(torch.autograd.Function):
    """float32 (N, 1, H, W), (F, 1, 3, 3), (F,) -> (N, F, (H - 2) // 2, (W - 2) // 2).

    The output is in channels_last. Among equal positions the first is the maximum, as in torch.
    The gradients are summed over each of ``parts`` equal parts of the images, and the sums added in
    a fixed order: the bits depend on ``parts``, not on how many threads share them.
    """

    @staticmethod
    def forward(ctx: Any, images: Tensor, weight: Tensor, bias: Tensor, parts: int) -> Tensor:
        N, _, H, W = images.shape
        pixels = images.detach().reshape(N, H, W).contiguous().numpy()
        kernels = np.ascontiguousarray(weight.detach().reshape(len(weight), -1).numpy().T)
        shape = (N, (H - SIDE + 1) // 2, (W - SIDE + 1) // 2, len(weight))
        output, largest = np.empty(shape, np.float32), np.empty(shape, np.uint8)
        compiled().forward(pixels, kernels, bias.detach().numpy(), output, largest, parts)
        ctx.pixels, ctx.largest, ctx.parts = pixels, largest, parts
        return torch.from_numpy(output).permute(0, 3, 1, 2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor, Tensor, None]:
        grad_NHWF = grad.permute(0, 2, 3, 1).contiguous().numpy()
        filters = grad_NHWF.shape[3]
        sums = np.empty((ctx.parts, SIDE**2 + 1, filters), np.float32)
        compiled().backward(ctx.pixels, grad_NHWF, ctx.largest, sums)
        total = torch.from_numpy(sums.sum(0))  # of the weights at each position, then of the bias
        return None, total[:-1].T.reshape(filters, 1, SIDE, SIDE), total[-1], None


def compiled() -> Any:
    """Return the compiled functions; the first time Numba is imported, which takes 1.4 s."""
    from tinylab.models import one_pass

    return one_pass
