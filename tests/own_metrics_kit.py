"""The table of metrics as it was: those of a user's own stay in it as long as the process lives."""

from collections.abc import Iterator
from contextlib import contextmanager

from tinylab.config import options
from tinylab.config.metrics import CHOOSABLE, METRICS, MONITORED


@contextmanager
def table_restored() -> Iterator[None]:
    before = dict(METRICS), list(MONITORED), list(CHOOSABLE)
    yield
    options.use_files([])
    METRICS.clear()
    METRICS.update(before[0])
    MONITORED[:], CHOOSABLE[:] = before[1:]
