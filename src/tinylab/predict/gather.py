"""The image files that a command line names: files, folders, globs, a list on standard input."""

import codecs
import glob
import os
import sys
from collections.abc import Iterable, Iterator

from tinylab.data.listing import SYSTEM_FOLDERS, is_folder, is_image, natural_key


def gather(paths: Iterable[str], others: list[str] | None = None) -> list[str]:
    """The files that ``paths`` mean, in their order; ``-`` stands for a list on standard input.

    What is not there is kept: it is a file that cannot be read. The suffixes of files in folders
    that are no images by their names, and passed over, are appended to ``others``.
    """
    named: list[str] = []
    others = [] if others is None else others
    for path in paths:
        named += _standard_input() if path == "-" else [path]
    return [file for path in named for file in _files(path, others)]


def _standard_input() -> list[str]:
    """One path a line, or each ended by a zero byte, as ``find -print0`` writes them.

    Windows ends lines with a carriage return too, and PowerShell writes UTF-16, or a mark of it.
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
    """The image files below a folder, each real folder once: links may lead in a circle.

    Hidden ones are passed over, and folders that systems add. A folder that cannot be read is
    given as if it were a file.
    """
    try:
        stat = os.stat(folder)
        with os.scandir(folder) as found:
            entries = {entry.name: is_folder(entry) for entry in found if entry.name[0] != "."}
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
