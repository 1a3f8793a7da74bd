"""Files that are whole or not there: written aside, flushed to the disk, then renamed."""

import contextlib
import json
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tinylab.errors import UserError

# What helps where there is no room: for what lies in ``outputs``, and for a file that was named.
IN_OUTPUTS = "free some space or choose another folder (outputs=FOLDER), then repeat the command"
NAMED = "free some space or name another file, then repeat the command"


@contextlib.contextmanager
def atomic_path(path: Path, remedy: str = IN_OUTPUTS) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; on success it replaces ``path`` durably.

    A crash at any instant leaves the old file or the new one, never a part of it. Raises
    UserError with the remedy where the disk is full or the folder cannot be written.
    """
    with disk_errors(path, remedy), as_shared(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
        temporary.touch(exist_ok=False)  # unlike mkstemp's, readable by whom the umask allows
    try:
        with disk_errors(path, remedy):
            yield temporary
            _flush(temporary)
            temporary.replace(path)
            _flush(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def as_shared(folder: Path) -> Iterator[None]:
    """In the block, new files and folders get the rights that ``folder`` gives its group.

    That is for a folder which its group may write; elsewhere, and in a sticky one such as /tmp,
    where everyone keeps their own, the umask alone decides. ``folder`` need not exist yet.
    """
    rights = _group_rights(folder)
    before = os.umask(0o077)
    os.umask(before & ~rights)
    try:
        yield
    finally:
        os.umask(before)


def _group_rights(folder: Path) -> int:
    for place in (folder, *folder.parents):
        with contextlib.suppress(OSError):
            mode = place.stat().st_mode
            is_shared = mode & stat.S_IWGRP and not mode & stat.S_ISVTX
            return mode & stat.S_IRWXG if is_shared else 0
    return 0


def write_bytes(path: Path, data: bytes, remedy: str = IN_OUTPUTS) -> None:
    """Write ``data`` to ``path`` durably and all at once."""
    with atomic_path(path, remedy) as temporary:
        temporary.write_bytes(data)


def write_text(path: Path, text: str, remedy: str = IN_OUTPUTS) -> None:
    """Write ``text`` to ``path`` as UTF-8, durably and all at once; what is no text is spelled."""
    write_bytes(path, text.encode("utf-8", "backslashreplace"), remedy)


def write_json(path: Path, value: object) -> None:
    """Write ``value`` as indented JSON, durably and all at once. NaN is refused."""
    write_text(path, _indented(value, "\n") + "\n")


def _indented(value: Any, margin: str) -> str:
    """JSON with a line for each value, but for a list of numbers or words, which has one in all.

    A line for each cell of a confusion matrix of 1,600 classes took 4 s and 0.5 GB.
    """
    deeper = f"{margin}  "
    if isinstance(value, dict) and value:
        lines = [
            f"{json.dumps(str(key))}: {_indented(each, deeper)}" for key, each in value.items()
        ]
        return f"{{{deeper}{f',{deeper}'.join(lines)}{margin}}}"
    if isinstance(value, list | tuple) and any(isinstance(v, dict | list | tuple) for v in value):
        lines = [_indented(each, deeper) for each in value]
        return f"[{deeper}{f',{deeper}'.join(lines)}{margin}]"
    return json.dumps(value, allow_nan=False)


def read_json(path: Path) -> dict[str, Any] | None:
    """A JSON object from a file; None where the file is absent or is something else."""
    with contextlib.suppress(OSError, ValueError):
        value = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(value, dict):
            return value
    return None


def write_npz(path: Path, /, **arrays: Any) -> None:
    """Write NumPy arrays by name, durably and all at once."""
    import numpy as np

    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)


@contextlib.contextmanager
def disk_errors(path: Path, remedy: str = IN_OUTPUTS) -> Iterator[None]:
    """Turn an operating-system error about ``path`` into a UserError that names the remedy."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{path}: cannot be written: {error.strerror or error}\n  {remedy}"
        ) from error


def _flush(path: Path) -> None:
    """Ask the operating system to put the file or folder on the disk now."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
