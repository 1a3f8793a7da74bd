"""How much of the machine this process may use, and how Python uses it. No torch in here."""

import contextlib
import gc
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path


def cores() -> int:
    """The CPU cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def gpus() -> int:
    """The NVIDIA GPUs that CUDA may show to this process, by their device files."""
    present = [path for path in Path("/dev").glob("nvidia*") if re.fullmatch(r"\D+\d+", path.name)]
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return len(present)
    return min(len(present), len([name for name in visible.split(",") if name.strip()]))


@contextlib.contextmanager
def relaxed_gc() -> Iterator[None]:
    """In the block Python looks for reference cycles once in 100,000 new objects, and not in 700.

    Imports make a million objects that live to the end, and each full search through them takes
    0.2 s: a fifth of the time of importing torch, and as much again in every job of a sweep.
    """
    before = gc.get_threshold()
    gc.set_threshold(100_000, 50, 100)
    try:
        yield
    finally:
        gc.set_threshold(*before)


@contextlib.contextmanager
def default_variable(name: str, value: str) -> Iterator[None]:
    """In the block an environment variable has ``value``, unless the user has set it already."""
    if name in os.environ:
        yield
        return
    os.environ[name] = value
    try:
        yield
    finally:
        os.environ.pop(name, None)


def forget_garbage() -> None:
    """At the end of a process: keep Python from a last search for reference cycles.

    It frees memory that the system takes back anyway, and takes 0.1 s of the half second of a short
    answer, and 0.5 s where torch, matplotlib and TensorBoard are loaded. Files are closed by then,
    and what is registered to run at exit still runs. Triton, which torchvision brings in, counts
    what is still alive then and prints 30 lines on it, so with it the search is made.
    """
    if "triton" not in sys.modules:
        gc.freeze()
