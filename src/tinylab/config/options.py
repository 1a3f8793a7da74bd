"""The table of options: everything that can be selected as dataset, model, optimizer, loss etc.

An option is a record of typed keys, and a function or class that builds it. Built-in options are
declared where they are implemented, in the modules below ``FOLDERS``; Hydra's schema, help,
completion, docs, doctor, the image cache, predict and a run's identity all read this table.

A user's own files are added for the process (``use_files``), as are parts named by module and class
(``add_named``): each command adds them when it parses its arguments, and unpickled or restored
records add those that they need.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from tinylab.config import folders, metrics, modules, named, signature, user_code
from tinylab.config.option import FOLDERS, GIVEN, PACKAGE, Option
from tinylab.config.own_options import declared_in, taken
from tinylab.config.signature import Declaration
from tinylab.config.unknown import no_such
from tinylab.errors import UserError

P = ParamSpec("P")
R = TypeVar("R")
# Keys that identify the dataset if an option reads several.
WHICH_DATA = ("name", "set", "split")


_files: dict[Path, tuple[int, ...]] = {}  # the user's files, with size and time of each when read
_named: dict[tuple[str, str], "_Named"] = {}  # parts named by module
_typed: list[Path] = []  # files that no run has named
_kept: list[Any] = []  # caches derived from the table


@dataclass(frozen=True)
class _Named:
    """A part named by module, as read from its source."""

    part: named.NamedPart
    further: tuple[str, ...]
    stamps: tuple[int, ...]  # of its module's file, and of its signature's file

    def option(self) -> Option:
        """Its entry of the table."""
        own = signature.with_further(self.part.declaration, self.further)
        part = self.part
        return Option(own.group, own.name, part.file, part.module, own, part.defined_in)

    def is_of_today(self, files: Collection[Path]) -> bool:
        """Return whether its file is still there, unchanged, with these user files."""
        with contextlib.suppress(UserError):
            has_file = bool(self.part.module) or self.part.file in files
            return has_file and _stamps(self.part) == self.stamps
        return False


def kept(function: Callable[P, R]) -> Callable[P, R]:
    """Cache what a function derives from the table, until the user's files change."""
    cached: Any = cache(function)
    _kept.append(cached)
    return cached  # type: ignore[no-any-return]


def use_files(files: Iterable[Path]) -> None:
    """Register the options of these user files, replacing those of other files.

    They are parsed, not executed. Raises UserError for a name that is already taken, and for
    invalid options.
    """
    _use(files, {})


def add_files(files: Iterable[Path]) -> None:
    """Register options in addition to those in the table."""
    _use([*_files, *files], _named)


def _use(files: Iterable[Path], parts: Mapping[tuple[str, str], "_Named"]) -> None:
    stamps = {file: _stamp(file) for file in dict.fromkeys(files)}
    still = {key: part for key, part in parts.items() if part.is_of_today(stamps)}
    if stamps == _files and still == _named:
        return
    before = dict(_files), dict(_named)
    _replace(stamps, still)
    try:
        for group in (*FOLDERS, "metric"):
            options(group)
    except UserError:
        _replace(*before)
        raise
    for name, option in options("metric").items():
        metrics.join(name, option.declaration.common["better"])


def use(arguments: Sequence[str]) -> None:
    """Register the user's own files and parts that a command line names.

    Raises UserError for a file of ``code=`` that declares nothing and is not named otherwise.
    """
    before = users_files()
    without_code(arguments)
    if not any(map(user_code.is_key, arguments)):
        return
    by_name = {each.part.file for each in _named.values()}
    for file in named_files():
        if file not in by_name and not signature.read(file) and not modules.is_library(file):
            use_files(before)
            raise UserError(
                f"code={file}: expected a class or function decorated by @tinylab.model or "
                f"similar in it, or one named as model={file.stem}:Class\n"
                "  (modules that it imports from its folder need not be named)"
            )


def without_code(arguments: Sequence[str]) -> list[str]:
    """Return a command's arguments without ``code=``, and register what they name, only.

    The files are those of ``code=``, of a chosen experiment, of TINYLAB_CODE or the project's.
    """
    files = user_code.named(arguments)
    use_files(files)
    _typed[:] = files
    for group, option in folders.typed_choices(arguments, FOLDERS):
        if named.is_name(option):
            add_named(group, option, _further(arguments, group))
    return [word for word in arguments if not user_code.is_key(word)]


def _further(arguments: Sequence[str], group: str) -> list[str]:
    """Return the keys of a group typed with ``+``, for a ``**kwargs``."""
    keys = [word.partition("=")[0] for word in arguments if word.startswith(f"+{group}.")]
    return [key.partition(".")[2] for key in keys]


def add_named(group: str, option: str, further: Iterable[str] = ()) -> None:
    """Register a part named by module, with the keys of its ``**kwargs``.

    Raises UserError if it does not exist, or cannot be called with what the data provides.
    """
    key = group, option
    known = _named[key].further if key in _named else ()
    wanted = tuple(dict.fromkeys((*known, *further)))
    if key not in _named or wanted != known:
        num_given = len(GIVEN[group])
        part = named.find(group, option, [*_files], num_given, taken(group))
        added = _Named(part, wanted, _stamps(part))
        _replace(dict(_files), _named | {key: added})


def users_files() -> list[Path]:
    """Return the user's files in the table."""
    return [*_files]


def named_files() -> list[Path]:
    """Return those named by a command line or the environment, not by a run."""
    return [*_typed]


def _replace(stamps: dict[Path, tuple[int, ...]], parts: dict[tuple[str, str], "_Named"]) -> None:
    _files.clear()
    _files.update(stamps)
    _named.clear()
    _named.update(parts)
    for cached in _kept:
        cached.cache_clear()


def _stamp(file: Path) -> tuple[int, ...]:
    try:
        stat = file.stat()
    except OSError as error:
        raise UserError(f"code={file}: {error.strerror}; expected a Python file") from error
    return stat.st_size, stat.st_mtime_ns, stat.st_ino


def _stamps(part: named.NamedPart) -> tuple[int, ...]:
    return _stamp(part.file) + _stamp(part.defined_in)


@kept
def options(group: str) -> dict[str, Option]:
    """Return the options of a config group by name, in alphabetical order."""
    known = dict(_builtin(group)) if group in FOLDERS else {}
    for file in _files:
        for each in declared_in(file):
            if each.group != group:
                continue
            if (other := _of_same_name(each, known)) is not None:
                [decorator] = [kind for kind, of in signature.KINDS.items() if of == group]
                raise UserError(
                    f"{group}={each.name}: declared by both {file} and {other}\n"
                    f'  choose another name: @tinylab.{decorator}(name="my_{each.name}")'
                )
            known[each.name] = Option(group, each.name, file, "", each)
    for (of_group, name), part in _named.items():
        if of_group == group:
            known[name] = part.option()
    return dict(sorted(known.items()))


def _of_same_name(own: Declaration, known: dict[str, Option]) -> Path | None:
    """Return what already declares an option of this name, including tinylab's YAML files."""
    taken = known.get(own.name)
    return folders.file_of(own.group, own.name) if taken is None else taken.file


@cache
def _builtin(group: str) -> dict[str, Option]:
    folder, base = FOLDERS[group]
    if not folder:
        plain = Declaration(group, str(base.name), "", "", (), ())  # type: ignore[attr-defined]
        return {plain.name: Option(group, plain.name, PACKAGE, "", plain)}
    files = sorted((PACKAGE / folder).glob("*.py"))
    read = [(file, each) for file in files for each in signature.read(file)]
    declared = [each for _, each in read]
    return {
        each.name: Option(
            group,
            each.name,
            file,
            f"tinylab.{folder.replace('/', '.')}.{file.stem}",
            signature.inherited(each, declared),
        )
        for file, each in read
        if each.group == group
    }


def which_data(record: Any) -> tuple[Any, ...]:
    """Return what identifies a dataset that is the same for everyone, however preprocessed."""
    return tuple(getattr(record, key, None) for key in WHICH_DATA)


def of(record: Any) -> Option:
    """Return the option that a record belongs to."""
    return options(record.section)[record.name]


def chosen(config: Any) -> list[Option]:
    """Return the options that a config selected, except those without code of their own."""
    parts = [of(getattr(config, group)) for group in FOLDERS]
    return [option for option in parts if not option.is_plain]


def record(group: str, name: str, **values: Any) -> Any:
    """Build the record of an option with some values set. Raises UserError for an unknown name."""
    known = options(group)
    if name not in known:
        raise UserError(no_such(group, name, list(known), named_files()))
    return known[name].record(**values)


def restored(group: str, values: dict[str, Any], file: Path | None = None) -> Any:
    """Restore a pickled or copied record; ``file`` is the user's file that declares it, if any."""
    if file is not None and values["name"] not in options(group):
        add_files([file])
    add_saved(group, values)
    made: Any = object.__new__(options(group)[values["name"]].record)
    made.__dict__.update(values)
    return made


def add_saved(group: str, values: dict[str, Any]) -> None:
    """Register the part that a saved section names, if it is named by module.

    Raises UserError if it does not exist.
    """
    if named.is_name(values.get("name")):
        add_named(group, values["name"], _undeclared(group, values))


def _undeclared(group: str, values: dict[str, Any]) -> list[str]:
    """Return the keys of a section that its record does not have: those for ``**kwargs``."""
    known = options(group).get(values["name"])
    record = FOLDERS[group][1] if known is None else known.record
    names = {entry.name for entry in dataclasses.fields(record)}
    return [key for key in values if key not in names]
