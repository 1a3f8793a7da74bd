"""The image files that a command line names: files, folders, globs, a list on standard input."""

import glob
import os
import sys
from collections.abc import Iterable, Iterator

from tinylab.data.listing import SUFFIXES, natural_key


def gather(paths: Iterable[str]) -> list[str]:
    """The files that ``paths`` mean, in their order; ``-`` stands for a list on standard input.

    What is not there is kept: it is a file that cannot be read.
    """
    named: list[str] = []
    for path in paths:
        named += _standard_input() if path == "-" else [path]
    return [file for path in named for file in _files(path)]


def _standard_input() -> list[str]:
    """One path a line, or each ended by a zero byte, as ``find -print0`` writes them."""
    data = sys.stdin.buffer.read()
    separator = b"\0" if b"\0" in data else b"\n"
    return [os.fsdecode(path) for path in data.split(separator) if path]


def _files(path: str) -> Iterable[str]:
    if os.path.isdir(path):
        return _inside(path, set())
    if os.path.lexists(path) or not glob.has_magic(path):
        return [path]
    matches = sorted(glob.glob(path, recursive=True), key=natural_key)
    return [file for match in matches for file in _files(match)] or [path]


def _inside(folder: str, seen: set[tuple[int, int]]) -> Iterator[str]:
    """The image files below a folder, each real folder once: links may lead in a circle.

    Hidden ones are passed over. A folder that cannot be read is given as if it were a file.
    """
    try:
        stat = os.stat(folder)
        with os.scandir(folder) as found:
            entries = {entry.name: _is_folder(entry) for entry in found if entry.name[0] != "."}
    except OSError:
        yield folder
        return
    if (stat.st_dev, stat.st_ino) in seen:
        return
    seen.add((stat.st_dev, stat.st_ino))
    names = sorted(entries, key=natural_key)
    for name in names:
        if not entries[name] and name.lower().endswith(SUFFIXES):
            yield os.path.join(folder, name)
    for name in names:
        if entries[name]:
            yield from _inside(os.path.join(folder, name), seen)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether it is a folder, even of a path too long to be opened, or a link to one."""
    if entry.is_symlink():
        return os.path.isdir(entry.path)
    return entry.is_dir(follow_symlinks=False)
