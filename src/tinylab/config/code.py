"""Which code decides a result: digests of source files that comments and wording do not change.

Docstrings, annotations, the help of keys, and what is only said (the arguments of ``raise`` and
``say``) do not count. The syntax tree is serialized here and not by ``ast.dump``, whose text
differs between Python versions.
"""

import ast
import contextlib
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeGuard

from tinylab.config import modules, named, options, signature, user_code
from tinylab.config.option import FOLDERS, PACKAGE
from tinylab.errors import UserError
from tinylab.system.files import write_json
from tinylab.system.paths import cache_root

VERSION = 3  # of the facts: another one where they are made in another way

# Where the code of results is; of it counts what training and preparation import, and the options
# that were chosen.
CORE = ("data", "experiment/prepare.py", "models", "system/runtime.py", "training")
ROOTS = ("experiment/prepare.py", "training/*.py")
WORDS = frozenset({"say", "option"})  # calls whose further arguments are for people
UNSEEN = frozenset({"annotation", "returns", "type_comment", "type_params", "ctx", "kind"})


def of_result(config: Any) -> str:
    """A digest of the code that decides the results of a config.

    A new or changed file of an option that was not chosen changes nothing. The user's own files
    count by what is in them, not by where they are.
    """
    files = _files_of(config)
    own, versions = own_files(config), libraries(config)
    parts = [own_digest(own)] if own else []
    return joined(digest(files), *parts, *versions) if own or versions else digest(files)


def recorded(config: Any) -> dict[str, str]:
    """What a result records of its code: digests of all of it, of the core, and of the user's."""
    own, versions = own_files(config), libraries(config)
    digests = {"code_sha256": of_result(config), "core_sha256": core()}
    digests |= {"own_code_sha256": own_digest(own)} if own else {}
    return digests | ({"libraries": ", ".join(versions)} if versions else {})


def changed(code_sha256: str, recorded: Mapping[str, Any], config: Any) -> str | None:
    """Which code is not that of a result any more, in words; None where it gives today's bits.

    recorded: what it says besides, as ``recorded`` made it.
    """
    if is_same(code_sha256, config):
        return None
    own, own_sha256 = own_files(config), recorded.get("own_code_sha256")
    if own and own_sha256 is not None and own_digest(own) != own_sha256:
        return f"{' or '.join(file.name for file in own)} has changed since"
    today = ", ".join(libraries(config))
    if today != (before := recorded.get("libraries", "")):
        return f"made with {before}, and this is {today}"
    return "tinylab's code has changed since"


def core() -> str:
    """The same of what belongs to every result."""
    return digest(imported(_roots(), CORE))


def is_same(recorded: str, config: Any) -> bool:
    """Whether the code that a result was recorded with gives the bits of today's.

    It is today's, or an older one that ``same_bits.json`` names, together with the digests that
    the files had when the bits were found equal: file by file, so a later change ends that.
    """
    if recorded == of_result(config):
        return True
    if own_files(config) or libraries(config):
        return False
    same = _same_bits().get(recorded, {})
    names = {file.relative_to(PACKAGE).as_posix(): file for file in _files_of(config)}
    return all(same.get(name) == facts(file).digest for name, file in names.items())


@cache
def _same_bits() -> dict[str, dict[str, str]]:
    """Recorded digest -> file -> its digest when the two were found to give equal bits."""
    path = Path(__file__).with_name("same_bits.json")
    found: dict[str, dict[str, str]] = json.loads(path.read_text(encoding="utf-8"))
    return found


def _files_of(config: Any) -> set[Path]:
    chosen = options.chosen(config)
    files = [each.file for each in chosen] + [each.maker for each in chosen if each.maker]
    return {file for file in imported([*_roots(), *files, *own_files(config)], CORE)
            if file.is_relative_to(PACKAGE)}  # fmt: skip


# ---------------------------------------------------------------- the user's own


def own_files(config: Any) -> list[Path]:
    """The user's files of the options that a config chose, and their modules beside them."""
    return with_own_modules(each.file for each in options.chosen(config) if each.is_of_file)


def libraries(config: Any) -> list[str]:
    """The libraries, with their versions, of what a config names in them: ``timm 1.0.22``."""
    chosen = options.chosen(config)
    return sorted({modules.version(each.module) for each in chosen if each.is_of_library})


def with_own_modules(files: Iterable[Path]) -> list[Path]:
    """Files of the user's, and all modules beside them that they import, directly or not."""
    found: dict[tuple[Path, Path], None] = {}
    waiting = [(file, folder) for file in files for folder in modules.roots(file)]
    with _keeping():
        while waiting:
            file, folder = waiting.pop(0)
            if (file, folder) not in found:
                found[file, folder] = None
                waiting += [(each, folder) for each in _beside(file, folder)]
    return list(dict.fromkeys(file for file, _ in found))


def know(saved: dict[str, Any], folder: Path) -> bool:
    """Make the user's own options that a run's config chose part of the table; False: they are.

    They are looked for in the files that its ``code`` names, and where its modules are. ``saved``
    may lack sections, which are then not looked for. Raises UserError, with the remedy, where they
    are not there.
    """
    missing = [name for name in _own_names(saved) if name not in _known()]
    for group, name in missing:
        options.add_files(user_code.of_run(saved.get("code"), folder))
        options.add_saved(group, saved[group])
        if (group, name) not in _known():
            file = _first(saved["code"])
            raise UserError(
                f"{folder}: {group}={name} is of a file of yours, which is not at {file} any more\n"
                f"  name it: code={Path(file).name}, or {user_code.VARIABLE}=FILE"
            )
    return bool(missing)


def require(saved: dict[str, Any], own_sha256: str | None, folder: Path) -> None:
    """``know``, and refuse the user's own files where they are not those of a finished run.

    Nothing of theirs is executed before. Raises UserError with what differs and the remedy.
    """
    know(saved, folder)
    trust(saved, folder)
    own = own_of(saved)
    if own_sha256 is not None and own_digest(own) != own_sha256:
        raise UserError(
            f"{folder}: {' or '.join(map(str, own))} has changed since it was trained\n  "
            f"bring the old text back, of which {folder / 'code'} has a copy to be read, or train "
            "again"
        )


def trust(saved: dict[str, Any], folder: Path) -> None:
    """Refuse what a run names in a module, where nobody has trained with it on this machine."""
    parts = [name for _, name in _own_names(saved) if named.is_name(name)]
    named.require_known(parts, options.named_files(), folder)


def remember(config: Any) -> None:
    """Keep that what a config names in modules was trained with here, for ``trust``."""
    named.remember(filter(named.is_name, (getattr(config, g).name for g in FOLDERS)))


def own_of(saved: dict[str, Any]) -> list[Path]:
    """The user's own files of a run's config, which ``know`` has made part of the table."""
    chosen = [options.options(group)[name] for group, name in _own_names(saved)]
    return with_own_modules(option.file for option in chosen if option.is_of_file)


def _own_names(saved: dict[str, Any]) -> list[tuple[str, str]]:
    """(group, option) of a run's config, where it has code of the user's, or names a module's."""
    sections = {group: saved[group] for group in FOLDERS if group in saved}
    names = [(group, str(each["name"])) for group, each in sections.items()
             if isinstance(each, dict) and "name" in each]  # fmt: skip
    return [each for each in names if saved.get("code") or named.is_name(each[1])]


def _known() -> set[tuple[str, str]]:
    return {(group, name) for group in FOLDERS for name in options.options(group)}


def _first(value: Any) -> str:
    return value if isinstance(value, str) else str(next(iter(value)))


def content(files: Iterable[Path]) -> str:
    """One SHA-256 over all that is in files of the user's, metrics and comments too."""
    return joined(*(hashlib.sha256(file.read_bytes()).hexdigest() for file in files))


def own_digest(files: Iterable[Path]) -> str:
    """One SHA-256 over what counts in files of the user's; their names and places do not."""
    return joined(*sorted(facts(file).digest for file in files))


def joined(*digests: str) -> str:
    """One digest of several."""
    return hashlib.sha256("\0".join(digests).encode()).hexdigest()


def _beside(file: Path, folder: Path) -> Iterator[Path]:
    """The modules below ``folder`` that a file imports, with the packages that they are in."""
    package = file.parent.relative_to(folder).parts
    for name in facts(file).imports:
        dots = len(name) - len(name.lstrip("."))
        above = package[: len(package) - dots + 1] if dots else ()
        parts = [*above, *filter(None, name[dots:].split("."))]
        for length in range(1, len(parts) + 1):
            place = folder.joinpath(*parts[:length])
            yield from filter(Path.is_file, (place.with_suffix(".py"), place / "__init__.py"))


def _roots() -> list[Path]:
    return [file for pattern in ROOTS for file in PACKAGE.glob(pattern)]


def digest(files: Iterable[Path]) -> str:
    """One SHA-256 over what counts in several files of the package."""
    total = hashlib.sha256()
    for file in sorted(set(files)):
        name = file.relative_to(PACKAGE) if file.is_relative_to(PACKAGE) else file.name
        total.update(f"{name}\0{facts(file).digest}\0".encode())
    return total.hexdigest()


def imported(files: Iterable[Path], folders: tuple[str, ...]) -> set[Path]:
    """Files and all modules in ``folders`` of the package that they import, directly or not."""
    found: set[Path] = set()
    waiting = [*files]
    with _keeping():
        while waiting:
            here = waiting.pop()
            if here not in found:
                found.add(here)
                waiting += _modules(facts(here).imports, PACKAGE, folders)
    return found


@cache  # else 0.02 s for each job of a sweep
def _modules(imports: tuple[str, ...], package: Path, folders: tuple[str, ...]) -> list[Path]:
    """The modules in ``folders`` of the package that are imported by these names."""
    names = [name.partition(".")[2].replace(".", "/") for name in imports
             if name.startswith("tinylab.")]  # fmt: skip
    paths = [f"{name}{ending}" for name in names for ending in (".py", "/__init__.py")]
    inside = [path for path in paths if any(f"{path}/".startswith(f"{each}/") for each in folders)]
    return [package / path for path in inside if (package / path).is_file()]


# ---------------------------------------------------------------- one file


@dataclass(frozen=True)
class Facts:
    """What is known of a Python file: a digest of what counts in it, and what it may import.

    metrics: the digest of each function under ``@tinylab.metric``, which does not count.
    """

    digest: str
    imports: tuple[str, ...]
    metrics: dict[str, str]


def facts(file: Path) -> Facts:
    """The facts of a file. They are kept by size and time: to parse all files takes 0.2 s."""
    stat = file.stat()
    return _facts(file, (stat.st_size, stat.st_mtime_ns, stat.st_ino))


@cache
def _facts(file: Path, stamp: tuple[int, ...]) -> Facts:
    known = _kept().get(str(file))
    if known is not None and known[0] == [*stamp]:
        return Facts(known[1], tuple(known[2]), known[3])
    tree = ast.parse(file.read_text(encoding="utf-8"))
    imports = _imports(tree)
    apart = {node.name: node for node in tree.body if _is_metric(node)}
    tree.body = [node for node in tree.body if not _is_metric(node)]
    metrics = {name: _sha256(node) for name, node in apart.items()}
    made = Facts(_sha256(tree), imports, metrics)
    _kept()[str(file)] = [[*stamp], made.digest, [*made.imports], made.metrics]
    return made


def _is_metric(node: ast.stmt) -> TypeGuard[ast.FunctionDef]:
    marked = signature.marks(node) if isinstance(node, ast.FunctionDef) else ()
    return any(kind == "metric" for kind, _ in marked)


def _sha256(node: ast.AST) -> str:
    total = hashlib.sha256()
    for token in _tokens(node):
        total.update(f"{token}\0".encode())
    return total.hexdigest()


def _place() -> Path:
    return cache_root() / "code.json"


@cache
def _kept() -> dict[str, Any]:
    with contextlib.suppress(OSError, ValueError):
        found = json.loads(_place().read_text(encoding="utf-8"))
        if isinstance(found, dict) and found.get("version") == VERSION:
            return found
    return {"version": VERSION}


@contextlib.contextmanager
def _keeping() -> Iterator[None]:
    """Write once what is learned of files inside; where that fails, the next start learns it."""
    before = dict(_kept())
    yield
    if _kept() != before:
        with contextlib.suppress(UserError):
            write_json(_place(), _kept())


def _imports(tree: ast.Module) -> tuple[str, ...]:
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            start = "." * node.level + (node.module or "")
            dot = "." if node.module else ""
            names |= {start, *(f"{start}{dot}{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return tuple(sorted(names))


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
