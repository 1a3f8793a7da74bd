"""Convolution of gray images and max-pooling in one pass, compiled by Numba.

torch computes the full feature map (2.4 MB for 32 images of MNIST), reads it again to pool it, and
keeps 64-bit indices for the way back. Here one position of the pooled map is computed at a time,
and a byte says which of its four was the largest. Forward and backward take 0.45 ms where torch's
two layers take 1.55 ms (one core of an EPYC, 32 images of MNIST, 28 filters of 3x3; minimum of 60
interleaved measurements). Only for one channel and 3x3: with three channels or 5x5 LLVM no longer
keeps the sums in registers, and torch's layers were as fast or faster in all variants tried.
"""

from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from tinylab.system.paths import cache_root

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
        pixels = images.detach().reshape(N, H, W).numpy()
        kernels = np.ascontiguousarray(weight.detach().reshape(len(weight), -1).numpy().T)
        shape = (N, (H - SIDE + 1) // 2, (W - SIDE + 1) // 2, len(weight))
        output, largest = np.empty(shape, np.float32), np.empty(shape, np.uint8)
        forward, _ = functions()
        arrays = (pixels, kernels, bias.detach().numpy(), output, largest)
        _by_threads(forward, [(*arrays, *part) for part in _equal(N, parts)])
        ctx.pixels, ctx.largest, ctx.parts = pixels, largest, parts
        return torch.from_numpy(output).permute(0, 3, 1, 2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor, Tensor, None]:
        grad_NHWF = grad.permute(0, 2, 3, 1).contiguous().numpy()
        N, _, _, filters = grad_NHWF.shape
        sums = np.zeros((ctx.parts, SIDE**2 + 1, filters), np.float32)
        _, backward = functions()
        arrays = (ctx.pixels, grad_NHWF, ctx.largest)
        parts = zip(sums, _equal(N, ctx.parts), strict=True)
        _by_threads(backward, [(*arrays, own_sums, *part) for own_sums, part in parts])
        total = torch.from_numpy(sums.sum(0))  # of the weights at each position, then of the bias
        return None, total[:-1].T.reshape(filters, 1, SIDE, SIDE), total[-1], None


def _equal(count: int, parts: int) -> list[tuple[int, int]]:
    """Return the bounds of equal parts of ``count`` images."""
    bounds = [count * part // parts for part in range(parts + 1)]
    return list(pairwise(bounds))


def _by_threads(function: Any, calls: list[tuple[Any, ...]]) -> None:
    """Make the calls, with one of torch's threads each, or one after another with one thread.

    Python threads: Numba's would be a second OpenMP, whose threads compete with torch's.
    """
    others = []
    if torch.get_num_threads() > 1:
        others = [_threads(len(calls)).submit(function, *call) for call in calls[1:]]
    for call in calls[: len(calls) - len(others)]:
        function(*call)
    for other in others:
        other.result()


@cache
def _threads(count: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(count, "conv_pool")


@cache
def functions() -> tuple[Any, Any]:
    """Forward and backward for some of the images, compiled, or from Numba's cache on disk.

    Takes seconds the first time on a machine, later 1.4 s including the import of Numba.
    """
    import numba

    numba.config.CACHE_DIR = str(cache_root() / "numba")  # type: ignore[attr-defined]
    compiled = numba.njit(cache=True, nogil=True, fastmath={"contract"})
    return compiled(_forward), compiled(_backward)


def _forward(
    pixels: Any, kernels: Any, bias: Any, output: Any, largest: Any, start: int, end: int
) -> None:
    """pixels: (N, H, W). kernels: (9, F). output, largest: (N, height, width, F), written."""
    _, height, width, filters = output.shape
    for n in range(start, end):
        for i in range(height):
            for j in range(width):
                for f in range(filters):  # vectorized; the inner loops are unrolled
                    upper_left = upper_right = lower_left = lower_right = bias[f]
                    for row in range(SIDE):
                        for column in range(SIDE):
                            y, x = 2 * i + row, 2 * j + column
                            weight = kernels[row * SIDE + column, f]
                            upper_left += pixels[n, y, x] * weight
                            upper_right += pixels[n, y, x + 1] * weight
                            lower_left += pixels[n, y + 1, x] * weight
                            lower_right += pixels[n, y + 1, x + 1] * weight
                    most, which = upper_left, np.uint8(0)
                    if upper_right > most:
                        most, which = upper_right, np.uint8(1)
                    if lower_left > most:
                        most, which = lower_left, np.uint8(2)
                    if lower_right > most:
                        most, which = lower_right, np.uint8(3)
                    output[n, i, j, f] = most
                    largest[n, i, j, f] = which


def _backward(pixels: Any, grad: Any, largest: Any, sums: Any, start: int, end: int) -> None:
    """sums: (10, F), written: the gradients of the kernels at each place, then of the bias."""
    _, height, width, filters = grad.shape
    of_kernels, of_bias = np.zeros((SIDE**2, filters), np.float32), np.zeros(filters, np.float32)
    nothing = np.float32(0)
    parts = np.zeros((4, filters), np.float32)  # the gradient of the maximum only
    for n in range(start, end):
        for i in range(height):
            for j in range(width):
                for f in range(filters):
                    which, value = largest[n, i, j, f], grad[n, i, j, f]
                    of_bias[f] += value
                    parts[0, f] = value if which == 0 else nothing
                    parts[1, f] = value if which == 1 else nothing
                    parts[2, f] = value if which == 2 else nothing
                    parts[3, f] = value if which == 3 else nothing
                for offset in range(SIDE**2):
                    y, x = 2 * i + offset // SIDE, 2 * j + offset % SIDE
                    upper_left, upper_right = pixels[n, y, x], pixels[n, y, x + 1]
                    lower_left, lower_right = pixels[n, y + 1, x], pixels[n, y + 1, x + 1]
                    for f in range(filters):
                        of_kernels[offset, f] += (
                            parts[0, f] * upper_left
                            + parts[1, f] * upper_right
                            + parts[2, f] * lower_left
                            + parts[3, f] * lower_right
                        )
    sums[:-1] = of_kernels
    sums[-1] = of_bias
