"""The user's own files: which are named, how they are imported, and how errors are reported.

Parsing the options that a file declares does not import it (``signature.py``).
"""

import contextlib
import hashlib
import importlib
import linecache
import os
import re
import sys
import traceback
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from tinylab.config import beside, folders, modules
from tinylab.errors import UserError
from tinylab.system.project import project

VARIABLE = "TINYLAB_CODE"
MODULE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")
# File -> its digest, its module, and local modules it imported, by name.
_loaded: dict[Path, tuple[str, ModuleType, dict[str, ModuleType]]] = {}
_imported: dict[str, str] = {}  # module imported by name -> the digest of its files
_files: set[str] = set()  # all modules imported from them


def is_key(word: str) -> bool:
    """Return whether a word of the command line names files of the user's."""
    return word.startswith("code=")


def named(arguments: Sequence[str]) -> list[Path]:
    """Return the files of ``code=``, the last one if repeated; modules by their files.

    Without it, those of the chosen experiments and of TINYLAB_CODE, or else of the project. Raises
    UserError for a missing file.
    """
    given = [word.partition("=")[2] for word in arguments if is_key(word)]
    if given:
        return [_existing(typed, f"code={typed}", Path.cwd()) for typed in _listed(given[-1])]
    return list(dict.fromkeys([*of_experiments(arguments), *_permanent()]))


def of_experiments(arguments: Sequence[str]) -> list[Path]:
    """Return the files that the ``code`` of chosen experiments names.

    They are searched in the folder of the YAML file, then in the working folder.
    """
    pairs = folders.code_of_experiments(arguments)
    return [
        _existing(typed, f"{file}: code={typed}", file.parent, Path.cwd()) for typed, file in pairs
    ]


def _permanent() -> list[Path]:
    """Return the files of TINYLAB_CODE, or else of the project's table."""
    words = os.environ.get(VARIABLE, "").split(os.pathsep)
    if files := [_existing(word, f"{VARIABLE}={word}", Path.cwd()) for word in words if word]:
        return files
    table = project()
    return [_existing(word, f"{table.file}: code={word}", table.file.parent) for word in table.code]


def _listed(typed: str) -> list[str]:
    is_list = typed.startswith("[") and typed.endswith("]")
    words = [word.strip().strip("'\"") for word in typed.strip("[]").split(",")]
    if len(words) > 1 and not is_list:
        raise UserError(
            f"code={typed}: expected one file, or a list of them: code=[{typed}]\n"
            "  (it cannot vary in a sweep, because runs refer to options by name)"
        )
    return [word for word in words if word not in ("", "null")]


def _existing(typed: str, said: str, *roots: Path) -> Path:
    """Find a file in one of the folders, or a module there or elsewhere."""
    paths = [Path(os.path.normpath(each / os.path.expanduser(typed))) for each in roots]
    file = next((path for path in paths if path.is_file()), None)
    if file is None and MODULE.fullmatch(typed) and not typed.endswith(".py"):
        file = modules.source(typed, roots)
    if file is None:
        beside = [path for path in paths if path.with_name(f"{path.name}.py").is_file()]
        hint = f" (did you mean {typed}.py?)" if beside else ""
        raise UserError(
            f"{said}: no such file{hint}; expected a Python file, such as code=tiny.py,\n"
            "  or an importable module, such as code=mypackage.parts"
        )
    return file


def paths(value: object) -> list[Path]:
    """Return the files of a config's ``code``: null, one, or a list. Raises UserError."""
    return [_existing(each, f"code={each}", Path.cwd()) for each in names(value)]


def names(value: object) -> list[str]:
    """Return the files of a config's ``code`` as they are written: null, one, or a list."""
    listed = [value] if isinstance(value, str) else value
    return [str(each) for each in listed] if isinstance(listed, Sequence) else []


def of_run(value: object, folder: Path) -> list[Path]:
    """Return the files of a finished run's ``code`` that still exist.

    A run may come from anyone, and nothing that comes with it is executed: neither files next to it
    nor relative paths.
    """
    runs = Path(os.path.realpath(folder)).parent
    absolute = [Path(each) for each in names(value) if os.path.isabs(each)]
    beside = [each for each in absolute if Path(os.path.realpath(each)).is_relative_to(runs)]
    return [each for each in absolute if each.is_file() and each not in beside]


# ---------------------------------------------------------------- import


def load(file: Path, own: Iterable[Path], digest: str) -> ModuleType:
    """Return the module of a file, imported unless it is already with this ``digest``.

    ``own`` are the user's modules that it imports from its folder, which are re-imported with it.
    Its folder, and that of its package, are appended to the path, never prepended: a ``types.py``
    there would shadow Python's. Raises UserError with the traceback of its lines.
    """
    own = list(own)
    names = beside.names(own, modules.roots(file))
    if file in _loaded and _loaded[file][0] == digest:
        beside.put_back(_loaded[file][2], _files)
        return _loaded[file][1]
    beside.forget(names)
    name = f"_tinylab_user_{file.stem}_{hashlib.sha256(str(file).encode()).hexdigest()[:8]}"
    module = ModuleType(name)
    module.__file__ = str(file)
    module.__package__ = modules.packaged(file)[1]
    sys.modules[name] = module
    with _importing(own, modules.roots(file), names):
        with mistakes_reported(f"{file.name} cannot be imported"):
            # Compiled here: Python's cache accepts a file of equal size and second as unchanged.
            exec(compile(file.read_bytes(), file, "exec"), module.__dict__)
        near = {each: sys.modules[each] for each in names if each in sys.modules}
    _loaded[file] = digest, module, near
    return module


def load_module(name: str, roots: Iterable[Path], own: Iterable[Path], digest: str) -> ModuleType:
    """Return a module by name, re-imported if ``digest``, of the user's files, has changed.

    ``roots`` are appended to the path. Raises UserError if it cannot be imported.
    """
    own, roots = list(own), list(roots)
    names = beside.names(own, roots)
    if _imported.get(name, digest) != digest:
        beside.forget(names)
    try:
        with _importing(own, roots, names):
            module = importlib.import_module(name)
    except Exception as error:
        message = message_of(error) or f"{type(error).__name__}: {first_line(error)}"
        raise UserError(f"{name} cannot be imported: {message}") from error
    _imported[name] = digest
    return module


@contextlib.contextmanager
def _importing(
    own: Sequence[Path], roots: Sequence[Path], names: dict[str, Path | None]
) -> Iterator[None]:
    """Import the user's files; their folders stay at the end of the path."""
    with beside.preferred(names, _files):
        _files.update(map(str, own))
        modules.join_path(roots)
        yield


def watch(file: Path) -> None:
    """Show this file's lines in error messages, as those of the user's files."""
    _files.add(str(file))


# ---------------------------------------------------------------- mistakes


@contextlib.contextmanager
def mistakes_reported(what: str) -> Iterator[None]:
    """Convert exceptions of user code in the block to UserError; ``what`` starts the message."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if (message := message_of(error, what)) is None:
            raise
        raise UserError(message) from error


def message_of(error: BaseException, what: str = "") -> str | None:
    """Describe an exception in user code: the lines of its files, and argument shapes.

    None if none of its files is in the traceback.
    """
    frames = [each for each in traceback.walk_tb(error.__traceback__)
              if each[0].f_code.co_filename in _files]  # fmt: skip
    if not frames:
        return None
    lines = [f"{what}: " * bool(what) + f"{type(error).__name__}: {first_line(error)}"]
    for frame, number in frames:
        name = frame.f_code.co_filename
        linecache.checkcache(name)
        lines.append(f"{name}:{number}, in {frame.f_code.co_name}{shapes(frame)}")
        lines.append(f"  {linecache.getline(name, number).strip()}")
    if isinstance(error, ImportError) and "no known parent package" in str(error):
        lines.append("without an __init__.py, write: from helpers import ..., without the dot")
    return "\n  ".join(lines)


def first_line(error: BaseException) -> str:
    """Return the first line of its text."""
    return str(error).strip().partition("\n")[0]


def shapes(frame: Any) -> str:
    """Return the shapes of a function's arguments: `` (x: 32x1x8x8)``."""
    code = frame.f_code
    names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    shapes = {name: getattr(frame.f_locals.get(name), "shape", None) for name in names}
    words = [f"{name}: {'x'.join(map(str, shape))}" for name, shape in shapes.items()
             if isinstance(shape, tuple)]  # fmt: skip
    return f" ({', '.join(words)})" if words else ""
