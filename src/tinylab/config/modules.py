"""Find the source of a module as an import would, without executing anything."""

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
_joined: set[str] = set()  # folders of user code that were appended to Python's path


def join_path(folders: Iterable[Path]) -> None:
    """Append folders to Python's path, for imports inside functions of user code.

    ``source`` does not search there: where a module is must not depend on what ran before.
    """
    new = [folder for folder in map(str, folders) if folder not in sys.path]
    _joined.update(new)
    sys.path += new


def source(name: str, folders: Sequence[Path] = (), last: bool = False) -> Path | None:
    """Return the source file of a module; None if there is none.

    ``folders`` are searched before the import path, ``last`` after it.
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
    """Return the spec of a module from the import finders; packages are inspected, not imported."""
    spec = None
    with _path_as_it_was():
        for part in name.split("."):
            # By its last name: for a full name the finders need imported parents.
            if (spec := _part_spec(part, path)) is None:
                return None
            path = [*(spec.submodule_search_locations or ())]
    return spec


@contextlib.contextmanager
def _path_as_it_was() -> Iterator[None]:
    before = list(sys.path)
    sys.path[:] = [folder for folder in before if folder not in _joined]
    try:
        yield
    finally:
        sys.path[:] = before


def _part_spec(name: str, path: Sequence[str] | None) -> ModuleSpec | None:
    for finder in sys.meta_path:
        if finder in (BuiltinImporter, FrozenImporter) and path is not None:
            continue
        spec = finder.find_spec(name, path) if hasattr(finder, "find_spec") else None
        if spec is not None:
            return spec
    return None


def submodules(name: str, folders: Sequence[Path] = ()) -> list[str]:
    """Return the modules in a package by full name; for an empty name, those in ``folders``."""
    spec = _spec(name, None) or _spec(name, [str(folder) for folder in folders])
    roots = list(spec.submodule_search_locations or ()) if spec is not None else []
    return [f"{name}.{path.stem}" for root in roots for path in Path(root).glob("*.py")]


def packaged(file: Path) -> tuple[Path, str]:
    """Return the folder from which a file is imported, and the name of its package.

    The name is empty for a file without an ``__init__.py`` next to it.
    """
    folder = file.parent
    parts: list[str] = []
    while (folder / "__init__.py").is_file() and folder.name.isidentifier():
        parts.insert(0, folder.name)
        folder = folder.parent
    return folder, ".".join(parts)


def roots(file: Path) -> list[Path]:
    """Return the folders that may contain a user file's imports: its own and its package's."""
    return list(dict.fromkeys((file.parent, packaged(file)[0])))


# ---------------------------------------------------------------- libraries


def is_library(file: Path) -> bool:
    """Return whether a file belongs to an installed library or Python, identified by version."""
    if any(folder in file.parts for folder in IN_LIBRARIES):
        return True
    return file.is_relative_to(Path(os.__file__).parent)


@cache
def version(module: str) -> str:
    """Return the library of a module and its version: ``torchvision 0.29.2``."""
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
    """Return a class or function of a module, and its first bases up to one with ``__init__``.

    Follows re-exports. Empty if it cannot be determined. Raises SyntaxError, OSError or ValueError
    for a file that cannot be read.
    """
    chain: list[Defined] = []
    seen: set[tuple[Path, str]] = set()
    name: str | None = attribute
    while name is not None and (last := _defined(module, name, file, folders, seen)) is not None:
        chain.append(last)
        node, file, module = last
        bases = node.bases if isinstance(node, ast.ClassDef) and called(node) is None else []
        name = next((base.id for base in bases if isinstance(base, ast.Name)), None)
    return chain


def _defined(
    module: str, attribute: str, file: Path, folders: Sequence[Path], seen: set[tuple[Path, str]]
) -> Defined | None:
    if (file, attribute) in seen:
        return None
    seen.add((file, attribute))
    text = file.read_bytes()
    if attribute.encode() not in text and b"import *" not in text:
        return None  # parsing all of torchvision's models takes 0.2 s
    package = module if file.name == "__init__.py" else module.rpartition(".")[0]
    stars: list[str] = []
    definition: Defined | None = None
    for node in _statements(ast.parse(text, file).body):
        if isinstance(node, Definition) and node.name == attribute:
            definition = node, file, module
        elif isinstance(node, ast.ImportFrom):
            origin = _absolute(node, package)
            stars += [origin for alias in node.names if alias.name == "*"]
            for alias in node.names:
                if (alias.asname or alias.name) == attribute:
                    definition = _elsewhere(origin, alias.name, folders, seen)
        elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Name):
            is_it = attribute in map(ast.unparse, node.targets)
            definition = (
                _defined(module, node.value.id, file, folders, seen) if is_it else definition
            )
    waiting = iter(stars)
    while definition is None and (origin := next(waiting, None)) is not None:  # type: ignore[assignment]
        definition = _elsewhere(origin, attribute, folders, seen)
    return definition


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
    """Yield the statements of a module, including those in its ``if`` and ``try``."""
    for node in body:
        yield node
        if isinstance(node, ast.If | ast.Try):
            yield from _statements([*node.body, *node.orelse, *getattr(node, "finalbody", ())])


def names(file: Path) -> list[str]:
    """Return the public classes and functions that a file itself defines."""
    body = _statements(ast.parse(file.read_bytes(), file).body)
    return [node.name for node in body if isinstance(node, Definition) and node.name[0] != "_"]
