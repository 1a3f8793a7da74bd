"""The machine: device, threads, memory allocator, determinism, generators, facts."""

import contextlib
import ctypes
import hashlib
import math
import platform
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tinylab.errors import UserError
from tinylab.system.machine import default_variable, thread_limit


def keep_freed_memory() -> bool:
    """Set glibc's allocator to keep large freed blocks instead of returning them to the kernel.

    Otherwise every training step page-faults its activations again: 8.5 instead of 3.8 ms per step
    of the baseline CNN at batch size 32 on two cores. Does nothing with other C libraries. Returns
    whether it succeeded. It applies until the process ends: glibc does not report the previous
    settings, and its adaptive thresholds stay off once one is set.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4
    accepted = [
        mallopt(M_MMAP_MAX, 0),
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1),
        mallopt(M_TOP_PAD, 64 << 20),
    ]
    return accepted == [1, 1, 1]


def choose_device(wanted: str) -> torch.device:
    """Return the device for ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.

    ``auto`` is CUDA, then MPS, then CPU. Raises UserError for a device that is not available.
    """
    present = [f"cuda:{number}" for number in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        present.append("mps")
    present.append("cpu")
    if wanted == "auto":
        return torch.device(present[0])
    if wanted == "cuda" and present[0].startswith("cuda"):
        return torch.device("cuda:0")
    if wanted not in present:
        raise UserError(f"device={wanted}: not available (available: {', '.join(present)})")
    return torch.device(wanted)


@contextlib.contextmanager
def settings(device: torch.device, threads: int | None, deterministic: bool) -> Iterator[None]:
    """Configure torch to compute on ``device`` inside the block; then restore it.

    threads: CPU threads (None: as many as allowed). deterministic: bit-identical results on the
    same machine, or the fastest kernels. Restores these, the current CUDA device and torch's global
    generators, but not the allocator (keep_freed_memory).
    """
    keep_freed_memory()
    with contextlib.ExitStack() as stack:
        for get, put in _switches(device):
            stack.callback(put, get())
        if deterministic:
            # cuBLAS is deterministic only with a fixed workspace (CUDA's cuBLAS reference, 2.1.4).
            stack.enter_context(default_variable("CUBLAS_WORKSPACE_CONFIG", ":4096:8"))
        if device.type == "cuda":
            # New streams, events and graphs belong to the current device. Unlike set_device, this
            # does not create a context on the previous device, half a GB, when it switches back.
            stack.enter_context(torch.cuda.device(device))
        torch.set_num_threads(threads or thread_limit())
        _set_determinism(deterministic)
        yield


def _switches(device: torch.device) -> list[tuple[Callable[[], Any], Callable[[Any], Any]]]:
    """What ``settings`` and training change in torch: how to read it, and how to set it."""
    cudnn, memory = torch.backends.cudnn, torch.utils.deterministic
    fill = "fill_uninitialized_memory"
    switches: list[tuple[Callable[[], Any], Callable[[Any], Any]]] = [
        (torch.get_num_threads, torch.set_num_threads),
        (torch.get_deterministic_debug_mode, torch.set_deterministic_debug_mode),
        (lambda: cudnn.benchmark, lambda value: setattr(cudnn, "benchmark", value)),
        (lambda: getattr(memory, fill), lambda value: setattr(memory, fill, value)),
        (torch.get_rng_state, torch.set_rng_state),
    ]
    # A seed applies to all devices, also if only the CPU computes.
    if device.type == "cuda" or torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        switches.append((torch.cuda.get_rng_state_all, torch.cuda.set_rng_state_all))
    if device.type == "mps":
        switches.append((torch.mps.get_rng_state, torch.mps.set_rng_state))
    return switches


def _set_determinism(deterministic: bool) -> None:
    # The same switch as use_deterministic_algorithms, which imports torch's whole compiler: 4 to 8
    # s at every start.
    torch.set_deterministic_debug_mode("error" if deterministic else "default")
    torch.backends.cudnn.benchmark = not deterministic
    # Filling new memory costs a pass over it, and tinylab's kernels never read unwritten memory.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def derive_seed(seed: int, stream: str, number: int = 0) -> int:
    """Return a 63-bit seed for one purpose, so that no two random streams are related.

    A pure function of its arguments: the stream of an epoch needs no history.
    """
    digest = hashlib.sha256(f"{seed}/{stream}/{number}".encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy a CPU tensor to the device without waiting (from pinned memory on CUDA)."""
    if device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def room_for_images(device: torch.device) -> float:
    """Return the bytes that images may take on the device: half of the free memory on CUDA.

    The other half is for the network, its activations and evaluation. Elsewhere there is no limit:
    the device's memory is the main memory.
    """
    if device.type != "cuda":
        return math.inf
    free, _ = torch.cuda.mem_get_info(device)
    return free / 2


def synchronize(device: torch.device) -> None:
    """Wait until the device has finished, before a clock is read."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def device_name(device: torch.device) -> str:
    """Return the readable name of the device."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type == "mps":
        return f"Apple {platform.machine()} GPU"
    return _processor_name()


def _processor_name() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def environment(device: torch.device) -> dict[str, Any]:
    """Return facts about software, machine and code, for the record of a result."""
    commit, dirty = _git_state()
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "platform": platform.platform(),
        "device": device.type,
        "device_name": device_name(device),
        "threads": torch.get_num_threads(),
        "git_commit": commit,
        "dirty": dirty,
    }


def _git_state() -> tuple[str | None, bool | None]:
    """Return the commit of a source checkout, and whether it is dirty; None when installed."""
    here = Path(__file__).resolve()
    if "site-packages" in here.parts:
        return None, None

    def git(*words: str) -> str:
        done = subprocess.run(
            ["git", "-C", str(here.parent), *words], capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    try:
        return git("rev-parse", "HEAD"), git("status", "--porcelain", "--", ".") != ""
    except (OSError, subprocess.CalledProcessError):
        return None, None


def command_line(command: str = "train") -> str:
    """Return the command as typed, quoted for a shell."""
    import shlex

    typed = sys.argv[1:]
    words = [] if typed[:1] == [command] else [command]  # Hydra's own entry point does not get it
    return shlex.join(["tinylab", *words, *typed])
