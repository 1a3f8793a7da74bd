"""What a process keeps of user code: the own metrics in the table, and the files that it knows."""

from collections.abc import Iterator
from contextlib import contextmanager

from tinylab.config import options, user_code
from tinylab.config.metrics import CHOOSABLE, METRICS, MONITORED


@contextmanager
def table_restored() -> Iterator[None]:
    before = dict(METRICS), list(MONITORED), list(CHOOSABLE)
    files = set(user_code._files)
    yield
    options.use_files([])
    user_code._files.intersection_update(files)
    METRICS.clear()
    METRICS.update(before[0])
    MONITORED[:], CHOOSABLE[:] = before[1:]
