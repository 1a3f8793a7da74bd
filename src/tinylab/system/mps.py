"""NVIDIA's Multi-Process Service: kernels of several processes run on one GPU at the same time.

Without it a GPU serves its processes in turn, and a small network leaves most of it idle. Each
process computes what it would alone: no share of the GPU is set per process, which could change
the kernels. https://docs.nvidia.com/deploy/mps/
"""

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tinylab.system.machine import default_variable

PIPES, LOGS = "CUDA_MPS_PIPE_DIRECTORY", "CUDA_MPS_LOG_DIRECTORY"
CONTROL = "nvidia-cuda-mps-control"
DEFAULT_PIPES = Path("/tmp/nvidia-mps")  # of a service that somebody has started for all
START_SECONDS = 30.0
# Ends the service when its input closes, however the process at the other end has ended.
GUARD = f'cat >/dev/null; echo quit | {CONTROL}; rm -rf "$0"'
# Whether a new process gets its context from a service: CU_DEVICE_ATTRIBUTE_MPS_ENABLED, which
# drivers before CUDA 12.4 do not know.
PROBE = """
import ctypes
cuda, context, is_on = ctypes.CDLL("libcuda.so.1"), ctypes.c_void_p(), ctypes.c_int(1)
assert cuda.cuInit(0) == 0
cuda.cuDeviceGetAttribute(ctypes.byref(is_on), 133, 0)
assert is_on.value and cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), 0) == 0
"""


@contextlib.contextmanager
def served() -> Iterator[bool]:
    """In the block, processes that are started share the GPUs by the service; whether they do.

    One that somebody has started is used, else one is started in a folder of its own, and ended
    with the block or with this process. False where there is none: the GPUs are shared in turn.
    """
    if Path(os.environ.get(PIPES, DEFAULT_PIPES)).exists():
        yield _is_on()
    elif PIPES in os.environ or shutil.which(CONTROL) is None:
        yield False
    else:
        folder = tempfile.mkdtemp(prefix="tinylab-mps-")  # short: it holds sockets
        with default_variable(PIPES, folder), default_variable(LOGS, folder), _started(folder):
            is_on = _is_on()
            if not is_on:
                os.environ.pop(PIPES)  # what does not work is not waited for
            yield is_on


@contextlib.contextmanager
def _started(folder: str) -> Iterator[None]:
    # GPUs are numbered for the service as for all; each process chooses among them.
    own = {name: text for name, text in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"}
    quiet = {"env": own, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        subprocess.run([CONTROL, "-d"], timeout=START_SECONDS, **quiet)  # type: ignore[call-overload]
    guard = subprocess.Popen(  # type: ignore[call-overload]
        ["sh", "-c", GUARD, folder], stdin=subprocess.PIPE, start_new_session=True, **quiet
    )
    try:
        yield
    finally:
        guard.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            guard.wait(START_SECONDS)


def _is_on() -> bool:
    try:
        probe = subprocess.run(
            [sys.executable, "-c", PROBE], timeout=START_SECONDS, stderr=subprocess.DEVNULL
        )
    except subprocess.SubprocessError:
        return False
    return probe.returncode == 0
