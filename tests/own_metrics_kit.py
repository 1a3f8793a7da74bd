"""What a process keeps of user code: the own metrics in the table, and the files that it knows."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tinylab.config import modules, options, user_code
from tinylab.config.metrics import CHOOSABLE, METRICS, MONITORED


@contextmanager
def table_restored() -> Iterator[None]:
    before = dict(METRICS), list(MONITORED), list(CHOOSABLE)
    yield
    options.use_files([])
    # A class of torch that one test names is no user code in the next.
    user_code._files -= {file for file in user_code._files if modules.is_library(Path(file))}
    METRICS.clear()
    METRICS.update(before[0])
    MONITORED[:], CHOOSABLE[:] = before[1:]
