"""Project settings for all commands: ``[tool.tinylab]`` in ``pyproject.toml``."""

import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from tinylab.errors import UserError, did_you_mean

FILE = "pyproject.toml"
TABLE = "tool.tinylab"
KEYS = ("code", "conf", "data", "outputs")


@dataclass(frozen=True)
class Project:
    """The table of a project, with absolute paths; all empty without one.

    file: that of the table. code: files or importable modules, as for ``code=``. conf: a folder of
    config groups.
    """

    file: Path = Path(FILE)
    code: tuple[str, ...] = ()
    conf: Path | None = None
    data: Path | None = None
    outputs: Path | None = None


def project() -> Project:
    """Return the table in the nearest ``pyproject.toml`` at or above the working folder.

    Raises UserError for an unknown key, a value of the wrong type, and a missing config folder.
    """
    try:
        here = Path.cwd()
    except OSError:  # deleted meanwhile
        return Project()
    for folder in (here, *here.parents):
        file = folder / FILE
        try:
            stat = file.stat()
        except OSError:
            continue
        if (known := _read(file, (stat.st_size, stat.st_mtime_ns, stat.st_ino))) is not None:
            return known
    return Project()


def default_outputs() -> str:
    """Return the default folder of runs, as short as possible relative to the working folder."""
    table = project()
    if table.outputs is None:
        return "outputs"
    here = Path.cwd()
    inside = table.outputs.is_relative_to(here) and table.outputs != here
    return str(table.outputs.relative_to(here) if inside else table.outputs)


@cache
def _read(file: Path, stamp: tuple[int, ...]) -> Project | None:
    """Return the table of one file; None if it has none, in which case it is not parsed."""
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return None  # another program's, which will report it
    if "tinylab" not in text:
        return None
    import tomllib

    try:
        values = tomllib.loads(text).get("tool", {}).get("tinylab")
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{file}: {error}") from error
    return None if values is None else _checked(file, values)


def _checked(file: Path, values: Any) -> Project:
    where = f"{file}: [{TABLE}]"
    if not isinstance(values, dict):
        raise UserError(f"{where}: expected a table with {', '.join(KEYS)}")
    for key, value in values.items():
        if key not in KEYS:
            hint = did_you_mean(key, KEYS)
            raise UserError(f"{where} {key}: unknown key{hint}; valid here: {', '.join(KEYS)}")
        is_list = isinstance(value, list) and key == "code"
        if not all(isinstance(each, str) and each for each in (value if is_list else [value])):
            texts = "a string, or a list of strings" if key == "code" else "a string"
            raise UserError(f"{where} {key}={value!r}: expected {texts}")
    code = values.get("code", [])
    folders = {key: _path(file, values[key]) for key in KEYS[1:] if key in values}
    if "conf" in folders and not folders["conf"].is_dir():
        raise UserError(f"{where} conf={values['conf']}: no such folder: {folders['conf']}")
    return Project(file, (code,) if isinstance(code, str) else tuple(code), **folders)


def _path(file: Path, typed: str) -> Path:
    return Path(os.path.normpath(file.parent / os.path.expanduser(typed)))
