"""How much of the machine this process may use, and Python's settings. Does not import torch."""

import contextlib
import gc
import itertools
import math
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path


def cores() -> int:
    """Return the CPU cores that this process may use, by affinity and container quota."""
    if hasattr(os, "sched_getaffinity"):
        present = len(os.sched_getaffinity(0))
    else:
        present = os.cpu_count() or 1
    return max(1, int(min(present, _quota(Path("/")))))


def thread_limit() -> int:
    """Return how many threads torch may use: ``cores``, or less by ``OMP_NUM_THREADS``."""
    asked = re.match(r"\s*(\d+)", os.environ.get("OMP_NUM_THREADS", ""))
    return min(cores(), int(asked[1])) if asked and int(asked[1]) else cores()


def _quota(root: Path) -> float:
    """Return the cores allowed by Linux's control groups; infinite without a limit.

    Version 2 has a file ``cpu.max`` in each group above the process, version 1 two files in its own
    group (https://docs.kernel.org/admin-guide/cgroup-v2.html, cgroup-v1/cpu.html).
    """
    with contextlib.suppress(OSError, ValueError):
        lines = (root / "proc/self/cgroup").read_text().splitlines()
        groups = [line.split(":", 2) for line in lines if line.count(":") > 1]
        return min((_limit(root / "sys/fs/cgroup", *group) for group in groups), default=math.inf)
    return math.inf


def _limit(mounted: Path, _: str, controllers: str, path: str) -> float:
    if controllers == "":
        own = mounted / path.strip("/")
        above = [folder for folder in (own, *own.parents) if folder.is_relative_to(mounted)]
        return min(_ratio(folder / "cpu.max") for folder in above)
    if "cpu" not in controllers.split(","):
        return math.inf
    # Inside a container the group's path is the host's, and its files are at the root.
    folders = [mounted / controllers / path.strip("/"), mounted / "cpu" / path.strip("/"),
              mounted / controllers, mounted / "cpu"]  # fmt: skip
    files = ("cpu.cfs_quota_us", "cpu.cfs_period_us")
    return min(_ratio(*(folder / name for name in files)) for folder in folders)


def _ratio(*files: Path) -> float:
    """Return quota / period, from one file or two; infinite without a limit."""
    try:
        quota, period = " ".join(file.read_text() for file in files).split()
        return int(quota) / int(period) if quota not in ("max", "-1") else math.inf
    except (OSError, ValueError):
        return math.inf


def has_bfloat16(info: Path = Path("/proc/cpuinfo")) -> bool | None:
    """Whether the processor multiplies bfloat16 numbers itself; None if it does not say so.

    x86: AVX512_BF16 or AMX. Arm: bf16.
    """
    with contextlib.suppress(OSError):
        flags = re.search(r"^(?:flags|Features)\s*:(.*)$", info.read_text(), re.MULTILINE)
        if flags is not None:
            return not {"avx512_bf16", "amx_bf16", "bf16"}.isdisjoint(flags[1].split())
    return None


def load() -> float:
    """Return how many processes compete for this machine, averaged over the last minute."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0


def contention() -> str:
    """Return a line with the remedy if other processes use the cores; otherwise nothing."""
    if load() <= cores() / 2:
        return ""
    return (
        f"{load():.0f} processes compete for the {cores()} cores: threads=1 is faster next to them"
    )


def gpus() -> int:
    """Return the NVIDIA GPUs visible to this process, by their device files.

    In ``CUDA_VISIBLE_DEVICES`` the names before the first invalid one count, as for CUDA: ``-1``,
    or SLURM's ``NoDevFiles``, hides all.
    """
    present = [path for path in Path("/dev").glob("nvidia*") if re.fullmatch(r"\D+\d+", path.name)]
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return len(present)
    names = (name.strip() for name in visible.split(","))
    valid = itertools.takewhile(lambda name: re.match(r"\d|GPU-|MIG-", name), names)
    return min(len(present), len(list(valid)))


@contextlib.contextmanager
def relaxed_gc() -> Iterator[None]:
    """Inside the block Python searches for reference cycles every 100,000 new objects, not 700.

    Imports create a million objects that live to the end, and each full search takes 0.2 s: a fifth
    of the time to import torch, and as much again in every job of a sweep.
    """
    before = gc.get_threshold()
    gc.set_threshold(100_000, 50, 100)
    try:
        yield
    finally:
        gc.set_threshold(*before)


@contextlib.contextmanager
def default_variable(name: str, value: str) -> Iterator[None]:
    """Set an environment variable inside the block, unless the user has set it already."""
    if name in os.environ:
        yield
        return
    os.environ[name] = value
    try:
        yield
    finally:
        os.environ.pop(name, None)


@contextlib.contextmanager
def tuned() -> Iterator[None]:
    """Configure Python and torch's threads for training inside the block; then restore them."""
    # How long torch's OpenMP threads spin for one another before they sleep; read when torch is
    # imported. With the default, one busy neighbour made the baseline CNN's step of 5.6 ms take 60
    # to 100 ms on two cores; with this it takes 7 ms, alone or not (medians of six and three runs).
    with default_variable("GOMP_SPINCOUNT", "10000"), relaxed_gc():
        yield


def forget_garbage() -> None:
    """At the end of a process, skip Python's last search for reference cycles.

    It frees memory that the system reclaims anyway, and takes 0.1 s of the half second of a short
    answer, and 0.5 s if torch, matplotlib and TensorBoard are loaded. Files are closed by then, and
    atexit handlers still run. Triton, which torchvision imports, counts live objects then and
    prints 30 lines about them, so with it the search is made.
    """
    if "triton" not in sys.modules:
        gc.freeze()
