"""Imports of a user's file find what lies beside it, whatever else has the same name.

Two folders may each have a ``helpers.py``, and Python knows one module of that name: the first
that was imported, or the first on its path.
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
    """The names by which files can be imported from folders; None for a folder of modules.

    Names of Python's own modules are left out: those are never hidden.
    """
    own, found = list(own), dict[str, Path | None]()
    for folder in folders:
        for file in own:
            if file.is_relative_to(folder):
                place = file.parent if file.name == "__init__.py" else file.with_suffix("")
                parts = place.relative_to(folder).parts
                above = {".".join(parts[:length]): None for length in range(1, len(parts))}
                found = above | found | ({".".join(parts): file} if parts else {})
    return {name: file for name, file in found.items()
            if name.partition(".")[0] not in sys.stdlib_module_names}  # fmt: skip


@contextlib.contextmanager
def found_first(files: dict[str, Path | None], others: Collection[str]) -> Iterator[None]:
    """In the block, imports of these names find these files; libraries' modules stay.

    What was imported by such a name from elsewhere gives way, and comes back afterwards unless its
    file is among ``others``: those that were imported as a user's code.
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
    """Make modules those of their names again, for a function that imports only when it is called.

    What is of a name now stays, unless its file is among ``others``.
    """
    for name, module in near.items():
        if name not in sys.modules or _is_of(sys.modules[name], others):
            sys.modules[name] = module


def forget(files: dict[str, Path | None]) -> None:
    """Have these files imported anew, and the folders that they are in."""
    for name, file in files.items():
        if name in sys.modules and _file(sys.modules[name]) == (file and str(file)):
            del sys.modules[name]


def _is_in_way(name: str, file: Path | None) -> bool:
    module = sys.modules.get(name)
    if module is None or (place := _file(module)) == (file and str(file)):
        return False
    return place is None or not modules.is_library(Path(place))


def _is_of(module: ModuleType, files: Collection[str]) -> bool:
    """Whether it is one of these files, or a folder without ``__init__.py``, often shared."""
    return (file := _file(module)) is None or file in files


def _file(module: ModuleType) -> str | None:
    return getattr(module, "__file__", None)


class _Finder:
    """Finds a module by its whole name, as the finders of ``sys.meta_path`` do."""

    def __init__(self, files: dict[str, Path | None]) -> None:
        self.files = files

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: object = None
    ) -> ModuleSpec | None:
        file = self.files.get(name)
        return None if file is None else spec_from_file_location(name, file)
