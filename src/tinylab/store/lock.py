"""Exclusive write access to a folder. The operating system releases a lock when its owner ends."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from tinylab.errors import UserError
from tinylab.system.files import as_shared, disk_errors
from tinylab.ui.console import say


@contextlib.contextmanager
def sole_writer(folder: Path, wait: bool = True, busy: str = "being trained") -> Iterator[bool]:
    """Hold the folder's lock; waits while another process trains the same run.

    Yields whether it had to wait. Files created in the block are group-writable if the parent
    folder is. ``busy`` is what another process may do to it, in words. Raises UserError at once if
    another process has the lock and ``wait`` is false.
    """
    with as_shared(folder.parent):
        lock = FileLock(_lock_path(folder))
        waited = _acquire(lock, f"{folder.name} is {busy} by another process", wait)
        try:
            # Temporary files of a killed process.
            for rest in folder.glob(".*.tmp"):
                with contextlib.suppress(OSError):  # another user's, or gone meanwhile
                    rest.unlink()
            yield waited
        finally:
            lock.release()


def _acquire(lock: FileLock, busy: str, wait: bool) -> bool:
    path = Path(lock.lock_file)
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            _take(lock, path, timeout=0)
        except Timeout as error:
            if not wait:
                raise UserError(busy) from error
            say(f"{busy}: waiting")
            _take(lock, path, timeout=-1)
            return True
    return False


def _take(lock: FileLock, path: Path, timeout: float) -> None:
    try:
        lock.acquire(timeout=timeout)
    except PermissionError:
        # Another user's, which only its owner may open for writing.
        with _held_by_reading(path, wait=timeout < 0) as handle:
            # A process that opened the old file before this, and locks it later, sees that it is
            # gone.
            if os.path.samestat(path.stat(), os.fstat(handle)):
                path.unlink()
        lock.acquire(timeout=timeout)


@contextlib.contextmanager
def _held_by_reading(path: Path, wait: bool) -> Iterator[int]:
    """Hold a lock file that is read-only. Raises Timeout if another process has it."""
    import fcntl  # not on Windows, where read access implies write access

    handle = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield handle
    except BlockingIOError as error:
        raise Timeout(str(path)) from error
    finally:
        os.close(handle)


def is_being_written(folder: Path) -> bool:
    """Return whether another process holds the folder's lock, without disturbing it."""
    path = _lock_path(folder)
    try:
        if not path.exists():
            return False
        try:
            with FileLock(path).acquire(timeout=0):
                return False
        except PermissionError:
            with _held_by_reading(path, wait=False):
                return False
    except Timeout:
        return True
    except OSError:
        return False  # without read access to the folder, nobody else can be detected


def _lock_path(folder: Path) -> Path:
    return folder.parent / ".locks" / f"{folder.name}.lock"
