"""Decode many images at once."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import chain

from tinylab.system import machine
from tinylab.ui.console import track

CHUNK = 64  # images per thread task; one each would take a sixth more time


def in_threads(decode: Callable[[int], None], count: int) -> None:
    """Call ``decode`` with 0 to ``count`` - 1 in several threads, with a progress bar.

    Re-raises its first exception.
    """

    def decode_all(chunk: range) -> range:
        for index in chunk:
            decode(index)
        return chunk

    chunks = [range(start, min(start + CHUNK, count)) for start in range(0, count, CHUNK)]
    pool = ThreadPoolExecutor(machine.cores())
    try:
        done = chain.from_iterable(pool.map(decode_all, chunks))
        for _ in track(done, "decoding images", count):
            pass
    finally:
        pool.shutdown(cancel_futures=True)  # an interrupt cancels what has not started
