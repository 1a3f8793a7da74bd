"""Listings of image files and their labels: shared by class folders and label tables.

``class_tree.py`` reads class folders, ``label_table.py`` a table of labels. Only names are read
here, no images. Both give the same order, so the same files give the same data, split and results.
Names are equal in either Unicode form: macOS writes ``é`` as two characters, Linux and Windows
mostly as one.
"""

import hashlib
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tinylab.ui.console import printable, say

SUFFIXES = (
    ".jpg", ".jpeg", ".jpe", ".png", ".bmp", ".dib", ".webp", ".tif", ".tiff",
    ".pgm", ".ppm", ".pbm", ".pnm", ".jp2", ".gif", ".avif", ".jfif", ".pjpeg", ".pjp", ".apng",
)  # fmt: skip
# Folders that systems and programs add: macOS's zip, Synology, ext4, Windows, Python.
SYSTEM_FOLDERS = (
    "__MACOSX", "@eaDir", "lost+found", "System Volume Information", "$RECYCLE.BIN", "__pycache__",
)  # fmt: skip
TABLE = "labels.csv"
# Names of the parts of an official split, as folders and in a table, in any case.
PARTS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}


@dataclass(frozen=True)
class Listing:
    """Image files by their paths below ``root``, by class and then by name in natural order.

    labels: int64 (N,), indices into ``classes``. The official test set is the last ``num_test``,
    the official validation part the ``num_val`` before them.
    """

    root: Path
    names: tuple[str, ...]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    num_test: int = 0
    num_val: int = 0

    def sha256(self) -> str:
        """Return a hash of names, labels, classes and the official split."""
        parts = (self.num_test, self.num_val) if self.num_val else (self.num_test,)
        digest = hashlib.sha256(repr((self.names, self.classes, *parts)).encode())
        digest.update(np.ascontiguousarray(self.labels, "<i8").data)
        return digest.hexdigest()

    def untrainable(self) -> str:
        """Return why no network can be trained on it; empty if possible. Evaluation needs less."""
        if len(self.classes) > 1:
            return ""
        if (self.root / TABLE).is_file():
            return f"{self.root / TABLE}: 1 class in the training rows; expected at least two"
        [only] = self.classes
        inner = self.root
        for _ in range(4):  # not without end: a link may lead back
            if len(folders := folders_in(inner)) == 1:
                inner /= folders[0]
        remedy = f"\n  did you mean dataset.root={inner}?" if folders else or_table(self.root)
        return (
            f"{self.root}: found only {only}/; expected at least two class folders with images "
            f"inside{remedy}"
        )


def or_table(root: Path) -> str:
    """Return the advice to list the labels in a table, for files that are not in class folders."""
    others = sorted(file.name for file in root.glob("*.csv"))
    if others:
        return f"; if {others[0]} lists the labels, rename it to {TABLE}"
    return f"; or list the files in {root / TABLE}, with the columns path,label"


def natural_key(name: str) -> tuple[list[str | int], str]:
    """Return a sort key that compares numbers in names by value; ``1`` and ``01`` still differ."""
    parts: list[str | int] = [*re.split(r"(\d+)", composed(name))]  # text, number, text, ...
    parts[1::2] = map(int, parts[1::2])
    return parts, name


def composed(name: str) -> str:
    """Return a name in Unicode form NFC, which is equal for names that look the same."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def is_image(name: str) -> bool:
    """Return whether a file is an image by its suffix."""
    return name.lower().endswith(SUFFIXES)


def listed(root: Path, parts: dict[str, dict[str, list[str]]]) -> Listing:
    """Build a listing of part -> class name -> file names; the part ``train`` is required."""
    classes = tuple(sorted(parts["train"], key=natural_key))
    labeled = {
        part: [(name, label) for label, key in enumerate(classes) for name in files.get(key, [])]
        for part, files in parts.items()
    }
    counts = {part: len(labeled.get(part, [])) for part in PARTS}
    every = [pair for part in PARTS for pair in labeled.get(part, [])]
    labels = np.array([label for _, label in every], dtype=np.int64)
    names = tuple(name for name, _ in every)
    return Listing(root, names, labels, classes, counts["test"], counts["val"])


def folders_in(folder: Path) -> list[str]:
    """Return the names of the folders in ``folder``, in natural order, without hidden ones."""
    names = [name for name in os.listdir(folder) if _is_of_the_user(name)]
    return sorted((name for name in names if os.path.isdir(folder / name)), key=natural_key)


def _is_of_the_user(name: str) -> bool:
    return not name.startswith(".") and name not in SYSTEM_FOLDERS


def images_below(
    folder: Path, inner: str, seen: set[tuple[int, int]], others: list[str]
) -> Iterator[str]:
    """Return the image files in ``folder`` and subfolders; adds other suffixes to ``others``.

    Hidden files are skipped. A dangling link is an unreadable image. Each real folder is read once,
    since links may be circular.
    """
    stat = os.stat(folder)
    if (stat.st_dev, stat.st_ino) in seen:
        return
    seen.add((stat.st_dev, stat.st_ino))
    with os.scandir(folder) as scanned:
        entries = [entry for entry in scanned if _is_of_the_user(entry.name)]
    for entry in sorted(entries, key=lambda entry: entry.name):
        if is_folder(entry):
            yield from images_below(folder / entry.name, f"{inner}{entry.name}/", seen, others)
        elif is_image(entry.name) and (entry.is_symlink() or entry.is_file()):
            yield inner + entry.name
        else:
            others.append(os.path.splitext(entry.name)[1])


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Return whether it is a folder, even if the path is too long to open, or a link to one."""
    if entry.is_symlink():
        return os.path.isdir(entry.path)
    return entry.is_dir(follow_symlinks=False)


def kinds(others: Sequence[str]) -> str:
    """Count suffixes: ``2 .heic, 1 without a suffix``."""
    counts = Counter(kind.lower() or "without a suffix" for kind in others)
    return first([f"{count:,} {kind}" for kind, count in counts.most_common()])


# ---------------------------------------------------------------- messages


def first(items: Sequence[object]) -> str:
    """Return the first few of ``items``, for a message."""
    return ", ".join(map(str, items[:5])) + (", ..." if len(items) > 5 else "")


@cache
def say_once(line: str) -> None:
    """Print a line once per process: a folder is listed repeatedly."""
    say(line)


def say_first(lines: Sequence[str]) -> None:
    """Print up to twenty lines, and the number of further ones."""
    for line in lines[:20]:
        say(f"  {printable(line)}")
    if len(lines) > 20:
        say(f"  and {len(lines) - 20:,} more")
