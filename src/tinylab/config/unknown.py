"""Error messages for unknown options: where they are declared, or what may be meant."""

import contextlib
import os
import sys
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from types import FunctionType

from tinylab.config import signature, user_code
from tinylab.config.option import FOLDERS
from tinylab.config.values import did_you_mean
from tinylab.errors import UserError

MOST_FILES = 200  # files of the working folder that are searched for a hint


def no_such(
    group: str, name: str, known: Sequence[str], files: Sequence[Path], hint: str | None = None
) -> str:
    """Return the error message for an option that is not among the ``known`` ones of a group.

    ``files``: the user's files on the command line, to be repeated in the remedy.
    """
    said = f"{group}={name}: no such option"
    if group in FOLDERS and name in _names_in_main():
        return (
            f"{said}; a class defined in this session cannot be used, since other processes "
            "cannot import it\n"
            f'  write it to a file (%%writefile {name}.py in a cell), then use code="{name}.py"'
        )
    if group in FOLDERS and (file := _declaring(group, name)) is not None:
        paths = [os.path.relpath(each) for each in (*files, file)]
        listed = paths[0] if len(paths) == 1 else f"[{','.join(paths)}]"
        return f"{said}; {paths[-1]} declares it: add code={listed}"
    hint = did_you_mean(name, known) if hint is None else hint
    return f"{said}{hint}; valid here: {', '.join(known)}"


def _declaring(group: str, name: str) -> Path | None:
    """Return a file of the working folder, TINYLAB_CODE or the project that declares an option."""
    with contextlib.suppress(UserError, OSError):
        for file in (*islice(Path.cwd().glob("*.py"), MOST_FILES), *user_code.named(())):
            with contextlib.suppress(UserError, SyntaxError, OSError, ValueError):
                if any((group, name) == (each.group, each.name) for each in signature.read(file)):
                    return file
    return None


def _names_in_main() -> set[str]:
    """Return the classes and functions defined in a notebook or script, in lower case."""
    values = [*vars(sys.modules["__main__"]).values()]
    defined = [each for each in values if isinstance(each, type | FunctionType)]
    return {each.__name__.lower() for each in defined if each.__module__ == "__main__"}
