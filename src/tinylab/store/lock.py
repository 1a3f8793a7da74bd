"""Who may write into a folder. The operating system frees a lock when its owner ends, anyhow."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from tinylab.errors import UserError
from tinylab.system.files import disk_errors
from tinylab.ui.console import say


@contextlib.contextmanager
def sole_writer(folder: Path, wait: bool = True) -> Iterator[None]:
    """Hold the folder's lock; waits while another process trains the same run.

    Raises UserError at once where another process has it and ``wait`` is false.
    """
    path = _lock_path(folder)
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path)
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            if not wait:
                raise UserError(f"{folder.name} is being trained by another process") from error
            say(f"{folder.name} is being trained by another process: waiting for it to end")
            lock.acquire()
    try:
        # What a killed process was writing when it was killed.
        for rest in folder.glob(".*.tmp"):
            rest.unlink()
        yield
    finally:
        lock.release()


def is_being_written(folder: Path) -> bool:
    """Whether another process holds the folder's lock. It is left in peace."""
    path = _lock_path(folder)
    if not path.exists():
        return False
    try:
        with FileLock(path).acquire(timeout=0):
            return False
    except Timeout:
        return True
    except OSError:
        return False  # in a folder where we may not write, nobody else can be asked


def _lock_path(folder: Path) -> Path:
    return folder.parent / ".locks" / f"{folder.name}.lock"
