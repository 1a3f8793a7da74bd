"""Convolution with kernels of 3x3 and max-pooling in one pass, compiled by Numba.

Imported only by trainings that use it: importing takes 1.4 s, and compiling, once on a machine,
some seconds. The loops over filters are vectorized, so their arrays start at cache lines and
are filled up to whole vectors: in the width of 28 filters both directions take twice as long.
The parts of a batch are shared by torch's own OpenMP threads, which are awake already: Python
threads compete with them, and Numba's would be a second OpenMP.
"""

import ctypes
from functools import cache
from pathlib import Path
from typing import Any

import numba
import numpy as np
import torch
from llvmlite import binding
from numba import carray, types
from numba.extending import intrinsic

from tinylab.models.conv_pool import SIDE
from tinylab.system.paths import cache_root

LANES = 16  # float32 values of a cache line, and of the longest vectors

numba.config.CACHE_DIR = str(cache_root() / "numba")
OPTIONS: dict[str, Any] = {"cache": True, "fastmath": {"contract"}}
compiled = numba.njit(nogil=True, **OPTIONS)


def forward(
    pixels: np.ndarray, kernels: np.ndarray, bias: np.ndarray, output: np.ndarray,
    largest: np.ndarray, parts: int,
) -> None:  # fmt: skip
    """Convolve and pool, each of ``parts`` parts of the images by one thread.

    pixels: float32 (N, H, W). kernels: float32 (9, F). bias: float32 (F,). output: float32 (N,
    (H - 2) // 2, (W - 2) // 2, F), written. largest: uint8, as output, written: which of its four
    positions each output is. All are contiguous.
    """
    arrays = (pixels, kernels, bias, output, largest)
    if not _share("forward", arrays, (*pixels.shape, len(bias), parts)):
        _forward_parts(*arrays, parts, 0, 1)


def backward(pixels: np.ndarray, grad: np.ndarray, largest: np.ndarray, sums: np.ndarray) -> None:
    """Sum the gradients over each part of the images, each by one thread.

    pixels and largest as in ``forward``. grad: of its output. sums: float32 (parts, 10, F),
    written: the gradients of the kernels at each place, then of the bias. All are contiguous.
    """
    arrays, parts = (pixels, grad, largest, sums), len(sums)
    if not _share("backward", arrays, (*pixels.shape, sums.shape[2], parts)):
        _backward_parts(*arrays, 0, 1)


def _share(name: str, arrays: tuple[np.ndarray, ...], sizes: tuple[int, ...]) -> bool:
    """Let torch's threads share the parts; return whether its OpenMP can be called."""
    openmp = _openmp()
    if openmp is None:
        return False
    assert all(array.flags.c_contiguous for array in arrays)
    job = np.array([*(array.ctypes.data for array in arrays), *sizes], np.int64)
    openmp.GOMP_parallel(_regions()[name].address, job.ctypes.data, torch.get_num_threads(), 0)
    return True


@cache
def _openmp() -> Any:
    """Return torch's own OpenMP with GNU's entry points, which LLVM's has too; None without."""
    library = Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"
    try:
        openmp = ctypes.CDLL(str(library))  # loaded already; looks its names up in what it needs
        openmp.GOMP_parallel.argtypes = (*[ctypes.c_void_p] * 2, *[ctypes.c_uint] * 2)
        openmp.GOMP_parallel.restype = None
        for name in ("omp_get_thread_num", "omp_get_num_threads"):
            binding.add_symbol(name, ctypes.cast(getattr(openmp, name), ctypes.c_void_p).value)
    except (OSError, AttributeError):
        return None
    return openmp


@cache
def _regions() -> dict[str, Any]:
    """Return what each thread of a team calls, as C functions of the job's numbers."""
    declared = numba.cfunc(types.void(types.CPointer(types.int64)), **OPTIONS)
    return {"forward": declared(_forward_region), "backward": declared(_backward_region)}


def _forward_region(job: Any) -> None:
    a, b, c, d, e, N, H, W, filters, parts = carray(job, 10)
    pooled = (N, (H - SIDE + 1) // 2, (W - SIDE + 1) // 2, filters)
    pixels, kernels = carray(_floats(a), (N, H, W)), carray(_floats(b), (SIDE**2, filters))
    bias, output = carray(_floats(c), filters), carray(_floats(d), pooled)
    largest = carray(_bytes(e), pooled)
    _forward_parts(pixels, kernels, bias, output, largest, parts, _thread(), _threads())


def _backward_region(job: Any) -> None:
    a, b, c, d, N, H, W, filters, parts = carray(job, 9)
    pooled = (N, (H - SIDE + 1) // 2, (W - SIDE + 1) // 2, filters)
    pixels, grad = carray(_floats(a), (N, H, W)), carray(_floats(b), pooled)
    largest = carray(_bytes(c), pooled)
    sums = carray(_floats(d), (parts, SIDE**2 + 1, filters))
    _backward_parts(pixels, grad, largest, sums, _thread(), _threads())


def _pointer_to(kind: Any) -> Any:
    """Return a function of compiled code: an address, a number, as a pointer."""

    @intrinsic
    def pointer(typing_context: Any, address: Any) -> Any:
        def cast(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

        return types.CPointer(kind)(address), cast

    return pointer


_floats, _bytes = _pointer_to(types.float32), _pointer_to(types.uint8)
_thread = types.ExternalFunction("omp_get_thread_num", types.int32())
_threads = types.ExternalFunction("omp_get_num_threads", types.int32())


@compiled
def _forward_parts(
    pixels: Any, kernels: Any, bias: Any, output: Any, largest: Any, parts: int, first: int,
    stride: int,
) -> None:  # fmt: skip
    """Compute every ``stride``-th part of the images from ``first`` on."""
    for part in range(first, parts, stride):
        start, end = _bounds(len(pixels), part, parts)
        _forward_part(pixels, kernels, bias, output, largest, start, end)


@compiled
def _backward_parts(
    pixels: Any, grad: Any, largest: Any, sums: Any, first: int, stride: int
) -> None:
    """Sum the gradients of every ``stride``-th part of the images from ``first`` on."""
    for part in range(first, len(sums), stride):
        start, end = _bounds(len(pixels), part, len(sums))
        _backward_part(pixels, grad, largest, sums[part], start, end)


@compiled
def _bounds(count: int, part: int, parts: int) -> Any:
    return count * part // parts, count * (part + 1) // parts


@compiled
def _whole_lines(filters: int) -> int:
    return (filters + LANES - 1) // LANES * LANES


@compiled
def _aligned(rows: int, columns: int) -> Any:
    """Return float32 zeros (rows, columns) that start at a cache line."""
    values = np.zeros(rows * columns + LANES, np.float32)
    skipped = (64 - values.ctypes.data % 64) % 64 // 4
    return values[skipped : skipped + rows * columns].reshape(rows, columns)


@compiled
def _forward_part(
    pixels: Any, kernels: Any, bias: Any, output: Any, largest: Any, start: int, end: int
) -> None:
    """Compute the images from ``start`` to ``end``.

    pixels: (N, H, W). kernels: (9, F). bias: (F,). output, largest: (N, height, width, F), written;
    ``largest`` says which of its four positions each output is.
    """
    _, height, width, filters = output.shape
    columns = _whole_lines(filters)  # LLVM shall see that it is a multiple of the vectors
    k = _aligned(SIDE**2 + 2, columns)  # kernels, bias, and the outputs of one position
    k[: SIDE**2, :filters], k[SIDE**2, :filters] = kernels, bias
    which = np.zeros(columns, np.uint8)
    for n in range(start, end):
        for i in range(height):
            for j in range(width):
                y, x = 2 * i, 2 * j
                p00, p01, p02, p03 = _four(pixels, n, y, x)
                p10, p11, p12, p13 = _four(pixels, n, y + 1, x)
                p20, p21, p22, p23 = _four(pixels, n, y + 2, x)
                p30, p31, p32, p33 = _four(pixels, n, y + 3, x)
                for f in range(columns):
                    w0, w1, w2, w3, w4 = k[0, f], k[1, f], k[2, f], k[3, f], k[4, f]
                    w5, w6, w7, w8, b = k[5, f], k[6, f], k[7, f], k[8, f], k[9, f]
                    # fmt: off
                    upper_left = (b + p00 * w0 + p01 * w1 + p02 * w2 + p10 * w3 + p11 * w4
                                  + p12 * w5 + p20 * w6 + p21 * w7 + p22 * w8)
                    upper_right = (b + p01 * w0 + p02 * w1 + p03 * w2 + p11 * w3 + p12 * w4
                                   + p13 * w5 + p21 * w6 + p22 * w7 + p23 * w8)
                    lower_left = (b + p10 * w0 + p11 * w1 + p12 * w2 + p20 * w3 + p21 * w4
                                  + p22 * w5 + p30 * w6 + p31 * w7 + p32 * w8)
                    lower_right = (b + p11 * w0 + p12 * w1 + p13 * w2 + p21 * w3 + p22 * w4
                                   + p23 * w5 + p31 * w6 + p32 * w7 + p33 * w8)
                    # fmt: on
                    most, position = upper_left, np.uint8(0)
                    if upper_right > most:
                        most, position = upper_right, np.uint8(1)
                    if lower_left > most:
                        most, position = lower_left, np.uint8(2)
                    if lower_right > most:
                        most, position = lower_right, np.uint8(3)
                    k[SIDE**2 + 1, f], which[f] = most, position
                for f in range(filters):
                    output[n, i, j, f], largest[n, i, j, f] = k[SIDE**2 + 1, f], which[f]


@compiled
def _backward_part(pixels: Any, grad: Any, largest: Any, sums: Any, start: int, end: int) -> None:
    """Sum the gradients of the images from ``start`` to ``end``.

    pixels: (N, H, W). grad, largest: (N, height, width, F). sums: (10, F), written: the gradients
    of the kernels at each place, then of the bias.
    """
    _, height, width, filters = grad.shape
    columns, nothing = _whole_lines(filters), np.float32(0)
    k = _aligned(SIDE**2 + 1, columns)
    of_four = _aligned(4, columns)  # the gradient at each of the four positions, 0 but at one
    for n in range(start, end):
        for i in range(height):
            for j in range(width):
                for f in range(filters):
                    which, value = largest[n, i, j, f], grad[n, i, j, f]
                    k[9, f] += value
                    of_four[0, f] = value if which == 0 else nothing
                    of_four[1, f] = value if which == 1 else nothing
                    of_four[2, f] = value if which == 2 else nothing
                    of_four[3, f] = value if which == 3 else nothing
                y, x = 2 * i, 2 * j
                p00, p01, p02, p03 = _four(pixels, n, y, x)
                p10, p11, p12, p13 = _four(pixels, n, y + 1, x)
                p20, p21, p22, p23 = _four(pixels, n, y + 2, x)
                p30, p31, p32, p33 = _four(pixels, n, y + 3, x)
                for f in range(columns):
                    g0, g1, g2, g3 = of_four[0, f], of_four[1, f], of_four[2, f], of_four[3, f]
                    k[0, f] += g0 * p00 + g1 * p01 + g2 * p10 + g3 * p11
                    k[1, f] += g0 * p01 + g1 * p02 + g2 * p11 + g3 * p12
                    k[2, f] += g0 * p02 + g1 * p03 + g2 * p12 + g3 * p13
                    k[3, f] += g0 * p10 + g1 * p11 + g2 * p20 + g3 * p21
                    k[4, f] += g0 * p11 + g1 * p12 + g2 * p21 + g3 * p22
                    k[5, f] += g0 * p12 + g1 * p13 + g2 * p22 + g3 * p23
                    k[6, f] += g0 * p20 + g1 * p21 + g2 * p30 + g3 * p31
                    k[7, f] += g0 * p21 + g1 * p22 + g2 * p31 + g3 * p32
                    k[8, f] += g0 * p22 + g1 * p23 + g2 * p32 + g3 * p33
    sums[:] = k[:, :filters]


@compiled
def _four(pixels: Any, n: int, y: int, x: int) -> Any:
    return pixels[n, y, x], pixels[n, y, x + 1], pixels[n, y, x + 2], pixels[n, y, x + 3]
