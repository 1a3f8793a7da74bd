"""Which code decides a result: digests of source files that comments and wording do not change.

Docstrings, annotations, the help of keys, and what is only said (the arguments of ``raise`` and
``say``) do not count. The syntax tree is serialized here and not by ``ast.dump``, whose text
differs between Python versions.
"""

import ast
import hashlib
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

from tinylab.config import options
from tinylab.config.options import PACKAGE

# What belongs to every result, besides the options that were chosen.
CORE = ("data", "experiment/prepare.py", "models", "system/runtime.py", "training")
WORDS = frozenset({"say", "option"})  # calls whose further arguments are for people
UNSEEN = frozenset({"annotation", "returns", "type_comment", "type_params", "ctx", "kind"})


def of_result(config: Any) -> str:
    """A digest of the code that decides the results of a config.

    It is the core and the options that were chosen: a new or changed file of another option
    changes nothing.
    """
    chosen = [options.of(getattr(config, group)) for group in options.FOLDERS]
    declaring = {each.file for group in options.FOLDERS for each in options.options(group).values()}
    files = {file for part in CORE for file in _below(PACKAGE / part)} - declaring
    for option in chosen:
        files |= imported(option.file, CORE)
    return digest(files)


def _below(path: Path) -> list[Path]:
    return sorted(path.rglob("*.py")) if path.is_dir() else [path]


def digest(files: Iterable[Path]) -> str:
    """One SHA-256 over what counts in several files of the package."""
    total = hashlib.sha256()
    for file in sorted(set(files)):
        name = file.relative_to(PACKAGE) if file.is_relative_to(PACKAGE) else file.name
        total.update(f"{name}\0{file_digest(file)}\0".encode())
    return total.hexdigest()


@cache
def file_digest(file: Path) -> str:
    """SHA-256 of what counts in a Python file."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    total = hashlib.sha256()
    for token in _tokens(tree):
        total.update(f"{token}\0".encode())
    return total.hexdigest()


def _tokens(node: Any) -> Iterator[str]:
    """A node as texts: its kind, its fields by name, and an end."""
    if isinstance(node, list):
        yield "["
        for each in node:
            yield from _tokens(each)
        yield "]"
    elif isinstance(node, ast.Raise):
        # That it is raised counts, and of which class; its words do not.
        raised = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
        yield from ("Raise", *_tokens(raised))
    elif isinstance(node, ast.Call) and _name(node.func) in WORDS:
        yield from ("Call", str(_name(node.func)))
        if _name(node.func) == "option":
            yield from _tokens(node.args[:1])
    elif isinstance(node, ast.AST):
        yield type(node).__name__
        for field, value in ast.iter_fields(node):
            if field not in UNSEEN and value is not None:
                yield field
                yield from _tokens(_without_docstring(node, field, value))
        yield "."
    else:
        yield repr(node)


def _without_docstring(node: ast.AST, field: str, value: Any) -> Any:
    has_one = isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
    if field == "body" and has_one and value and _is_text(value[0]):
        return value[1:]
    return value


def _is_text(statement: ast.stmt) -> bool:
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )


def _name(function: ast.expr) -> str | None:
    return getattr(function, "attr", None) or getattr(function, "id", None)


def imported(file: Path, folders: tuple[str, ...]) -> set[Path]:
    """A file and all modules in ``folders`` of the package that it imports, directly or not."""
    found: set[Path] = set()
    waiting = [file]
    while waiting:
        here = waiting.pop()
        if here not in found:
            found.add(here)
            waiting += [path for path in _imports(here) if _is_in(path, folders)]
    return found


def _is_in(file: Path, folders: tuple[str, ...]) -> bool:
    return any(file.is_relative_to(PACKAGE / folder) for folder in folders)


@cache
def _imports(file: Path) -> tuple[Path, ...]:
    """The modules of the package that a file imports, without those that it only may import."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    modules = [name.split(".")[1:] for name in names if name.startswith("tinylab.")]
    paths = [PACKAGE.joinpath(*parts) for parts in modules]
    files = [path.with_suffix(".py") for path in paths] + [path / "__init__.py" for path in paths]
    return tuple(path for path in files if path.is_file())
