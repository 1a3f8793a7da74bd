"""The image files on a command line: files, folders, globs, a list from standard input."""

import codecs
import glob
import os
import sys
from collections.abc import Iterable, Iterator

from tinylab.data.listing import SYSTEM_FOLDERS, is_folder, is_image, natural_key


def gather(paths: Iterable[str], others: list[str] | None = None) -> list[str]:
    """Return the files in ``paths``, in order; ``-`` means a list on standard input.

    Missing files are kept, and reported as unreadable. The suffixes of skipped non-image files in
    folders are appended to ``others``.
    """
    named: list[str] = []
    others = [] if others is None else others
    for path in paths:
        named += _standard_input() if path == "-" else [path]
    return [file for path in named for file in _files(path, others)]


def _standard_input() -> list[str]:
    """Split a list by lines, or by zero bytes, as ``find -print0`` writes them.

    Windows ends lines with a carriage return too, and PowerShell writes UTF-16, or a byte-order
    mark.
    """
    data = sys.stdin.buffer.read()
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        data = data.decode("utf-16", "replace").encode()
    data = data.removeprefix(codecs.BOM_UTF8)
    if b"\0" in data:
        return [os.fsdecode(path) for path in data.split(b"\0") if path]
    lines = [
        line if os.path.lexists(line) else line.removesuffix(b"\r") for line in data.split(b"\n")
    ]
    return [os.fsdecode(path) for path in lines if path]


def _files(path: str, others: list[str]) -> Iterable[str]:
    if os.path.isdir(path):
        return _inside(path, set(), others)
    if os.path.lexists(path) or not glob.has_magic(path):
        return [path]
    matches = sorted(glob.glob(path, recursive=True), key=natural_key)
    return [file for match in matches for file in _files(match, others)] or [path]


def _inside(folder: str, seen: set[tuple[int, int]], others: list[str]) -> Iterator[str]:
    """Return the image files below a folder, each real folder once: links may be circular.

    Skips hidden files and system folders. An unreadable folder is returned as if it were a file.
    """
    try:
        stat = os.stat(folder)
        with os.scandir(folder) as scanned:
            entries = {entry.name: is_folder(entry) for entry in scanned if entry.name[0] != "."}
    except OSError:
        yield folder
        return
    if (stat.st_dev, stat.st_ino) in seen:
        return
    seen.add((stat.st_dev, stat.st_ino))
    names = sorted(entries.keys() - set(SYSTEM_FOLDERS), key=natural_key)
    for name in names:
        if not entries[name] and is_image(name):
            yield os.path.join(folder, name)
        elif not entries[name]:
            others.append(os.path.splitext(name)[1])
    for name in names:
        if entries[name]:
            yield from _inside(os.path.join(folder, name), seen, others)
