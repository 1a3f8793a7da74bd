"""Resolve the imports of a user's file in its own folder, whatever else has the same name.

Two folders may each have a ``helpers.py``, but Python knows one module of that name: the first one
imported, or the first on its path.
"""

import contextlib
import sys
from collections.abc import Collection, Iterable, Iterator, Sequence
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path
from types import ModuleType

from tinylab.config import modules


def names(own: Iterable[Path], folders: Iterable[Path]) -> dict[str, Path | None]:
    """Return the names under which files can be imported from folders; None for package folders.

    The names of standard-library modules are excluded: those are never shadowed.
    """
    own, named = list(own), dict[str, Path | None]()
    for folder in folders:
        for file in own:
            if file.is_relative_to(folder):
                path = file.parent if file.name == "__init__.py" else file.with_suffix("")
                parts = path.relative_to(folder).parts
                above = {".".join(parts[:length]): None for length in range(1, len(parts))}
                named = above | named | ({".".join(parts): file} if parts else {})
    return {name: file for name, file in named.items()
            if name.partition(".")[0] not in sys.stdlib_module_names}  # fmt: skip


@contextlib.contextmanager
def preferred(files: dict[str, Path | None], others: Collection[str]) -> Iterator[None]:
    """Inside the block, imports of these names find these files; library modules stay.

    Modules imported under such a name from elsewhere are removed, and restored afterwards unless
    their file is among ``others``, the files imported as a user's code.
    """
    aside = {name: sys.modules.pop(name) for name, file in files.items() if _is_in_way(name, file)}
    finder = _Finder(files)
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        theirs = {name: each for name, each in aside.items() if not _is_of(each, others)}
        sys.modules.update(theirs)


def put_back(near: dict[str, ModuleType], others: Collection[str]) -> None:
    """Restore modules under their names, for a function that imports only when called.

    A module that has the name now stays, unless its file is among ``others``.
    """
    for name, module in near.items():
        if name not in sys.modules or _is_of(sys.modules[name], others):
            sys.modules[name] = module


def forget(files: dict[str, Path | None]) -> None:
    """Force these files, and the folders that contain them, to be re-imported."""
    for name, file in files.items():
        if name in sys.modules and _file(sys.modules[name]) == (file and str(file)):
            del sys.modules[name]


def _is_in_way(name: str, file: Path | None) -> bool:
    module = sys.modules.get(name)
    if module is None or (path := _file(module)) == (file and str(file)):
        return False
    return path is None or not modules.is_library(Path(path))


def _is_of(module: ModuleType, files: Collection[str]) -> bool:
    """Return whether it is one of these files, or a namespace package, which is often shared."""
    return (file := _file(module)) is None or file in files


def _file(module: ModuleType) -> str | None:
    return getattr(module, "__file__", None)


class _Finder:
    """A finder for ``sys.meta_path`` that finds a module by its full name."""

    def __init__(self, files: dict[str, Path | None]) -> None:
        self.files = files

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: object = None
    ) -> ModuleSpec | None:
        file = self.files.get(name)
        return None if file is None else spec_from_file_location(name, file)
