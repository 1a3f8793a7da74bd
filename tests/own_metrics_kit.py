"""What a process keeps of user code: the own metrics in the table, and the files that it knows."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tinylab.config import modules, options, user_code
from tinylab.config.metrics import CHOOSABLE, METRICS, MONITORED


@contextmanager
def table_restored() -> Iterator[None]:
    before = dict(METRICS), list(MONITORED), list(CHOOSABLE)
    files = set(user_code._files)
    yield
    options.use_files([])
    # A class of torch that one test names is no user code in the next.
    new = user_code._files - files
    user_code._files -= {each for each in new if modules.is_library(Path(each))}
    METRICS.clear()
    METRICS.update(before[0])
    MONITORED[:], CHOOSABLE[:] = before[1:]
