"""Image files in class folders: ``root/<class>``, or those of a split, ``root/train/<class>``."""

import os
import re
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from tinylab.data.arrays import DataAbsentError
from tinylab.data.listing import (
    PARTS,
    SUFFIXES,
    Listing,
    composed,
    first,
    folders_in,
    images_below,
    kinds,
    listed,
    natural_key,
    or_table,
    say_once,
)
from tinylab.errors import UserError


@dataclass
class _Passed:
    """Observations while reading class folders, reported at the end."""

    others: list[str] = field(default_factory=list)  # suffixes of other files
    deep: list[str] = field(default_factory=list)  # images in subfolders of class folders


def class_folders(root: Path) -> Listing:
    """List the files below ``root/<class>``, or of ``root/train``, ``root/val``, ``root/test``.

    Subfolders of a class folder belong to the class. Raises DataAbsentError if there is no such
    folder, UserError for a folder without classes, a class without images, or classes that differ
    between ``train`` and the other parts.
    """
    if not root.is_dir():
        raise DataAbsentError(
            f"dataset.root={root}: no such folder; expected one with a folder per class"
        )
    passed = _Passed()
    folders = _part_folders(root)
    parts = {part: _class_files(root, name, passed) for part, name in folders.items()}
    for part in parts.keys() - {"train"}:
        _refuse_other_classes(root, folders["train"], folders[part], part, parts)
    if passed.others:
        say_once(f"{root}: skipped files without an image suffix: {kinds(passed.others)}")
    if passed.deep:
        say_once(
            f"{root}: {len(passed.deep):,} images are in subfolders of class folders, such as "
            f"{passed.deep[0]}; they are assigned to that class"
        )
    return listed(root, parts)


def _part_folders(root: Path) -> dict[str, str]:
    """Return part -> its folder in ``root``, ending in a slash; only ``train``, "", without a
    split.

    A split exists if ``train`` and another part exist. A part without class folders (a
    competition's unlabeled ``test``) cannot be evaluated, and is skipped with a message.
    """
    names = folders_in(root)
    given = {
        part: [name for name in names if name.lower() in called] for part, called in PARTS.items()
    }
    if not given["train"] or not (given["val"] or given["test"]):
        _refuse_part_names(root, names)
        return {"train": ""}
    for several in given.values():
        if len(several) > 1:
            raise UserError(
                f"{root}: {' and '.join(f'{name}/' for name in several)} are the same part of the "
                "split; keep only one of them"
            )
    known = set(folders_in(root / given["train"][0]))
    parts = {part: present[0] for part, present in given.items() if present}
    for part, name in parts.items():
        _refuse_wrapped(root / name, known if part != "train" else set())
    for part in ("val", "test"):
        if part in parts and not _is_labelled(root / parts[part], known):
            say_once(
                f"{root / parts[part]}: has no class folders, so its images are unlabeled and not "
                f"used; the {part} part is taken from {parts['train']}/"
            )
            del parts[part]
    beside = [name for name in names if all(name not in present for present in given.values())]
    if beside:
        read = [f"{name}/" for name in parts.values()]
        say_once(f"{root}: only {' and '.join(read)} are read, not {first(beside)}")
    return {part: f"{name}/" for part, name in parts.items()}


def _refuse_part_names(root: Path, names: list[str]) -> None:
    """Refuse ``seg_train`` and ``seg_test``, or ``val`` without ``train``, as two classes."""
    called = {word for words in PARTS.values() for word in words}
    alike = [
        f"{name}/"
        for name in names
        if called.intersection(re.split(r"[^a-z]+", name.lower())) and folders_in(root / name)
    ]
    if len(alike) > 1:
        raise UserError(
            f"{root}: {first(alike)} look like the parts of a split, not like classes\n"
            "  expected train/ with val/, test/ or both, each with one folder per class"
        )


def _refuse_wrapped(folder: Path, known: set[str]) -> None:
    """Refuse ``train/train/<class>``, unless the inner folder is one of the ``known`` classes."""
    names = folders_in(folder)
    if len(names) == 1 and names[0] not in known and len(folders_in(folder / names[0])) > 1:
        raise UserError(
            f"{folder}: contains only {names[0]}/, whose folders look like the classes\n"
            f"  move them up into {folder}"
        )


def _is_labelled(folder: Path, known: set[str]) -> bool:
    """Return whether a part has class folders; a single folder of another name has no labels."""
    names = {composed(name) for name in folders_in(folder)}
    return len(names) > 1 or bool(names & {composed(name) for name in known})


def _class_files(root: Path, part: str, passed: _Passed) -> dict[str, list[str]]:
    """Return class name -> its image files, as paths below ``root``."""
    names = folders_in(root / part)
    if not names:
        raise UserError(
            f"{root / part}: contains no folders; expected at least two class folders with images\n"
            f"  if this is the folder of a single class, use its parent folder{or_table(root)}"
        )
    classes: dict[str, list[str]] = defaultdict(list)
    for name in names:
        others: list[str] = []
        files = sorted(images_below(root / part / name, "", set(), others), key=natural_key)
        if not files:
            inside = f"; it contains {kinds(others)}" if others else ""
            raise UserError(
                f"{root / part / name}: a class folder without images "
                f"({', '.join(SUFFIXES[:4])}, ...{inside})\n"
                "  add images or remove the folder; an official split is read from train/, val/ "
                "and test/"
            )
        paths = [f"{part}{name}/{file}" for file in files]
        passed.others += others
        passed.deep += [path for path, file in zip(paths, files, strict=True) if "/" in file]
        classes[_class_name(root / part / name)] += paths
    return dict(classes)


def _class_name(folder: Path) -> str:
    """Return a folder's name: NFC, with non-UTF-8 bytes as ``\\xfc``."""
    name = composed(folder.name)
    text = os.fsencode(name).decode("utf-8", "backslashreplace")
    if text != name:
        say_once(
            f"{folder.parent}: the name of class folder {text} is not UTF-8 (an old archive?); "
            "rename it to display it correctly"
        )
    return text


def _refuse_other_classes(
    root: Path, train: str, folder: str, part: str, parts: dict[str, dict[str, list[str]]]
) -> None:
    """Check the classes: a test set has all training classes; a validation part may lack some."""
    trained, held_out = parts["train"].keys(), parts[part].keys()
    # A validation part may lack classes.
    only = {train: set() if part == "val" else trained - held_out, folder: held_out - trained}
    odd = [f"only in {name}: {first(sorted(odd))}" for name, odd in only.items() if odd]
    if odd:
        raise UserError(
            f"{root}: {train} and {folder} must have the same classes; {'; '.join(odd)}"
        )
