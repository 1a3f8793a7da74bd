"""What the workers of a sweep share on disk: a lock and heartbeats.

Each worker touches its own file. A worker whose file is older than the lease is dead, and its
trials are free. Both times come from the file server, so clocks need not agree.
"""

import contextlib
import inspect
import os
import secrets
import socket
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self

from filelock import FileLock

from tinylab.errors import UserError
from tinylab.system.files import as_shared, disk_errors

TOUCHES = 6  # heartbeats per lease: a slow disk may miss some
# Where flock is missing, filelock 4 would use marker files, which a killed process leaves behind.
BY_FLOCK = {"fallback_to_soft": False}
IS_KNOWN = BY_FLOCK.keys() <= inspect.signature(FileLock.__init__).parameters.keys()
OPTIONS: dict[str, Any] = BY_FLOCK if IS_KNOWN else {}


class BriefLock:
    """A reentrant file lock, held briefly by one of many processes.

    By flock, which Linux also passes to NFS servers: it ends with the process, however that ends,
    and nobody can release another's lock.
    """

    def __init__(self, file: Path) -> None:
        self._folder = file.absolute().parent / ".locks"
        self._lock = FileLock(self._folder / f"{file.name}.lock", poll_interval=0.01, **OPTIONS)

    def acquire(self) -> bool:
        """Acquire the lock. Raises UserError if the disk does not support it."""
        with disk_errors(self._folder), as_shared(self._folder.parent):
            self._folder.mkdir(parents=True, exist_ok=True)
        try:
            with as_shared(self._folder):
                self._lock.acquire()
        except (OSError, NotImplementedError) as error:
            raise UserError(
                f"{self._folder}: workers need file locks, which do not work on this disk "
                f"({error})\n"
                "  expected a local disk, or a shared one with locks such as NFS 4: outputs=FOLDER"
            ) from error
        return True

    def release(self) -> None:
        """Release the lock."""
        self._lock.release()

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(self, *_: Any) -> None:
        self.release()


def has_working_locks(folder: Path) -> bool:
    """Return whether a second lock on a file of ``folder`` is refused on this host, as required."""
    file = folder / f".lock-{secrets.token_hex(4)}.tmp"
    try:
        first, second = FileLock(file, **OPTIONS), FileLock(file, **OPTIONS)
        with first, contextlib.suppress(TimeoutError), second.acquire(timeout=0):
            return False
    except (OSError, NotImplementedError):
        return False
    finally:
        file.unlink(missing_ok=True)
    return True


class Heartbeat:
    """A worker's heartbeat inside the block; also tells whether others are alive."""

    def __init__(self, folder: Path, seconds: float) -> None:
        self.name = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
        self.seconds = seconds  # seconds without a heartbeat after which a worker is dead
        self._folder = folder
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)

    def dead(self, names: Iterable[str]) -> set[str]:
        """Return the workers that have given no heartbeat within the lease."""
        self._touch()  # the server's current time
        now = _changed(self._folder / self.name)
        if now is None:
            return set()  # a worker that cannot look must not decide
        touched = {name: _changed(self._folder / name) for name in set(names) - {self.name}}
        return {name for name, at in touched.items() if at is None or now - at > self.seconds}

    def _touch(self) -> None:
        with contextlib.suppress(OSError):  # the disk is temporarily unavailable
            (self._folder / self.name).touch()

    def _beat(self) -> None:
        while not self._is_over.wait(self.seconds / TOUCHES):
            self._touch()

    def __enter__(self) -> Self:
        with disk_errors(self._folder), as_shared(self._folder.parent):
            self._folder.mkdir(parents=True, exist_ok=True)
        self._touch()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Free this worker's unfinished trials at once."""
        self._is_over.set()
        self._thread.join()
        (self._folder / self.name).unlink(missing_ok=True)


def _changed(file: Path) -> float | None:
    """Return when a file was touched; None if it does not exist. Opened, since NFS caches stat."""
    try:
        with file.open("rb") as opened:
            return os.fstat(opened.fileno()).st_mtime
    except OSError:
        return None
