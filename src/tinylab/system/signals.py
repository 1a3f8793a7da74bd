"""Signals that stop a training: Ctrl-C, SIGTERM, and SLURM's SIGUSR1."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType


@contextlib.contextmanager
def watch() -> Iterator[Callable[[], int | None]]:
    """Yield a function that returns the number of the first signal received, or None.

    The loop calls it after every step. A second Ctrl-C exits immediately, by KeyboardInterrupt:
    files are written atomically, so that is safe.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None  # signals are only delivered to the main thread
        return
    received: list[int] = []

    def note(signum: int, frame: FrameType | None) -> None:
        received.append(signum)
        signal.signal(signal.SIGINT, signal.default_int_handler)

    names = ("SIGINT", "SIGTERM", "SIGUSR1")
    watched = [getattr(signal, name) for name in names if hasattr(signal, name)]
    before = {signum: signal.signal(signum, note) for signum in watched}
    try:
        yield lambda: received[0] if received else None
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
