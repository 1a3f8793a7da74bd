"""Which code determines a result: digests of source files that ignore comments and wording.

Docstrings, annotations, the help of keys, and messages (the arguments of ``raise`` and ``say``) do
not count. The syntax tree is serialized here and not by ``ast.dump``, whose output differs between
Python versions.
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
from tinylab.system.files import write_text
from tinylab.system.paths import cache_root

VERSION = 3  # version of the facts: increased when they are computed differently

# Where the code of results is; what training and preparation import from it counts, and the
# selected options.
CORE = ("data", "experiment/prepare.py", "models", "system/runtime.py", "training")
ROOTS = ("experiment/prepare.py", "training/*.py")
WORDS = frozenset({"say", "option"})  # calls whose further arguments are messages
UNSEEN = frozenset({"annotation", "returns", "type_comment", "type_params", "ctx", "kind"})


def of_result(config: Any) -> str:
    """Return a digest of the code that determines the results of a config.

    A new or changed file of an option that was not selected changes nothing. The user's own files
    count by content, not by location.
    """
    files = _files_of(config)
    own, versions = own_files(config), libraries(config)
    parts = [own_digest(own)] if own else []
    return joined(digest(files), *parts, *versions) if own or versions else digest(files)


def recorded(config: Any) -> dict[str, str]:
    """Return what a result records of its code: digests of all of it, the core, and user code."""
    own, versions = own_files(config), libraries(config)
    digests = {"code_sha256": of_result(config), "core_sha256": core()}
    digests |= {"own_code_sha256": own_digest(own)} if own else {}
    return digests | ({"libraries": ", ".join(versions)} if versions else {})


def changed(
    code_sha256: str, recorded: Mapping[str, Any], config: Any, before: object = None
) -> str | None:
    """Return which code has changed since a result, in words; None if it gives the same bits.

    recorded: the other recorded facts, as created by ``recorded``. before: the ``code`` of the
    result's config.
    """
    if is_same(code_sha256, config):
        return None
    own, own_sha256 = own_files(config), recorded.get("own_code_sha256")
    if own and own_sha256 is not None and own_digest(own) != own_sha256:
        edited = " or ".join(file.name for file in own)
        return _other_file(before, config) or f"{edited} has changed since"
    today = ", ".join(libraries(config))
    if today != (then := recorded.get("libraries", "")):
        return f"made with {then}, but this is {today}"
    return "tinylab's code has changed since"


def _other_file(before: object, config: Any) -> str | None:
    """Return, in words, that a part of a config came from a file of another name; None if not.

    A file of the same name in another folder is taken for the same file: folders are moved.
    """
    listed = [Path(name) for name in user_code.names(before)]
    chosen = [each.file for each in options.chosen(config) if each.is_of_file]
    now = {Path(name).name for name in user_code.names(config.code)}
    now |= {file.name for file in chosen}
    then = {file.name for file in listed}
    old = [file for file in listed if file.name not in now]
    new = [file for file in chosen if file.name not in then]
    return f"trained from {_in_words(old)}, now from {_in_words(new)}" if old and new else None


def _in_words(files: Iterable[Path]) -> str:
    here = Path.cwd()
    return " and ".join(str(f.relative_to(here) if f.is_relative_to(here) else f) for f in files)


def core() -> str:
    """Return the same for the code that every result depends on."""
    return digest(imported(_roots(), CORE))


def is_same(recorded: str, config: Any) -> bool:
    """Return whether the recorded code gives the same bits as the current code.

    It is the current code, or an older one named by ``same_bits.json``, together with the digests
    of the files at the time the bits were found equal: file by file, so any later change ends that.
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
    """Recorded digest -> file -> its digest when both gave equal bits."""
    path = Path(__file__).with_name("same_bits.json")
    digests: dict[str, dict[str, str]] = json.loads(path.read_text(encoding="utf-8"))
    return digests


def _files_of(config: Any) -> set[Path]:
    chosen = options.chosen(config)
    files = [each.file for each in chosen] + [each.maker for each in chosen if each.maker]
    return {file for file in imported([*_roots(), *files, *own_files(config)], CORE)
            if file.is_relative_to(PACKAGE)}  # fmt: skip


# ---------------------------------------------------------------- user code


def own_files(config: Any) -> list[Path]:
    """Return the user's files of the options that a config selected, and their local imports."""
    return with_own_modules(each.file for each in options.chosen(config) if each.is_of_file)


def libraries(config: Any) -> list[str]:
    """Return the libraries, with versions, that a config names: ``timm 1.0.22``."""
    chosen = options.chosen(config)
    return sorted({modules.version(each.module) for each in chosen if each.is_of_library})


def with_own_modules(files: Iterable[Path]) -> list[Path]:
    """Return files of the user's, and all modules from their folders that they import."""
    reached: dict[tuple[Path, Path], None] = {}
    waiting = [(file, folder) for file in files for folder in modules.roots(file)]
    with _keeping():
        while waiting:
            file, folder = waiting.pop(0)
            if (file, folder) not in reached:
                reached[file, folder] = None
                waiting += [(each, folder) for each in _beside(file, folder)]
    return list(dict.fromkeys(file for file, _ in reached))


def know(saved: dict[str, Any], folder: Path) -> bool:
    """Register the user's own options that a run's config selected; False: already registered.

    They are searched in the files that its ``code`` names, and where its modules are. ``saved`` may
    lack sections, which are then skipped. Raises UserError, with the remedy, if they are not found.
    """
    missing = [name for name in _own_names(saved) if name not in _known()]
    for group, name in missing:
        options.add_files(user_code.of_run(saved.get("code"), folder))
        options.add_saved(group, saved[group])
        if (group, name) not in _known():
            file = Path(_first(saved["code"]))
            why, shown = "no longer exists", file.name
            if file.is_absolute() and file.is_file():
                shown = str(file)
                why = (
                    "lies beside this folder and may have come with it: it is not executed unasked"
                )
            raise UserError(
                f"{folder}: {group}={name} is defined in your file {file}, which {why}\n"
                f"  pass the file: code={shown}, or {user_code.VARIABLE}=FILE"
            )
    return bool(missing)


def require(saved: dict[str, Any], own_sha256: str | None, folder: Path) -> None:
    """Like ``know``, but refuse files that differ from those of a finished run.

    Nothing in them is executed before. Raises UserError with the difference and the remedy.
    """
    know(saved, folder)
    trust(saved, folder)
    own = own_of(saved)
    if own_sha256 is not None and own_digest(own) != own_sha256:
        raise UserError(
            f"{folder}: {' or '.join(map(str, own))} has changed since it was trained\n  "
            f"restore the old file ({folder / 'code'} has a copy), or train "
            "again"
        )


def trust(saved: dict[str, Any], folder: Path) -> None:
    """Refuse library code named by a run that was never trained on this machine."""
    parts = [name for _, name in _own_names(saved) if named.is_name(name)]
    named.require_known(parts, options.named_files(), folder)


def keep(config: Any) -> None:
    """Record that the library code of a config was trained with here, for ``trust``."""
    named.keep(filter(named.is_name, (getattr(config, g).name for g in FOLDERS)))


def own_of(saved: dict[str, Any]) -> list[Path]:
    """Return the user's own files of a run's config, registered by ``know``."""
    chosen = [options.options(group)[name] for group, name in _own_names(saved)]
    return with_own_modules(option.file for option in chosen if option.is_of_file)


def _own_names(saved: dict[str, Any]) -> list[tuple[str, str]]:
    """Return (group, option) for options of a run's config that are user or library code."""
    sections = {group: saved[group] for group in FOLDERS if group in saved}
    names = [(group, str(each["name"])) for group, each in sections.items()
             if isinstance(each, dict) and "name" in each]  # fmt: skip
    return [each for each in names if saved.get("code") or named.is_name(each[1])]


def _known() -> set[tuple[str, str]]:
    return {(group, name) for group in FOLDERS for name in options.options(group)}


def _first(value: Any) -> str:
    return value if isinstance(value, str) else str(next(iter(value)))


def content(files: Iterable[Path]) -> str:
    """Return one SHA-256 of everything in the user's files, including metrics and comments."""
    return joined(*(hashlib.sha256(file.read_bytes()).hexdigest() for file in files))


def own_digest(files: Iterable[Path]) -> str:
    """Return one SHA-256 of what counts in the user's files; names and locations do not."""
    return joined(*sorted(facts(file).digest for file in files))


def joined(*digests: str) -> str:
    """Combine several digests."""
    return hashlib.sha256("\0".join(digests).encode()).hexdigest()


def _beside(file: Path, folder: Path) -> Iterator[Path]:
    """Return the modules below ``folder`` that a file imports, with their packages."""
    package = file.parent.relative_to(folder).parts
    for name in facts(file).imports:
        dots = len(name) - len(name.lstrip("."))
        above = package[: len(package) - dots + 1] if dots else ()
        parts = [*above, *filter(None, name[dots:].split("."))]
        for length in range(1, len(parts) + 1):
            path = folder.joinpath(*parts[:length])
            yield from filter(Path.is_file, (path.with_suffix(".py"), path / "__init__.py"))


def _roots() -> list[Path]:
    return [file for pattern in ROOTS for file in PACKAGE.glob(pattern)]


def digest(files: Iterable[Path]) -> str:
    """Return one SHA-256 of what counts in several files of the package."""
    total = hashlib.sha256()
    for file in sorted(set(files)):
        name = file.relative_to(PACKAGE) if file.is_relative_to(PACKAGE) else file.name
        total.update(f"{name}\0{facts(file).digest}\0".encode())
    return total.hexdigest()


def imported(files: Iterable[Path], folders: tuple[str, ...]) -> set[Path]:
    """Return files and all modules in ``folders`` of the package that they import."""
    reached: set[Path] = set()
    waiting = [*files]
    with _keeping():
        while waiting:
            here = waiting.pop()
            if here not in reached:
                reached.add(here)
                waiting += _modules(facts(here).imports, PACKAGE, folders)
    return reached


@cache  # else 0.02 s for each job of a sweep
def _modules(imports: tuple[str, ...], package: Path, folders: tuple[str, ...]) -> list[Path]:
    """Return the modules in ``folders`` of the package that are imported by these names."""
    names = [name.partition(".")[2].replace(".", "/") for name in imports
             if name.startswith("tinylab.")]  # fmt: skip
    paths = [f"{name}{ending}" for name in names for ending in (".py", "/__init__.py")]
    inside = [path for path in paths if any(f"{path}/".startswith(f"{each}/") for each in folders)]
    return [package / path for path in inside if (package / path).is_file()]


# ---------------------------------------------------------------- one file


@dataclass(frozen=True)
class Facts:
    """Facts about a Python file: a digest of what counts in it, and what it may import.

    metrics: the digest of each function decorated by ``@tinylab.metric``, which does not count.
    """

    digest: str
    imports: tuple[str, ...]
    metrics: dict[str, str]


def facts(file: Path) -> Facts:
    """Return the facts of a file, cached by size and time: parsing all files takes 0.2 s."""
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


def _file() -> Path:
    return cache_root() / "code.json"


@cache
def _kept() -> dict[str, Any]:
    with contextlib.suppress(OSError, ValueError):
        kept = json.loads(_file().read_text(encoding="utf-8"))
        if isinstance(kept, dict) and kept.get("version") == VERSION:
            return kept
    return {"version": VERSION}


@contextlib.contextmanager
def _keeping() -> Iterator[None]:
    """Write the collected facts once; if that fails, the next start recomputes them."""
    before = dict(_kept())
    yield
    if _kept() != before:
        with contextlib.suppress(UserError):
            write_text(_file(), json.dumps(_kept()))  # 20 times as fast as write_json


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
    """Serialize a node: its kind, its fields by name, and an end marker."""
    if isinstance(node, list):
        yield "["
        for each in node:
            yield from _tokens(each)
        yield "]"
    elif isinstance(node, ast.Raise):
        # That it is raised counts, and its class; the message does not.
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
