"""A user's own files: which are named, how they are imported, and what is said of their mistakes.

To read what options a file declares is no import of it (``signature.py``).
"""

import contextlib
import hashlib
import linecache
import os
import sys
import traceback
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from tinylab.errors import UserError

VARIABLE = "TINYLAB_CODE"
_loaded: dict[Path, tuple[str, ModuleType]] = {}  # file -> its digest, and the module
_files: set[str] = set()  # those of all modules of theirs


def is_key(word: str) -> bool:
    """Whether a word of the command line names files of the user's."""
    return word.startswith("code=")


def named(arguments: Iterable[str]) -> list[Path]:
    """The files that ``code=`` names, the last one where it stands twice, else TINYLAB_CODE.

    Raises UserError for a file that is not there.
    """
    given = [word.partition("=")[2] for word in arguments if is_key(word)]
    if given:
        return [_existing(typed, f"code={typed}") for typed in _listed(given[-1])]
    words = os.environ.get(VARIABLE, "").split(os.pathsep)
    return [_existing(word, f"{VARIABLE}={word}") for word in words if word]


def _listed(typed: str) -> list[str]:
    is_list = typed.startswith("[") and typed.endswith("]")
    words = [word.strip().strip("'\"") for word in typed.strip("[]").split(",")]
    if len(words) > 1 and not is_list:
        raise UserError(
            f"code={typed}: expected one file, or a list of them: code=[{typed}]\n"
            "  (it cannot vary in a sweep: a run knows its options by their names)"
        )
    return [word for word in words if word not in ("", "null")]


def _existing(typed: str, said: str) -> Path:
    path = _absolute(typed)
    if not path.is_file():
        raise UserError(f"{said}: no such file; expected a Python file, such as code=tiny.py")
    return path


def _absolute(typed: str | Path) -> Path:
    return Path(os.path.abspath(os.path.expanduser(typed)))


def paths(value: object) -> list[Path]:
    """The files of a config's ``code``: null, a file, or a list of files."""
    listed = [value] if isinstance(value, str) else value
    return [_absolute(str(each)) for each in listed] if isinstance(listed, Sequence) else []


def of_run(value: object, folder: Path) -> list[Path]:
    """The files that a finished run's ``code`` names, as far as they are still there.

    A run may come from anyone, and nothing that comes with it is executed: not what lies beside
    it, and no relative path.
    """
    runs = Path(os.path.realpath(folder)).parent
    listed = [value] if isinstance(value, str) else value
    absolute = [Path(str(each)) for each in listed or [] if os.path.isabs(str(each))]  # type: ignore[attr-defined]
    beside = [each for each in absolute if Path(os.path.realpath(each)).is_relative_to(runs)]
    return [each for each in absolute if each.is_file() and each not in beside]


# ---------------------------------------------------------------- import


def load(file: Path, modules: Iterable[Path], digest: str) -> ModuleType:
    """The module of a file, imported where it is not, or where ``digest`` is another by now.

    ``modules`` are those of the user's that it imports from beside it: they are imported anew with
    it. Its folder is appended to the path, never put first: a ``types.py`` there would take the
    place of Python's own. Raises UserError with the traceback of their lines.
    """
    if file in _loaded and _loaded[file][0] == digest:
        return _loaded[file][1]
    _forget(modules)
    _files.update(map(str, (file, *modules)))
    folder = str(file.parent)
    if folder not in sys.path:
        sys.path.append(folder)
    name = f"_tinylab_user_{file.stem}_{hashlib.sha256(str(file).encode()).hexdigest()[:8]}"
    module = ModuleType(name)
    module.__file__ = str(file)
    sys.modules[name] = module
    with mistakes_told(f"{file.name} cannot be imported"):
        # Compiled here: Python's cache would take a file of equal size and second for the same.
        exec(compile(file.read_bytes(), file, "exec"), module.__dict__)
    _loaded[file] = digest, module
    return module


def _forget(modules: Iterable[Path]) -> None:
    files = {str(file) for file in modules}
    for name, module in list(sys.modules.items()):
        if getattr(module, "__file__", None) in files:
            del sys.modules[name]


# ---------------------------------------------------------------- mistakes


@contextlib.contextmanager
def mistakes_told(what: str) -> Iterator[None]:
    """Make a UserError of what a user's code raises in the block; ``what`` begins it."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if (told := told_of(error, what)) is None:
            raise
        raise UserError(told) from error


def told_of(error: BaseException, what: str = "") -> str | None:
    """An exception in a user's code: its lines of their files, and the shapes of the arguments.

    None where none of their files is in its traceback.
    """
    frames = [each for each in traceback.walk_tb(error.__traceback__)
              if each[0].f_code.co_filename in _files]  # fmt: skip
    if not frames:
        return None
    lines = [f"{what}: " * bool(what) + f"{type(error).__name__}: {_first_line(error)}"]
    for frame, number in frames:
        name = frame.f_code.co_filename
        linecache.checkcache(name)
        lines.append(f"{name}:{number}, in {frame.f_code.co_name}{_shapes(frame)}")
        lines.append(f"  {linecache.getline(name, number).strip()}")
    return "\n  ".join(lines)


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0]


def _shapes(frame: Any) -> str:
    """The shapes of a function's arguments, as it was called: `` (x: 32x1x8x8)``."""
    code = frame.f_code
    names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    shapes = {name: getattr(frame.f_locals.get(name), "shape", None) for name in names}
    words = [f"{name}: {'x'.join(map(str, shape))}" for name, shape in shapes.items()
             if isinstance(shape, tuple)]  # fmt: skip
    return f" ({', '.join(words)})" if words else ""
