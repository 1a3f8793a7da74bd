"""What the workers of one sweep share on a disk: a lock, and signs of life.

Each worker touches a file of its own. One whose file is older than the lease is dead: its trials
are free. Both times are the file server's, so that no two machines need equal clocks.
"""

import contextlib
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

TOUCHES = 6  # within a lease: a slow disk may miss some


class BriefLock:
    """A lock on a file, held for moments by one of many processes; who has it may take it again.

    By flock, which Linux gives to an NFS server too: it ends with the process, however that ends,
    and nobody can release another's.
    """

    def __init__(self, file: Path) -> None:
        self._folder = file.absolute().parent / ".locks"
        self._lock = FileLock(self._folder / f"{file.name}.lock", poll_interval=0.01)

    def acquire(self) -> bool:
        """Wait for the lock. Raises UserError where the disk has none."""
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
        """Let the next one have it."""
        self._lock.release()

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(self, *_: Any) -> None:
        self.release()


def has_working_locks(folder: Path) -> bool:
    """Whether a second lock on one file of ``folder`` is refused, as it must be, on this host."""
    file = folder / f".lock-{secrets.token_hex(4)}.tmp"
    try:
        with FileLock(file), contextlib.suppress(TimeoutError), FileLock(file).acquire(timeout=0):
            return False
    except (OSError, NotImplementedError):
        return False
    finally:
        file.unlink(missing_ok=True)
    return True


class Heartbeat:
    """One worker's sign of life, from entering to leaving it; and whether others are alive."""

    def __init__(self, folder: Path, seconds: float) -> None:
        self.name = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
        self.seconds = seconds  # without a sign, after which a worker is dead
        self._folder = folder
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)

    def dead(self, names: Iterable[str]) -> set[str]:
        """Those of the workers that have given no sign of life within the lease."""
        self._touch()  # the server's clock now
        now = _changed(self._folder / self.name)
        if now is None:
            return set()  # who cannot look must not judge
        touched = {name: _changed(self._folder / name) for name in set(names) - {self.name}}
        return {name for name, at in touched.items() if at is None or now - at > self.seconds}

    def _touch(self) -> None:
        with contextlib.suppress(OSError):  # the disk is away for a moment
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
        """What this worker had not ended is free at once."""
        self._is_over.set()
        self._thread.join()
        (self._folder / self.name).unlink(missing_ok=True)


def _changed(file: Path) -> float | None:
    """When a file was touched; None where there is none. Opened, since NFS remembers a stat."""
    try:
        with file.open("rb") as opened:
            return os.fstat(opened.fileno()).st_mtime
    except OSError:
        return None
