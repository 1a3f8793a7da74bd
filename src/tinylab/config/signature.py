"""Parses the options that a file declares from its syntax tree, without running it.

An option is a class or function with one of the decorators in KINDS; its keys are the parameters
with defaults, or the fields of a dataclass. So help, completion and refused overrides need no
import of torch, and run no user code.
"""

import ast
import contextlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tinylab.config.values import Check
from tinylab.errors import UserError

# Decorator -> config group; a metric is selected by its name alone.
KINDS = {
    "model": "model", "dataset": "dataset", "optimizer": "optim", "schedule": "schedule",
    "augmentation": "augment", "loss": "loss", "metric": "metric",
}  # fmt: skip
MARK = re.compile(rf"^@([\w.]+\.)?({'|'.join(KINDS)})\b", re.MULTILINE)
TYPES: dict[str, type] = {"int": int, "float": float, "bool": bool, "str": str}
DICT = "dict[str, Any]"  # which Hydra would reject if declared as keys
FLAGS = ("identity", "neutral", "initial", "is_place", "normalize")


@dataclass(frozen=True)
class Key:
    """One key of an option. ``declared`` is its type, such as ``int | None``."""

    name: str
    declared: Any
    default: Any
    help: str = ""
    identity: bool = True
    neutral: bool = False
    initial: bool = False
    is_place: bool = False
    normalize: str | None = None
    check: Check | None = None


@dataclass(frozen=True)
class Declaration:
    """One option as declared in a file.

    ``takes`` are all parameters, including those without defaults; ``common`` its own defaults of
    keys that all options of the group have; ``further`` what is passed beyond its signature.
    """

    group: str
    name: str
    attribute: str
    about: str
    keys: tuple[Key, ...]
    takes: tuple[str, ...]
    common: dict[str, Any] = field(default_factory=dict)
    bases: tuple[str, ...] = ()
    is_class: bool = False
    takes_further: bool = False
    further: tuple[str, ...] = ()


def read(path: Path) -> list[Declaration]:
    """Return the options that a Python file declares. Raises UserError for invalid ones."""
    source = path.read_text(encoding="utf-8")
    if MARK.search(source) is None:  # parsing takes longer
        return []
    tree = ast.parse(source, path)
    return [
        _declaration(node, kind, call, path)
        for node in tree.body
        if isinstance(node, ast.ClassDef | ast.FunctionDef)
        for kind, call in marks(node)
    ]


def inherited(own: Declaration, known: Sequence[Declaration]) -> Declaration:
    """Add the keys of the base class to a dataclass, if that is an option too."""
    for base in known:
        if base.attribute in own.bases and base.group == own.group:
            base = inherited(base, known)
            names = {key.name for key in own.keys}
            keys = [key for key in base.keys if key.name not in names]
            takes = dict.fromkeys((*base.takes, *own.takes))
            return replace(own, keys=(*keys, *own.keys), takes=tuple(takes))
    return own


def marks(node: ast.ClassDef | ast.FunctionDef) -> Iterator[tuple[str, ast.Call | None]]:
    """Return tinylab's decorators on a class or function, with the call that makes each."""
    for decorator in node.decorator_list:
        call = decorator if isinstance(decorator, ast.Call) else None
        function = decorator.func if isinstance(decorator, ast.Call) else decorator
        name = function.attr if isinstance(function, ast.Attribute) else ast.unparse(function)
        if name in KINDS:
            yield name, call


def _declaration(
    node: ast.ClassDef | ast.FunctionDef, kind: str, call: ast.Call | None, path: Path
) -> Declaration:
    where = f"{path}:{node.lineno}"
    given = {k.arg: _literal(k.value, where) for k in call.keywords if k.arg} if call else {}
    name = str(given.pop("name", node.name.lower()))
    about = (ast.get_docstring(node) or "").partition("\n")[0]
    if kind == "metric":  # not keys: parameters with defaults keep them
        keys, takes = list[Key](), _without_defaults(node)
    else:
        keys, takes = _fields(node, where) if _is_dataclass(node) else _parameters(node, where)
    bases = [ast.unparse(base) for base in node.bases] if isinstance(node, ast.ClassDef) else []
    return Declaration(
        KINDS[kind], name, node.name, about, tuple(keys), tuple(takes), given, tuple(bases),
        isinstance(node, ast.ClassDef),
    )  # fmt: skip


def _is_dataclass(node: ast.ClassDef | ast.FunctionDef) -> bool:
    return any("dataclass" in ast.unparse(each) for each in node.decorator_list)


def _fields(node: ast.ClassDef | ast.FunctionDef, where: str) -> tuple[list[Key], list[str]]:
    keys = [
        _key(each.target.id, each.annotation, each.value, where)
        for each in node.body
        if isinstance(each, ast.AnnAssign)
        and isinstance(each.target, ast.Name)
        and each.value is not None
        and "ClassVar" not in ast.unparse(each.annotation)
    ]
    return keys, [key.name for key in keys]


def _parameters(node: ast.ClassDef | ast.FunctionDef, where: str) -> tuple[list[Key], list[str]]:
    pairs = _pairs(called(node))
    keys = [_key(a.arg, a.annotation, default, where) for a, default in pairs if default]
    return keys, [argument.arg for argument, _ in pairs]


def called(node: ast.ClassDef | ast.FunctionDef) -> ast.FunctionDef | None:
    """Return the function whose signature counts; None for a class without its own ``__init__``."""
    if isinstance(node, ast.FunctionDef):
        return node
    inits = [each for each in node.body if getattr(each, "name", "") == "__init__"]
    return inits[0] if inits and isinstance(inits[0], ast.FunctionDef) else None


def _pairs(function: ast.FunctionDef | None) -> list[tuple[ast.arg, ast.expr | None]]:
    """Return the parameters except ``self``, with their defaults."""
    if function is None:
        return []
    arguments = function.args
    positional = [*arguments.posonlyargs, *arguments.args]
    padded = [None] * (len(positional) - len(arguments.defaults))
    pairs: list[tuple[ast.arg, ast.expr | None]] = [
        *zip(positional, [*padded, *arguments.defaults], strict=True),
        *zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True),
    ]
    return [(argument, default) for argument, default in pairs if argument.arg != "self"]


def parameters(node: ast.ClassDef | ast.FunctionDef) -> list[str]:
    """The names of all parameters of what is called, but ``self``."""
    return [argument.arg for argument, _ in _pairs(called(node))]


def of_foreign(
    node: ast.ClassDef | ast.FunctionDef,
    group: str,
    name: str,
    given: Sequence[str],
    taken: Sequence[str],
    where: str,
) -> tuple[Declaration, list[str]]:
    """Return the option for a class or function that was not written to be one.

    ``given`` and ``taken`` are parameters that are no keys; the latter stay at their default. Of
    the others those with a plain default are keys, of any type where theirs is no type of a key.
    Also returns the parameters that nothing gives.
    """
    function = called(node)
    keys, takes, missing = list[Key](), list[str](), list[str]()
    for argument, default in _pairs(function):
        key = None if default is None else _foreign_key(argument, default, where)
        if argument.arg in given:
            takes.append(argument.arg)
        elif key is not None and key.name not in taken:
            keys.append(key)
            takes.append(key.name)
        elif default is None:
            missing.append(argument.arg)
    takes_further = function is not None and function.args.kwarg is not None
    made = Declaration(
        group, name, node.name, "", tuple(keys), tuple(takes), takes_further=takes_further
    )
    return made, missing


def _foreign_key(argument: ast.arg, default: ast.expr, where: str) -> Key | None:
    with contextlib.suppress(UserError):
        key = _key(argument.arg, argument.annotation, default, where)
        if key.default is None and key.declared in TYPES.values():
            return replace(key, declared=key.declared | None)  # as in ``weights: str = None``
        kinds = (key.declared, int) if key.declared is float else key.declared
        if isinstance(key.default, kinds):
            return key
    with contextlib.suppress(ValueError):
        value = ast.literal_eval(default)
        if value is None or isinstance(value, bool | int | float | str):
            return Key(argument.arg, Any, value)
    return None


def with_further(own: Declaration, names: Sequence[str]) -> Declaration:
    """Return the option with further keys for its ``**kwargs``; null, the default, is dropped."""
    known = {key.name for key in own.keys} | {*own.takes, "name"}
    further = tuple(name for name in names if own.takes_further and name not in known)
    keys = [Key(name, Any, None, "passed on as it is", neutral=True) for name in further]
    return replace(own, keys=(*own.keys, *keys), further=further)


def _without_defaults(node: ast.ClassDef | ast.FunctionDef) -> list[str]:
    if isinstance(node, ast.ClassDef):
        return []
    positional = [*node.args.posonlyargs, *node.args.args]
    return [each.arg for each in positional[: len(positional) - len(node.args.defaults)]]


def _key(name: str, annotation: ast.expr | None, default: ast.expr, where: str) -> Key:
    where = f"{where}: {name}"
    help, limits = "", {}
    if isinstance(default, ast.Call) and ast.unparse(default.func).split(".")[-1] == "option":
        limits = {str(k.arg): _literal(k.value, where) for k in default.keywords}
        first, *more = default.args
        help = str(limits.pop("help", _literal(more[0], where) if more else ""))
        default = first
    value = _literal(default, where)
    declared, choices = _declared(annotation, value, where)
    flags = {each: limits.pop(each) for each in FLAGS if each in limits}
    if choices:
        limits["one_of"] = choices
    if "one_of" in limits:
        limits["one_of"] = tuple(limits["one_of"])
    check = Check(**limits) if limits or declared in (float, float | None) else None
    return Key(name, declared, value, help, check=check, **flags)


def _declared(annotation: ast.expr | None, default: Any, where: str) -> tuple[Any, tuple[str, ...]]:
    """Return the type of a key, and its choices for a Literal."""
    if annotation is None:
        if default is None or type(default).__name__ not in TYPES:
            raise UserError(f"{where}={default}: expected a type, as in {where}: int = 1")
        return type(default), ()
    text = annotation.value if isinstance(annotation, ast.Constant) else ast.unparse(annotation)
    text = re.sub(r"^(?:typing\.)?Optional\[(.*)\]$", r"\1 | None", str(text))
    parts = [part.strip() for part in text.split("|")]
    optional = "None" in parts
    [word, *others] = [part for part in parts if part != "None"] or [""]
    if word.split("[")[0].split(".")[-1] == "Literal":
        choices = ast.literal_eval("(" + word.partition("[")[2].rstrip("]") + ",)")
        return (str | None if optional else str), tuple(map(str, choices))
    if word == DICT and not others:
        return Any, ()
    if word not in TYPES or others:
        raise UserError(
            f"{where}: {ast.unparse(annotation)}: expected int, float, bool, str, Literal[...], "
            "or one of them | None"
        )
    return (TYPES[word] | None if optional else TYPES[word]), ()


def _literal(node: ast.expr, where: str) -> Any:
    try:
        return ast.literal_eval(node)
    except ValueError as error:
        raise UserError(
            f"{where}={ast.unparse(node)}: expected a plain value, such as 0.1 or 'relu'"
        ) from error
