"""The identity of a folder of images, wherever it is: a digest of its files' names and contents.

The files are read once; their hashes are cached by size, times and inode, so that a replaced file
of equal size and time is detected, and the next start only stats the files.
"""

import contextlib
import hashlib
import json
import os
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tinylab.data.listing import Listing
from tinylab.errors import UserError
from tinylab.system import machine
from tinylab.system.files import write_text
from tinylab.system.paths import cache_root


def digest(files: Listing) -> str:
    """Return SHA-256 over each file's name, class, part and content, whatever the root is called.

    Names are compared in Unicode's composed form, since file systems differ in it.
    """
    total = hashlib.sha256(repr((files.num_val, files.num_test)).encode())
    contents = _contents(files)
    for name, label, content in zip(files.names, files.labels.tolist(), contents, strict=True):
        composed = unicodedata.normalize("NFC", name)
        line = f"{composed}\0{files.classes[label]}\0{content}\n"
        total.update(line.encode("utf-8", "surrogateescape"))
    return total.hexdigest()[:32]


def _contents(files: Listing) -> list[str]:
    """Return a hash of each file's bytes; a placeholder if unreadable, which the reader reports."""
    path = _hashes_file(files.root)
    known = _read(path)
    stamps = [_stamp(files.root / name) for name in files.names]
    kept = [known.get(name) for name in files.names]
    new = [at for at, each in enumerate(kept) if each is None or each[:-1] != stamps[at]]
    hashes = [each[-1] if each is not None else "" for each in kept]
    with ThreadPoolExecutor(machine.cores()) as pool:
        digests = pool.map(_sha256, (files.root / files.names[at] for at in new))
        for at, value in zip(new, digests, strict=True):
            hashes[at] = value
    if new:
        rows = zip(files.names, stamps, hashes, strict=True)
        _write(path, {name: [*stamp, value] for name, stamp, value in rows})
    return hashes


def _stamp(file: Path) -> list[int]:
    try:
        stat = os.stat(file)
    except OSError:
        return []
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]


def _sha256(file: Path) -> str:
    try:
        with file.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError:
        return "unreadable"


def _hashes_file(root: Path) -> Path:
    name = hashlib.sha256(os.fsencode(root.resolve())).hexdigest()[:16]
    return cache_root() / "contents" / f"{name}.json"


def _read(path: Path) -> dict[str, Any]:
    with contextlib.suppress(OSError, ValueError):
        content = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(content, dict):
            return content
    return {}


def _write(path: Path, rows: dict[str, Any]) -> None:
    with contextlib.suppress(UserError):  # if they cannot be saved, they are read again
        write_text(path, json.dumps(rows))
