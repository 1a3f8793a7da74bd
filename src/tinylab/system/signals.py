"""Signals that ask a training to stop: Ctrl-C, SIGTERM, and SLURM's SIGUSR1."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType


@contextlib.contextmanager
def watch() -> Iterator[Callable[[], int | None]]:
    """Yield a function that tells the number of the first signal that came, or None.

    The loop asks it after every step. A second Ctrl-C leaves at once, by KeyboardInterrupt: files
    are written whole or not at all, so that does no harm.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None  # only a main thread can be told of signals
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
