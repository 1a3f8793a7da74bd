"""Image files listed in a table of labels, ``labels.csv``."""

import csv
import os
import re
from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PureWindowsPath

from tinylab.config.values import did_you_mean
from tinylab.data.listing import (
    PARTS,
    SUFFIXES,
    TABLE,
    Listing,
    composed,
    first,
    images_below,
    is_image,
    listed,
    natural_key,
    say_first,
    say_once,
)
from tinylab.errors import UserError

# Column names, in any case, first match; ``id`` names a file in many competitions.
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
    group: str = ""  # of the column in ``split.group``


def table(root: Path, skip_bad: bool) -> Listing:
    """List the files in ``root/labels.csv``, with its columns path and label.

    Paths are relative to ``root``, or absolute and inside it; a missing suffix or common folder is
    completed if only one file fits. An optional third column, split, may be ``train``, ``val`` or
    ``test``; other columns are ignored. Lists invalid rows by line, and raises UserError if there
    are any; a missing file is invalid unless ``skip_bad``.
    """
    parts: dict[str, dict[str, list[str]]] = {part: {} for part in PARTS}
    lines: dict[str, int] = {}  # path -> the line that named it
    wrong = []
    files = _Files(root)
    for row in _rows(root / TABLE):
        part = _part(row)
        path, fault = "", _fault(row, part)
        if not fault:
            path, fault = files.find(row.path, skip_bad, part)
        if not fault and path in lines:
            fault = f"{path}: already in line {lines[path]}"
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
        say_once(
            f"{root / TABLE}: {len(files.completed):,} of {len(lines):,} paths were completed, "
            f"such as {files.completed[0]}"
        )
    _refuse_untrained(root / TABLE, parts)
    by_name = {
        part: {label: sorted(paths, key=natural_key) for label, paths in labels.items()}
        for part, labels in parts.items()
    }
    return listed(root, by_name)


def column(root: Path, name: str) -> dict[str, str]:
    """Return file -> its value in another column of ``root/labels.csv``; case-insensitive.

    Raises UserError if there is no such column, or a file has no value in it.
    """
    files = _Files(root)
    rows = {
        files.find(row.path, skip_bad=True, part=_part(row))[0]: row
        for row in _rows(root / TABLE, name)
    }
    if empty := [row.line for row in rows.values() if row.group == ""]:
        raise UserError(
            f"split.group={name}: {root / TABLE} has no value in {len(empty):,} rows, such as line "
            f"{empty[0]}\n  expected one for every file"
        )
    return {path: row.group for path, row in rows.items()}


def _rows(file: Path, group: str | None = None) -> list[_Row]:
    """Return all rows, with empty strings for missing cells."""
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            head = stream.readline()
            stream.seek(0)
            # Where the comma is the decimal point, Excel separates by semicolons.
            delimiter = max(",;\t", key=head.count)
            reader = csv.DictReader(stream, restval="", delimiter=delimiter)
            columns = {name.strip().lower(): name for name in reversed(reader.fieldnames or [])}
            path = next((columns[name] for name in PATH_COLUMNS if name in columns), None)
            label = next((columns[name] for name in LABEL_COLUMNS if name in columns), None)
            if path is None or label is None:
                header = ",".join(reader.fieldnames or [])[:80] or "empty"
                raise UserError(
                    f"{file}: the header is {header}; expected path,label and optionally split"
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
                if any(str(cell).strip() for cell in row.values() if cell)
            ]
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{file}: expected a CSV table in UTF-8 ({error})") from error


def _part(row: _Row) -> str:
    """Return the part that a row's ``split`` names; empty if it names none."""
    return next((part for part, called in PARTS.items() if row.part.lower() in called), "")


def _fault(row: _Row, part: str) -> str:
    """Return what is wrong with a row, except for its file; empty if nothing is."""
    if row.has_more:
        return 'more cells than the header; quote names with a comma: "a, b.jpg",label'
    if "\n" in row.path + row.label:
        return 'a cell with a line break; is a closing " missing?'
    if row.path in ("", ".") or "\0" in row.path or row.label == "":
        return "expected a path and a label"
    return "" if part else f"split {row.part}: expected train, val or test"


class _Files:
    """The image files below a folder, found by the paths of a table."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.completed: list[str] = []  # as typed -> as found

    def find(self, typed: str, skip_bad: bool, part: str) -> tuple[str, str]:
        """Return a file's path below the folder, and what is wrong with it, if anything.

        Of several that fit, the one in a folder that is called like the row's part is meant.
        """
        path = os.path.normpath(typed)
        if os.path.isabs(path):
            roots = (os.path.abspath(self.root), os.path.realpath(self.root))
            path = next((os.path.relpath(path, p) for p in roots if _is_in(path, p)), path)
        if "\\" in path and not os.path.isfile(self.root / path):
            path = os.path.normpath(path.replace("\\", "/"))  # Windows separators
        if os.path.isabs(path) or PureWindowsPath(path).drive or path.split(os.sep)[0] == "..":
            return path, f"{path}: expected a path inside the folder of {TABLE}"
        if is_image(path) and os.path.isfile(self.root / path):
            return path, ""
        fitting = self._index.get(_key(path), [])
        whole = [n for n in fitting if _key(path) in (_key(n), os.path.splitext(_key(n))[0])]
        fitting = whole or fitting
        if len(fitting) > 1:
            fitting = [n for n in fitting if _is_of(n, part)] or fitting
        if len(fitting) == 1:
            self.completed.append(f"{typed} -> {fitting[0]}")
            return fitting[0], ""
        if fitting:
            return path, f"{path}: ambiguous, may be any of {first(fitting)}"
        if not is_image(path):
            return path, f"{path}: not an image suffix ({', '.join(SUFFIXES[:4])}, ...)"
        if skip_bad:
            return path, ""
        alike = self._index.get(os.path.splitext(_key(path))[0], [])
        return path, f"{path}: no such file{f'; there is {alike[0]}' if alike else ''}"

    @cached_property
    def _index(self) -> dict[str, list[str]]:
        """Return every suffix of every file's path, with and without extension -> the files."""
        index: dict[str, list[str]] = defaultdict(list)
        for name in images_below(self.root, "", set(), []):
            steps = _key(name).split("/")
            for start in range(len(steps)):
                end = "/".join(steps[start:])
                index[end].append(name)
                index[os.path.splitext(end)[0]].append(name)
        return index


def _is_of(name: str, part: str) -> bool:
    """Return whether a path leads through a folder that is called like a part."""
    return bool({*PARTS.get(part, ())}.intersection(name.lower().split("/")[:-1]))


def _is_in(path: str, folder: str) -> bool:
    return os.path.commonpath([path, folder]) == folder


def _key(path: str) -> str:
    """Normalize: equal for paths that differ only in case or Unicode form."""
    return composed(path).casefold()


def _refuse_untrained(file: Path, parts: dict[str, dict[str, list[str]]]) -> None:
    trained = parts["train"]
    if not trained:
        raise UserError(f"{file}: 0 classes in the training rows; expected at least two")
    measured = [label for label in trained if re.fullmatch(r"-?\d*\.\d*[1-9]\d*", label)]
    if measured and 2 * len(trained) > sum(map(len, trained.values())):
        raise UserError(
            f"{file}: labels such as {measured[0]} are measurements; expected one class per image"
        )
    for part in ("val", "test"):
        lost = sorted(parts[part].keys() - parts["train"].keys())
        if lost:
            raise UserError(
                f"{file}: only in {part} rows: {first(lost)}; expected training rows too"
            )
