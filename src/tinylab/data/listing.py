"""Which image files there are and what they show: by class folders, or by a table of labels.

Only names are read here, no images. Both ways give the same order, so the same files give the same
data, split and results. A name is the same name in either Unicode form: macOS writes ``é`` as two
characters, Linux and Windows mostly as one.
"""

import csv
import hashlib
import os
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path, PureWindowsPath

import numpy as np
from numpy.typing import NDArray

from tinylab.config.values import did_you_mean
from tinylab.data.arrays import DataAbsentError
from tinylab.errors import UserError
from tinylab.ui.console import say

SUFFIXES = (
    ".jpg", ".jpeg", ".jpe", ".png", ".bmp", ".dib", ".webp", ".tif", ".tiff",
    ".pgm", ".ppm", ".pbm", ".pnm", ".jp2", ".gif", ".avif", ".jfif", ".pjpeg", ".pjp", ".apng",
)  # fmt: skip
# Folders that systems and programs add: macOS's zip, Synology, ext4, Windows, Python.
SYSTEM_FOLDERS = (
    "__MACOSX", "@eaDir", "lost+found", "System Volume Information", "$RECYCLE.BIN", "__pycache__",
)  # fmt: skip
TABLE = "labels.csv"
# What the parts of a given split are called, as folders and in a table, in any case.
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
        """A hash of names, labels, classes and the official split."""
        parts = (self.num_test, self.num_val) if self.num_val else (self.num_test,)
        digest = hashlib.sha256(repr((self.names, self.classes, *parts)).encode())
        digest.update(np.ascontiguousarray(self.labels, "<i8").data)
        return digest.hexdigest()

    def untrainable(self) -> str:
        """Why no network can be trained on it; empty where one can. Evaluation asks for less."""
        if len(self.classes) > 1:
            return ""
        if (self.root / TABLE).is_file():
            return f"{self.root / TABLE}: 1 class in the training rows; expected at least two"
        [only] = self.classes
        inner = self.root / os.path.dirname(self.names[0]).split("/")[0]
        remedy = f"\n  did you mean dataset.root={inner}?" if len(_folders(inner)) > 1 else ""
        return (
            f"{self.root}: found only {only}/; expected at least two class folders with images "
            f"inside{remedy}"
        )


def natural_key(name: str) -> tuple[list[str | int], str]:
    """Sort key under which numbers inside names count as numbers; ``1`` and ``01`` differ still."""
    parts: list[str | int] = [*re.split(r"(\d+)", composed(name))]  # text, number, text, ...
    parts[1::2] = map(int, parts[1::2])
    return parts, name


def composed(name: str) -> str:
    """A name in the Unicode form NFC, which is the same for names that look the same."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def is_image(name: str) -> bool:
    """Whether a file is an image by its name."""
    return name.lower().endswith(SUFFIXES)


def _listed(root: Path, parts: dict[str, dict[str, list[str]]]) -> Listing:
    """A listing of part -> class name -> file names; there is a part ``train``."""
    classes = tuple(sorted(parts["train"], key=natural_key))
    labelled = {
        part: [(name, label) for label, key in enumerate(classes) for name in files.get(key, [])]
        for part, files in parts.items()
    }
    counts = {part: len(labelled.get(part, [])) for part in PARTS}
    every = [pair for part in PARTS for pair in labelled.get(part, [])]
    labels = np.array([label for _, label in every], dtype=np.int64)
    names = tuple(name for name, _ in every)
    return Listing(root, names, labels, classes, counts["test"], counts["val"])


# ---------------------------------------------------------------- class folders


@dataclass
class _Passed:
    """What was met on the way through class folders, to be said at the end."""

    others: list[str] = field(default_factory=list)  # suffixes of files that are no images
    deep: list[str] = field(default_factory=list)  # images in folders inside class folders


def class_folders(root: Path) -> Listing:
    """The files below ``root/<class>``, or those of ``root/train``, ``root/val``, ``root/test``.

    Folders inside a class folder belong to the class. Raises DataAbsentError where there is no
    such folder, UserError for a folder without classes, a class without images, or classes that
    differ between ``train`` and the other parts.
    """
    if not root.is_dir():
        raise DataAbsentError(
            f"dataset.root={root}: no such folder; expected one with a folder a class in it"
        )
    passed = _Passed()
    folders = _part_folders(root)
    parts = {part: _class_files(root, name, passed) for part, name in folders.items()}
    for part in parts.keys() - {"train"}:
        _refuse_other_classes(root, folders["train"], folders[part], part, parts)
    if passed.others:
        _say_once(f"{root}: passed over what is no image by its name: {kinds(passed.others)}")
    if passed.deep:
        _say_once(
            f"{root}: {len(passed.deep):,} images are in folders inside class folders, such as "
            f"{passed.deep[0]}; they belong to the class"
        )
    return _listed(root, parts)


def _part_folders(root: Path) -> dict[str, str]:
    """Part -> its folder in ``root``, ending in a slash; only ``train``, of no name, if none is.

    A split is given where ``train`` and another part are there. A part without class folders (a
    competition's unlabelled ``test``) cannot be scored, and is passed over, which is said.
    """
    names = _folders(root)
    given = {
        part: [name for name in names if name.lower() in called] for part, called in PARTS.items()
    }
    if not given["train"] or not (given["val"] or given["test"]):
        return {"train": ""}
    for several in given.values():
        if len(several) > 1:
            raise UserError(
                f"{root}: {' and '.join(f'{name}/' for name in several)} are one part of the "
                "split; keep one of them"
            )
    known = set(_folders(root / given["train"][0]))
    parts = {part: found[0] for part, found in given.items() if found}
    for part in ("val", "test"):
        if part in parts and not _is_labelled(root / parts[part], known):
            _say_once(
                f"{root / parts[part]}: has no class folders, so its images are unlabelled and not "
                f"used; the {part} part is drawn from {parts['train']}/"
            )
            del parts[part]
    beside = [name for name in names if all(name not in found for found in given.values())]
    if beside:
        read = [f"{name}/" for name in parts.values()]
        _say_once(f"{root}: only {' and '.join(read)} are read, not {first(beside)}")
    return {part: f"{name}/" for part, name in parts.items()}


def _is_labelled(folder: Path, known: set[str]) -> bool:
    """Whether a part has class folders; one folder of another name holds what has no label."""
    names = {composed(name) for name in _folders(folder)}
    return len(names) > 1 or bool(names & {composed(name) for name in known})


def _folders(folder: Path) -> list[str]:
    """The names of the folders in ``folder``, in natural order, without hidden and system ones."""
    names = [name for name in os.listdir(folder) if _is_of_the_user(name)]
    return sorted((name for name in names if os.path.isdir(folder / name)), key=natural_key)


def _is_of_the_user(name: str) -> bool:
    return not name.startswith(".") and name not in SYSTEM_FOLDERS


def _class_files(root: Path, part: str, passed: _Passed) -> dict[str, list[str]]:
    """Class name -> its image files, as paths below ``root``."""
    names = _folders(root / part)
    if not names:
        raise UserError(
            f"{root / part}: found no folder; expected at least two class folders with images "
            "inside\n  if this is the folder of one class, name the folder above it"
        )
    classes: dict[str, list[str]] = defaultdict(list)
    for name in names:
        others: list[str] = []
        files = sorted(_images_below(root / part / name, "", set(), others), key=natural_key)
        if not files:
            inside = f"; in it: {kinds(others)}" if others else ""
            raise UserError(
                f"{root / part / name}: a class folder without an image "
                f"({', '.join(SUFFIXES[:4])}, ...{inside})\n"
                "  add images or remove the folder; a given split is read from train/, val/ and "
                "test/"
            )
        paths = [f"{part}{name}/{file}" for file in files]
        passed.others += others
        passed.deep += [path for path, file in zip(paths, files, strict=True) if "/" in file]
        classes[_class_name(root / part / name)] += paths
    return dict(classes)


def _class_name(folder: Path) -> str:
    """A folder's name as text: NFC, and bytes that are no UTF-8 as ``\\xfc``."""
    name = composed(folder.name)
    text = os.fsencode(name).decode("utf-8", "backslashreplace")
    if text != name:
        _say_once(
            f"{folder.parent}: the name of class folder {text} is not UTF-8 (an old archive?); "
            "rename it to have it shown properly"
        )
    return text


def _images_below(
    folder: Path, inner: str, seen: set[tuple[int, int]], others: list[str]
) -> Iterator[str]:
    """The image files in ``folder`` and its folders; the suffixes of what is none go to ``others``.

    Hidden ones are passed over. A link that leads nowhere is an image that cannot be read. Each
    real folder is read once: links may lead in a circle.
    """
    stat = os.stat(folder)
    if (stat.st_dev, stat.st_ino) in seen:
        return
    seen.add((stat.st_dev, stat.st_ino))
    with os.scandir(folder) as found:
        entries = [entry for entry in found if _is_of_the_user(entry.name)]
    for entry in sorted(entries, key=lambda entry: entry.name):
        if is_folder(entry):
            yield from _images_below(folder / entry.name, f"{inner}{entry.name}/", seen, others)
        elif is_image(entry.name) and (entry.is_symlink() or entry.is_file()):
            yield inner + entry.name
        else:
            others.append(os.path.splitext(entry.name)[1])


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether it is a folder, even of a path too long to be opened, or a link to one."""
    if entry.is_symlink():
        return os.path.isdir(entry.path)
    return entry.is_dir(follow_symlinks=False)


def kinds(others: Sequence[str]) -> str:
    """Suffixes, counted: ``2 .heic, 1 without a suffix``."""
    counts = Counter(kind.lower() or "without a suffix" for kind in others)
    return first([f"{count:,} {kind}" for kind, count in counts.most_common()])


def _refuse_other_classes(
    root: Path, train: str, folder: str, part: str, parts: dict[str, dict[str, list[str]]]
) -> None:
    """A test set has all classes of the training; a small validation part may lack some."""
    only = {train: parts["train"].keys() - parts[part].keys(), folder: parts[part].keys()}
    only[folder] = parts[part].keys() - parts["train"].keys()
    if part == "val":
        only[train] = set()
    odd = [f"only in {name}: {first(sorted(odd))}" for name, odd in only.items() if odd]
    if odd:
        raise UserError(
            f"{root}: {train} and {folder} must have the same classes; {'; '.join(odd)}"
        )


# ---------------------------------------------------------------- a table


# Column names, in any case, the first that is there; ``id`` names a file in many competitions.
PATH_COLUMNS = (
    "path", "file", "filename", "file_name", "filepath", "file_path", "image", "image_path", "img",
    "id", "image_id", "name",
)  # fmt: skip
LABEL_COLUMNS = ("label", "class", "class_name", "category", "target")


@dataclass(frozen=True)
class _Row:
    line: int
    path: str  # as typed
    label: str
    part: str
    has_more: bool  # cells than the header
    group: str = ""  # of the column that ``split.group`` names


def table(root: Path, skip_bad: bool) -> Listing:
    """The files that ``root/labels.csv`` lists, in its columns path and label.

    Paths are relative to ``root``, or absolute and inside it; what they lack (a suffix, the folder
    in which all files are) is completed where only one file fits. A third column, split, may say
    ``train``, ``val`` or ``test``; others are passed over. Lists the wrong rows by their lines,
    and raises UserError where there are any; a file that is not there is wrong unless ``skip_bad``.
    """
    parts: dict[str, dict[str, list[str]]] = {part: {} for part in PARTS}
    lines: dict[str, int] = {}  # path -> the line that named it
    wrong = []
    files = _Files(root)
    for row in _rows(root / TABLE):
        part = next((part for part, called in PARTS.items() if row.part.lower() in called), "")
        path, fault = "", _fault(row, part)
        if not fault:
            path, fault = files.find(row.path, skip_bad)
        if not fault and path in lines:
            fault = f"{path}: is in line {lines[path]} already"
        if fault:
            wrong.append(f"line {row.line}: {fault}")
            continue
        lines[path] = row.line
        parts[part].setdefault(composed(row.label), []).append(path)
    if wrong:
        say_first(wrong)
        more = f" (and {len(wrong) - 1:,} more wrong rows)" if len(wrong) > 1 else ""
        raise UserError(f"{root / TABLE}: {wrong[0]}{more}")
    if files.completed:
        _say_once(
            f"{root / TABLE}: {len(files.completed):,} of {len(lines):,} paths are completed, such "
            f"as {files.completed[0]}"
        )
    _refuse_untrained(root / TABLE, parts)
    by_name = {
        part: {label: sorted(paths, key=natural_key) for label, paths in labels.items()}
        for part, labels in parts.items()
    }
    return _listed(root, by_name)


def column(root: Path, name: str) -> dict[str, str]:
    """File -> its value in another column of ``root/labels.csv``; letter case does not matter.

    Raises UserError where there is no such column, or a file has no value in it.
    """
    files = _Files(root)
    found = {files.find(row.path, skip_bad=True)[0]: row for row in _rows(root / TABLE, name)}
    if empty := [row.line for row in found.values() if row.group == ""]:
        raise UserError(
            f"split.group={name}: {root / TABLE} has no value in {len(empty):,} rows, such as line "
            f"{empty[0]}\n  expected one for every file"
        )
    return {path: row.group for path, row in found.items()}


def _rows(file: Path, group: str | None = None) -> list[_Row]:
    """All rows, with empty texts for the cells that are missing."""
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream, restval="")
            columns = {name.strip().lower(): name for name in reversed(reader.fieldnames or [])}
            path = next((columns[name] for name in PATH_COLUMNS if name in columns), None)
            label = next((columns[name] for name in LABEL_COLUMNS if name in columns), None)
            if path is None or label is None:
                raise UserError(
                    f"{file}: the first line is {','.join(reader.fieldnames or [])[:80]}; expected "
                    "path,label, and perhaps split"
                )
            part = columns.get("split")
            if group is not None and group.strip().lower() not in columns:
                listed = [name.strip() for name in reader.fieldnames or []]
                raise UserError(
                    f"split.group={group}: {file} has no such column{did_you_mean(group, listed)}\n"
                    f"  its columns: {first(listed)}; a pattern over file names has one group in "
                    "parentheses"
                )
            of_group = columns.get((group or "").strip().lower())
            return [
                _Row(
                    line=reader.line_num,
                    path=row[path].strip(),
                    label=row[label].strip(),
                    part="train" if part is None else row[part].strip(),
                    has_more=None in row,
                    group="" if of_group is None else row[of_group].strip(),
                )
                for row in reader
            ]
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{file}: expected a CSV table in UTF-8 ({error})") from error


def _fault(row: _Row, part: str) -> str:
    """What is wrong with a row, but for its file; empty where nothing is."""
    if row.has_more:
        return 'more cells than the header has; a comma in a name wants quotes: "a, b.jpg",label'
    if row.path in ("", ".") or "\0" in row.path or row.label == "":
        return "expected a path and a label"
    return "" if part else f"split {row.part}: expected train, val or test"


class _Files:
    """The image files below a folder, found by what a table calls them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.completed: list[str] = []  # as typed -> as found

    def find(self, typed: str, skip_bad: bool) -> tuple[str, str]:
        """A file's path below the folder, and what is wrong with it, which may be nothing."""
        path = os.path.normpath(typed)
        if os.path.isabs(path):
            places = (os.path.abspath(self.root), os.path.realpath(self.root))
            path = next((os.path.relpath(path, p) for p in places if _is_in(path, p)), path)
        if "\\" in path and not os.path.isfile(self.root / path):
            path = os.path.normpath(path.replace("\\", "/"))  # as Windows writes it
        if os.path.isabs(path) or PureWindowsPath(path).drive or path.split(os.sep)[0] == "..":
            return path, f"{path}: expected a path inside the folder of {TABLE}"
        if is_image(path) and os.path.isfile(self.root / path):
            return path, ""
        fitting = self._index.get(_key(path), [])
        whole = [n for n in fitting if _key(path) in (_key(n), os.path.splitext(_key(n))[0])]
        fitting = whole or fitting
        if len(fitting) == 1:
            self.completed.append(f"{typed} -> {fitting[0]}")
            return fitting[0], ""
        if fitting:
            return path, f"{path}: may be any of {first(fitting)}"
        if not is_image(path):
            return path, f"{path}: no image by its name ({', '.join(SUFFIXES[:4])}, ...)"
        return path, "" if skip_bad else f"{path}: no such file"

    @cached_property
    def _index(self) -> dict[str, list[str]]:
        """Every end of every file's path, with and without its suffix -> the files of that end."""
        index: dict[str, list[str]] = defaultdict(list)
        for name in _images_below(self.root, "", set(), []):
            steps = _key(name).split("/")
            for start in range(len(steps)):
                end = "/".join(steps[start:])
                index[end].append(name)
                index[os.path.splitext(end)[0]].append(name)
        return index


def _is_in(path: str, folder: str) -> bool:
    return os.path.commonpath([path, folder]) == folder


def _key(path: str) -> str:
    """Equal for paths that differ in case or Unicode form alone."""
    return composed(path).casefold()


def _refuse_untrained(file: Path, parts: dict[str, dict[str, list[str]]]) -> None:
    if not parts["train"]:
        raise UserError(f"{file}: 0 classes in the training rows; expected at least two")
    for part in ("val", "test"):
        lost = sorted(parts[part].keys() - parts["train"].keys())
        if lost:
            raise UserError(
                f"{file}: in {part} rows alone: {first(lost)}; expected training rows too"
            )


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
