"""Where the source of a module is, found as an import would find it, with nothing executed."""

import ast
import contextlib
import importlib
import importlib.util
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from importlib.machinery import BuiltinImporter, FrozenImporter, ModuleSpec
from pathlib import Path

from tinylab.config.signature import called

IN_LIBRARIES = ("site-packages", "dist-packages")
_joined: set[str] = set()  # folders of the user's code that are on Python's path


def join_path(folders: Iterable[Path]) -> None:
    """Append folders to Python's path, for what a user's code imports only when it is called.

    ``source`` does not look there: where a module is must not depend on what ran before.
    """
    new = [folder for folder in map(str, folders) if folder not in sys.path]
    _joined.update(new)
    sys.path += new


def source(name: str, folders: Sequence[Path] = (), last: bool = False) -> Path | None:
    """The source file of a module; None where there is none.

    ``folders`` are searched before what an import searches, or ``last``, after it.
    """
    importlib.invalidate_caches()  # a file that was just written
    return _source(name, folders, last)


def _source(name: str, folders: Sequence[Path], last: bool) -> Path | None:
    own = [str(folder) for folder in folders]
    for path in (None, own) if last else (own, None):
        if (spec := _spec(name, path)) is not None and spec.origin is not None:
            file = Path(spec.origin)
            if file.suffix == ".py" and file.is_file():
                return file
    return None


def _spec(name: str, path: Sequence[str] | None) -> ModuleSpec | None:
    """What the finders of imports say of a module; its packages are looked into, not imported."""
    found = None
    with _path_as_it_was():
        for part in name.split("."):
            # By its last name: the finders need the parents of a whole one to be imported.
            if (found := _found(part, path)) is None:
                return None
            path = [*(found.submodule_search_locations or ())]
    return found


@contextlib.contextmanager
def _path_as_it_was() -> Iterator[None]:
    before = list(sys.path)
    sys.path[:] = [folder for folder in before if folder not in _joined]
    try:
        yield
    finally:
        sys.path[:] = before


def _found(name: str, path: Sequence[str] | None) -> ModuleSpec | None:
    for finder in sys.meta_path:
        if finder in (BuiltinImporter, FrozenImporter) and path is not None:
            continue
        spec = finder.find_spec(name, path) if hasattr(finder, "find_spec") else None
        if spec is not None:
            return spec
    return None


def submodules(name: str, folders: Sequence[Path] = ()) -> list[str]:
    """The modules in a package, by their whole names; of an empty name, those in ``folders``."""
    spec = _spec(name, None) or _spec(name, [str(folder) for folder in folders])
    places = list(spec.submodule_search_locations or ()) if spec is not None else []
    return [f"{name}.{path.stem}" for place in places for path in Path(place).glob("*.py")]


def packaged(file: Path) -> tuple[Path, str]:
    """The folder from which a file is imported, and the name of the package that it is in.

    The name is empty for a file that lies beside no ``__init__.py``.
    """
    folder = file.parent
    parts: list[str] = []
    while (folder / "__init__.py").is_file() and folder.name.isidentifier():
        parts.insert(0, folder.name)
        folder = folder.parent
    return folder, ".".join(parts)


def roots(file: Path) -> list[Path]:
    """The folders in which what a file of the user's imports may be: its own, its package's."""
    return list(dict.fromkeys((file.parent, packaged(file)[0])))


# ---------------------------------------------------------------- libraries


def is_library(file: Path) -> bool:
    """Whether a file is of an installed library or of Python, whose versions say what it is."""
    if any(folder in file.parts for folder in IN_LIBRARIES):
        return True
    return file.is_relative_to(Path(os.__file__).parent)


@cache
def version(module: str) -> str:
    """The library that a module is of, and its version: ``torchvision 0.29.2``."""
    import importlib.metadata  # 20 ms

    top = module.partition(".")[0]
    try:
        return f"{top} {importlib.metadata.version(top)}"
    except importlib.metadata.PackageNotFoundError:
        names = importlib.metadata.packages_distributions().get(top, [])
    known = [f"{name} {importlib.metadata.version(name)}" for name in sorted(set(names))]
    return ", ".join(known) or f"{top} of Python {sys.version_info.major}.{sys.version_info.minor}"


# ---------------------------------------------------------------- what a module defines


Definition = ast.ClassDef | ast.FunctionDef


Defined = tuple[Definition, Path, str]  # with its file, and the name of its module


def definitions(
    module: str, attribute: str, file: Path, folders: Sequence[Path] = ()
) -> list[Defined]:
    """A class or function of a module, and the first bases up to the one with an ``__init__``.

    Re-exports are followed. Empty where that cannot be read off. Raises SyntaxError, OSError or
    ValueError for a file that cannot be read.
    """
    found: list[Defined] = []
    seen: set[tuple[Path, str]] = set()
    name: str | None = attribute
    while name is not None and (last := _defined(module, name, file, folders, seen)) is not None:
        found.append(last)
        node, file, module = last
        bases = node.bases if isinstance(node, ast.ClassDef) and called(node) is None else []
        name = next((base.id for base in bases if isinstance(base, ast.Name)), None)
    return found


def _defined(
    module: str, attribute: str, file: Path, folders: Sequence[Path], seen: set[tuple[Path, str]]
) -> Defined | None:
    if (file, attribute) in seen:
        return None
    seen.add((file, attribute))
    text = file.read_bytes()
    if attribute.encode() not in text and b"import *" not in text:
        return None  # to parse all of torchvision's models takes 0.2 s
    package = module if file.name == "__init__.py" else module.rpartition(".")[0]
    stars: list[str] = []
    found: Defined | None = None
    for node in _statements(ast.parse(text, file).body):
        if isinstance(node, Definition) and node.name == attribute:
            found = node, file, module
        elif isinstance(node, ast.ImportFrom):
            origin = _absolute(node, package)
            stars += [origin for alias in node.names if alias.name == "*"]
            for alias in node.names:
                if (alias.asname or alias.name) == attribute:
                    found = _elsewhere(origin, alias.name, folders, seen)
        elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Name):
            is_it = attribute in map(ast.unparse, node.targets)
            found = _defined(module, node.value.id, file, folders, seen) if is_it else found
    waiting = iter(stars)
    while found is None and (origin := next(waiting, None)) is not None:  # type: ignore[assignment]
        found = _elsewhere(origin, attribute, folders, seen)
    return found


def _elsewhere(
    module: str, attribute: str, folders: Sequence[Path], seen: set[tuple[Path, str]]
) -> Defined | None:
    if module.partition(".")[0] == "torch" and attribute in ("Module", "Sequential"):
        return None  # bases without a signature of interest
    file = _source(module, folders, last=True)
    return None if file is None else _defined(module, attribute, file, folders, seen)


def _absolute(node: ast.ImportFrom, package: str) -> str:
    parts = package.split(".")
    above = parts[: len(parts) - node.level + 1] if node.level else []
    return ".".join([*above, *([node.module] if node.module else [])])


def _statements(body: Sequence[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements of a module, with those in its ``if`` and ``try``."""
    for node in body:
        yield node
        if isinstance(node, ast.If | ast.Try):
            yield from _statements([*node.body, *node.orelse, *getattr(node, "finalbody", ())])


def names(file: Path) -> list[str]:
    """The public classes and functions that a file itself defines."""
    body = _statements(ast.parse(file.read_bytes(), file).body)
    return [node.name for node in body if isinstance(node, Definition) and node.name[0] != "_"]
