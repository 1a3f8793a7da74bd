"""Which image files there are and what they show: by class folders, or by a table of labels.

Only names are read here, no images. Both ways give the same order, so the same files give the same
data, split and results.
"""

import csv
import hashlib
import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tinylab.data.arrays import DataAbsentError
from tinylab.errors import UserError
from tinylab.ui.console import say

SUFFIXES = (
    ".jpg", ".jpeg", ".jpe", ".png", ".bmp", ".dib", ".webp", ".tif", ".tiff",
    ".pgm", ".ppm", ".pbm", ".pnm", ".jp2", ".gif", ".avif",
)  # fmt: skip
TABLE = "labels.csv"


@dataclass(frozen=True)
class Listing:
    """Image files by their paths below ``root``, by class and then by name in natural order.

    labels: int64 (N,), indices into ``classes``. The official test set is the last ``num_test``.
    """

    root: Path
    names: tuple[str, ...]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    num_test: int = 0

    def sha256(self) -> str:
        """A hash of names, labels, classes and the official split."""
        digest = hashlib.sha256(repr((self.names, self.classes, self.num_test)).encode())
        digest.update(np.ascontiguousarray(self.labels, "<i8").data)
        return digest.hexdigest()


def natural_key(name: str) -> tuple[list[str | int], str]:
    """Sort key under which numbers inside names count as numbers; ``1`` and ``01`` differ still."""
    parts: list[str | int] = [*re.split(r"(\d+)", name)]  # text, number, text, number, text
    parts[1::2] = map(int, parts[1::2])
    return parts, name


def _listed(root: Path, parts: Sequence[dict[str, list[str]]]) -> Listing:
    """A listing of class name -> file names, for training and perhaps for the official test."""
    classes = tuple(sorted(parts[0], key=natural_key))
    labelled = [
        [(name, label) for label, key in enumerate(classes) for name in part.get(key, [])]
        for part in parts
    ]
    names = tuple(name for part in labelled for name, _ in part)
    labels = np.array([label for part in labelled for _, label in part], dtype=np.int64)
    return Listing(root, names, labels, classes, len(labelled[1]) if len(parts) == 2 else 0)


# ---------------------------------------------------------------- class folders


def class_folders(root: Path) -> Listing:
    """The files ``root/<class>/*``, or those of ``root/train`` and ``root/test``.

    Raises DataAbsentError where there is no such folder, UserError for a folder without classes, a
    class without images, or classes that differ between ``train`` and ``test``.
    """
    if not root.is_dir():
        raise DataAbsentError(
            f"dataset.root={root}: no such folder; expected one with a folder a class in it"
        )
    others: list[str] = []  # what lies there and is passed over
    if (root / "train").is_dir() and (root / "test").is_dir():
        parts = [_class_files(root, "train/", others), _class_files(root, "test/", others)]
        _refuse_other_classes(root, set(parts[0]), set(parts[1]))
        beside = [name for name in _folders(root) if name not in ("train", "test")]
        if beside:
            _say_once(f"{root}: only train/ and test/ are read, not {first(beside)}")
    else:
        parts = [_class_files(root, "", others)]
    if others:
        _say_once(f"{root}: passed over what is no image by its name: {_kinds(others)}")
    return _listed(root, parts)


def _folders(folder: Path) -> list[str]:
    """The names of the folders in ``folder``, in natural order. Hidden ones are passed over."""
    names = [name for name in os.listdir(folder) if not name.startswith(".")]
    return sorted((name for name in names if os.path.isdir(folder / name)), key=natural_key)


def _class_files(root: Path, part: str, others: list[str]) -> dict[str, list[str]]:
    """Class name -> its image files, as paths below ``root``."""
    names = _folders(root / part)
    if len(names) < 2:
        found = f"only {names[0]}/" if names else "no folder"
        raise UserError(
            f"{root / part}: found {found}; expected at least two class folders with images inside"
        )
    classes = {}
    for name in names:
        files = _image_names(root / part / name, others)
        if not files:
            raise UserError(
                f"{root / part / name}: a class folder without an image "
                f"({', '.join(SUFFIXES[:4])}, ...)\n"
                "  add images or remove the folder; a given split is read from train/ and test/"
            )
        classes[name] = [f"{part}{name}/{file}" for file in files]
    return classes


def _image_names(folder: Path, others: list[str]) -> list[str]:
    """The image files in ``folder``, in natural order; what is none is added to ``others``.

    Hidden files are passed over. A link that leads nowhere is an image that cannot be read.
    """
    images = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            is_image = entry.name.lower().endswith(SUFFIXES) and (
                entry.is_file(follow_symlinks=False)
                or (entry.is_symlink() and not os.path.isdir(entry.path))
            )
            if is_image:
                images.append(entry.name)
            else:
                others.append("folder" if entry.is_dir() else os.path.splitext(entry.name)[1])
    return sorted(images, key=natural_key)


def _kinds(others: Sequence[str]) -> str:
    counts = Counter(kind.lower() or "without a suffix" for kind in others)
    return first([f"{count:,} {kind}" for kind, count in counts.most_common()])


def _refuse_other_classes(root: Path, train: set[str], test: set[str]) -> None:
    if train != test:
        only = {"train": train - test, "test": test - train}
        odd = [f"only in {part}/: {first(sorted(odd))}" for part, odd in only.items() if odd]
        raise UserError(f"{root}: train/ and test/ must have the same classes; {'; '.join(odd)}")


# ---------------------------------------------------------------- a table


@dataclass(frozen=True)
class _Row:
    line: int
    path: str
    label: str
    part: str
    has_more: bool  # cells than the header


def table(root: Path, skip_bad: bool) -> Listing:
    """The files that ``root/labels.csv`` lists, in its columns path and label.

    Paths are relative to ``root``. A third column, split, may say ``train`` or ``test``; others
    are passed over. Lists the wrong rows by their lines, and raises UserError where there are any;
    a file that is not there is wrong unless ``skip_bad``.
    """
    parts: dict[str, dict[str, list[str]]] = {"train": {}, "test": {}}
    lines: dict[str, int] = {}  # path -> the line that named it
    wrong = []
    for row in _rows(root / TABLE):
        fault = _fault(root, row, skip_bad)
        if fault is None and row.path in lines:
            fault = f"{row.path}: is in line {lines[row.path]} already"
        if fault is not None:
            wrong.append(f"line {row.line}: {fault}")
            continue
        lines[row.path] = row.line
        parts[row.part].setdefault(row.label, []).append(row.path)
    if wrong:
        say_first(wrong)
        more = f" (and {len(wrong) - 1:,} more wrong rows)" if len(wrong) > 1 else ""
        raise UserError(f"{root / TABLE}: {wrong[0]}{more}")
    _refuse_untrained(root / TABLE, parts)
    by_name = [
        {label: sorted(paths, key=natural_key) for label, paths in part.items()}
        for part in parts.values()
        if part
    ]
    return _listed(root, by_name)


def _rows(file: Path) -> list[_Row]:
    """All rows, with empty texts for the cells that are missing."""
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream, restval="")
            columns = reader.fieldnames or []
            if not {"path", "label"} <= {*columns}:
                raise UserError(
                    f"{file}: the first line is {','.join(columns)[:80]}; expected path,label, and "
                    "perhaps split"
                )
            return [
                _Row(
                    line=reader.line_num,
                    path=os.path.normpath(row["path"].strip() or "."),
                    label=row["label"].strip(),
                    part=row.get("split", "train").strip(),
                    has_more=None in row,
                )
                for row in reader
            ]
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{file}: expected a CSV table in UTF-8 ({error})") from error


def _fault(root: Path, row: _Row, skip_bad: bool) -> str | None:
    """What is wrong with a row; None where nothing is."""
    if row.has_more:
        return 'more cells than the header has; a comma in a name wants quotes: "a, b.jpg",label'
    if row.path == "." or "\0" in row.path or row.label == "":
        return "expected a path and a label"
    if row.part not in ("train", "test"):
        return f"split {row.part}: expected train or test"
    if os.path.isabs(row.path) or row.path.split(os.sep)[0] == "..":
        return f"{row.path}: expected a path inside the folder of {TABLE}"
    if not row.path.lower().endswith(SUFFIXES):
        return f"{row.path}: no image by its name ({', '.join(SUFFIXES[:4])}, ...)"
    if not skip_bad and not os.path.isfile(root / row.path):
        return f"{row.path}: no such file"
    return None


def _refuse_untrained(file: Path, parts: dict[str, dict[str, list[str]]]) -> None:
    if len(parts["train"]) < 2:
        raise UserError(
            f"{file}: {len(parts['train'])} classes in the training rows; expected at least two"
        )
    lost = sorted(parts["test"].keys() - parts["train"].keys())
    if lost:
        raise UserError(f"{file}: in test rows alone: {first(lost)}; expected training rows too")


# ---------------------------------------------------------------- words


def first(items: Sequence[object]) -> str:
    """The first few of ``items``, for a message."""
    return ", ".join(map(str, items[:5])) + (", ..." if len(items) > 5 else "")


@cache
def _say_once(line: str) -> None:
    """Say a line, unless this process has said it: a folder is listed again and again."""
    say(line)


def say_first(lines: Sequence[str]) -> None:
    """Say up to twenty lines, and how many more there are."""
    for line in lines[:20]:
        say(f"  {line}")
    if len(lines) > 20:
        say(f"  and {len(lines) - 20:,} more")
