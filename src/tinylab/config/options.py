"""The one table of options: what can be chosen as dataset, model, optimizer, loss and the like.

An option is a record of typed keys, and a function or class that makes the part. Built-in options
are declared where they are written, in the modules below ``FOLDERS``; Hydra's schema, help,
completion, docs, doctor, the image cache, predict and a run's identity all read this table.

A user's own files join it for the process (``use_files``), and so does what is named by module and
class (``add_named``): each command names them where it reads its arguments, and what is pickled or
restored names those that it needs.
"""

import contextlib
import dataclasses
import importlib
import os
import re
import sys
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property, partial
from itertools import islice
from pathlib import Path
from types import FunctionType
from typing import Any, Literal, ParamSpec, TypeVar, overload

from tinylab.config import folders, metrics, modules, named, schema, signature, user_code
from tinylab.config.signature import Declaration, Key
from tinylab.config.values import did_you_mean
from tinylab.errors import UserError

C = TypeVar("C", bound=Callable[..., Any])
P = ParamSpec("P")
R = TypeVar("R")
PACKAGE = Path(__file__).parents[1]
# Config group -> the folder whose modules declare its built-in options, and their common keys.
# Without a folder there is one built-in option, the record of the common keys itself.
FOLDERS: dict[str, tuple[str, type]] = {
    "dataset": ("data", schema.DatasetConfig),
    "model": ("models", schema.ModelKeys),
    "optim": ("training/optimizers", schema.OptimConfig),
    "schedule": ("", schema.ScheduleConfig),
    "augment": ("", schema.AugmentConfig),
    "loss": ("", schema.LossConfig),
}
# Config group -> what a part of the user's own is given beside its keys: a model by the names of
# its parameters, the others in this order. Of a class an instance is called with it; an optimizer's
# class is called with it itself.
GIVEN = {
    "model": ("image_shape", "num_classes"), "dataset": (), "optim": ("params",),
    "schedule": ("step", "steps"), "augment": ("images", "generator"),
    "loss": ("logits", "targets"),
}  # fmt: skip
# Config group -> the module that makes tinylab's part of what the user's own gives.
OWN = {"dataset": "tinylab.data.own"}
# Names of keys that such a part cannot have, since tinylab's own have them.
TAKEN = {"dataset": ("name", "normalize", "content")}
MOST_FILES = 200  # of the working folder that are looked into for a hint
# Keys that say which dataset it is, where one option reads several.
WHICH_DATA = ("name", "set", "split")


@overload
def model(cls: C, /) -> C: ...
@overload
def model(**common: Any) -> Callable[[C], C]: ...
def model(cls: C | None = None, /, **common: Any) -> C | Callable[[C], C]:
    """Mark a network: called with ``image_shape`` (C, H, W), ``num_classes`` and its keys."""
    return _marked(cls)


@overload
def dataset(cls: C, /) -> C: ...
@overload
def dataset(**common: Any) -> Callable[[C], C]: ...
def dataset(cls: C | None = None, /, **common: Any) -> C | Callable[[C], C]:
    """Mark a dataset: called with its keys, it gives images, labels and perhaps class names.

    ``(images, labels)``: uint8 arrays or tensors (N, H, W), (N, H, W, C) or (N, C, H, W), C 1 or 3,
    or real numbers from 0 to 1, and whole numbers (N,). Or an object with ``len`` and ``[]`` that
    gives (image, label), and perhaps has ``classes``. Or a dict of these: ``train``, and official
    ``val`` and ``test``, with ``classes``. ``common`` are its defaults of keys that every dataset
    has: ``image_size``, ``normalize``.
    """
    return _marked(cls)


def metric(*, better: Literal["higher", "lower"], name: str = "") -> Callable[[C], C]:
    """Mark a metric: (labels, probabilities) -> float, and whether higher or lower is better.

    labels: int64 (N,). probabilities: float64 (N, num_classes), the rows sum to 1. It is computed
    on validation after each epoch and on the tested network, and called by its function's name
    unless ``name`` is given.
    """
    return lambda each: each


@overload
def optimizer(cls: C, /) -> C: ...
@overload
def optimizer(**common: Any) -> Callable[[C], C]: ...
def optimizer(cls: C | None = None, /, **common: Any) -> C | Callable[[C], C]:
    """Mark an optimizer: called with parameter groups and its keys.

    ``common`` are its defaults of keys that every optimizer has, such as ``schedule``.
    """
    return _marked(cls)


@overload
def schedule(cls: C, /) -> C: ...
@overload
def schedule(**common: Any) -> Callable[[C], C]: ...
def schedule(cls: C | None = None, /, **common: Any) -> C | Callable[[C], C]:
    """Mark a schedule: (step, steps) and its keys -> the factor of the peak learning rate.

    step: 0 to steps - 1, after those of ``optim.warmup``. The factor depends on nothing else.
    """
    return _marked(cls)


@overload
def augmentation(cls: C, /) -> C: ...
@overload
def augmentation(**common: Any) -> Callable[[C], C]: ...
def augmentation(cls: C | None = None, /, **common: Any) -> C | Callable[[C], C]:
    """Mark an augmentation: (images, generator) and its keys -> images.

    images: float32 (N, C, H, W), black 0 and white 1. generator: a torch.Generator on their device.
    """
    return _marked(cls)


@overload
def loss(cls: C, /) -> C: ...
@overload
def loss(**common: Any) -> Callable[[C], C]: ...
def loss(cls: C | None = None, /, **common: Any) -> C | Callable[[C], C]:
    """Mark a loss: (logits, targets) and its keys -> a scalar tensor, the mean over the images.

    logits: float32 (N, num_classes). targets: int64 (N,); class probabilities float32
    (N, num_classes) with mixup or CutMix.
    """
    return _marked(cls)


def _marked(cls: C | None) -> C | Callable[[C], C]:
    return (lambda each: each) if cls is None else cls


@dataclass(frozen=True)
class Option:
    """One row of the table."""

    group: str
    name: str
    file: Path
    module: str
    declaration: Declaration
    defined_in: Path | None = None  # of a part that is named by its module

    @property
    def is_plain(self) -> bool:
        """Whether it is the built-in option that needs no code of its own."""
        return not FOLDERS[self.group][0] and self.is_builtin

    @property
    def about(self) -> str:
        """The first line of its docstring."""
        return self.declaration.about

    @cached_property
    def record(self) -> type:
        """The typed record of its keys, for Hydra and for ``Config``."""
        base = FOLDERS[self.group][1]
        if self.is_plain:
            return base
        common = {e.name: e for e in dataclasses.fields(base) if self.shares(e.name)}
        own = {key.name: key for key in self.declaration.keys}
        for name, value in self.declaration.common.items():
            own.setdefault(name, Key(name, common[name].type, value))
        fields = [_field(key, common.get(key.name)) for key in own.values()]
        name_field = ("name", str, dataclasses.field(default=self.name, metadata={"help": ""}))
        made = dataclasses.make_dataclass(
            f"{self.declaration.attribute}Config", [name_field, *fields], bases=(base,)
        )
        made.__doc__, made.__module__ = self.about, __name__
        return made

    @property
    def is_builtin(self) -> bool:
        """Whether it is tinylab's, and not of a file of the user's, nor of another library."""
        return self.file.is_relative_to(PACKAGE)

    def shares(self, name: str) -> bool:
        """Whether a key of all the group's options is one here.

        A model of the user's own may have a parameter of that name, and it is then theirs.
        """
        is_own = not self.is_builtin and self.group == "model" and name in self.declaration.takes
        return not is_own

    def shared(self, record: Any, name: str) -> Any:
        """The value of a key of all the group's options; its default where it is none here."""
        holder = record if self.shares(name) else FOLDERS[self.group][1]
        return getattr(holder, name)

    @property
    def maker(self) -> Path | None:
        """The module of tinylab's that makes a part of what the user's own gives, if one does."""
        if self.is_builtin or self.group not in OWN:
            return None
        return PACKAGE.joinpath(*OWN[self.group].split(".")[1:]).with_suffix(".py")

    @property
    def is_of_library(self) -> bool:
        """Whether it is named, and of an installed library, whose version says what it is."""
        return self.defined_in is not None and modules.is_library(self.file)

    @property
    def is_of_file(self) -> bool:
        """Whether it is of a file of the user's."""
        return not self.is_builtin and not self.is_of_library

    @property
    def is_users_own(self) -> bool:
        """Whether a dataset is wherever the user says, and no data of one name and content."""
        return any(key.is_place and key.name in self.required for key in self.declaration.keys)

    @property
    def required(self) -> tuple[str, ...]:
        """The keys that must be given."""
        keys = self.declaration.keys
        return tuple(key.name for key in keys if key.check is not None and key.check.required)

    def place(self, record: Any) -> str | None:
        """Where the data of a record lies, as it was typed; None where that is not said."""
        places = [getattr(record, key.name) for key in self.declaration.keys if key.is_place]
        return next((str(place) for place in places if place is not None), None)

    def load(self) -> Any:
        """The function or class itself. Raises UserError where a user's file cannot be imported."""
        if self.is_builtin:
            module = importlib.import_module(self.module)
        else:
            from tinylab.config import code

            files = code.with_own_modules([self.file]) if self.is_of_file else []
            folders = [each for file in _files for each in modules.roots(file)]
            user_code.watch(self.defined_in or self.file)
            module = (
                user_code.load_module(self.module, folders, files, code.content(files))
                if self.module
                else user_code.load(self.file, files, code.content(files))
            )
        return getattr(module, self.declaration.attribute)

    def make(self, record: Any, *given: Any) -> Any:
        """Call it with what is given, and with the values of a record."""
        taken = self.declaration.takes
        if self.group == "model" and not self.is_builtin:  # in any order, not necessarily all
            by_name = dict(zip(GIVEN[self.group], given, strict=True))
            if self.defined_in is not None:
                by_name = named.given(self.group, by_name)
            values = {key: by_name[key] if key in by_name else getattr(record, key)
                      for key in taken}  # fmt: skip
            further = {key: getattr(record, key, None) for key in self.declaration.further}
            more = {key: value for key, value in further.items() if value is not None}
            return self.load()(**values, **more)
        return self.load()(*given, **{key: getattr(record, key) for key in taken[len(given) :]})

    def function(self, record: Any) -> Callable[..., Any]:
        """What is called with what is given: itself with its keys, or an instance of a class."""
        made, keys = self.load(), [key.name for key in self.declaration.keys]
        values = {key: getattr(record, key) for key in keys}
        return made(**values) if self.declaration.is_class else partial(made, **values)

    def for_trained(self, record: Any) -> Any:
        """A record without what decides initial weights alone."""
        entries = [each for each in dataclasses.fields(record) if each.metadata.get("initial")]
        return dataclasses.replace(record, **{each.name: each.default for each in entries})

    def companion(self, name: str) -> Any:
        """Another function of a built-in option's module; None where it has none of this name."""
        module = importlib.import_module(self.module) if self.is_builtin else None
        return getattr(module, name, None)


def _field(key: Key, common: Any) -> tuple[str, Any, Any]:
    """A field of a record; where it is a common key, that one's help and check are the default."""
    metadata = {
        "help": key.help, "identity": key.identity and not key.is_place, "check": key.check,
        "neutral": key.neutral, "is_place": key.is_place, "initial": key.initial,
        "normalize": key.normalize,
    }  # fmt: skip
    declared = key.declared
    if common is not None:
        if common.type != declared | None:  # an option may refuse null where others take it
            declared = common.type
        metadata["help"] = key.help or common.metadata["help"]
        metadata["counted_by"] = common.metadata["counted_by"]
        metadata["stands_for"] = common.metadata["stands_for"]
        if key.check is None or not key.help:
            metadata["check"] = common.metadata["check"]
    return key.name, declared, dataclasses.field(default=key.default, metadata=metadata)


# ---------------------------------------------------------------- the table


_files: dict[Path, tuple[int, ...]] = {}  # the user's, and the size and time of each when read
_named: dict[tuple[str, str], "_Named"] = {}  # the parts that are named by their modules
_typed: list[Path] = []  # those of the files that no run has named
_kept: list[Any] = []  # the caches of what is read off the table


@dataclass(frozen=True)
class _Named:
    """A part that is named by its module, as it was read."""

    found: named.Found
    further: tuple[str, ...]
    stamps: tuple[int, ...]  # of its module's file, and of that of its signature

    def option(self) -> Option:
        """Its row of the table."""
        own = signature.with_further(self.found.declaration, self.further)
        found = self.found
        return Option(own.group, own.name, found.file, found.module, own, found.defined_in)

    def is_of_today(self, files: Collection[Path]) -> bool:
        """Whether it is found where it was, and unchanged, with these files of the user's."""
        with contextlib.suppress(UserError):
            has_file = bool(self.found.module) or self.found.file in files
            return has_file and _stamps(self.found) == self.stamps
        return False


def kept(function: Callable[P, R]) -> Callable[P, R]:
    """Keep what a function makes of the table, until other files of the user's are in it."""
    cached: Any = cache(function)
    _kept.append(cached)
    return cached  # type: ignore[no-any-return]


def use_files(files: Iterable[Path]) -> None:
    """Make the options of these files of the user's, and of no others, part of the table.

    They are read, not executed. Raises UserError for a name that is taken already, and for what
    cannot be an option.
    """
    _use(files, {})


def add_files(files: Iterable[Path]) -> None:
    """The same, beside what is in the table."""
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
    """Make what a command line names of the user's own part of the table: files, and parts.

    Raises UserError for a file of ``code=`` that declares nothing and is not named otherwise.
    """
    before = users_files()
    without_code(arguments)
    if not any(map(user_code.is_key, arguments)):
        return
    by_name = {part.found.file for part in _named.values()}
    for file in named_files():
        if file not in by_name and not signature.read(file) and not modules.is_library(file):
            use_files(before)
            raise UserError(
                f"code={file}: expected a class or function under @tinylab.model or the like in "
                f"it, or one that is named, as model={file.stem}:Class\n"
                "  (modules that it imports from beside it need not be named)"
            )


def without_code(arguments: Sequence[str]) -> list[str]:
    """A command's arguments without ``code=``; what they name is in the table, and no other file.

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
    """The keys of a group that are typed with a plus: what a ``**kwargs`` may take."""
    keys = [word.partition("=")[0] for word in arguments if word.startswith(f"+{group}.")]
    return [key.partition(".")[2] for key in keys]


def add_named(group: str, option: str, further: Iterable[str] = ()) -> None:
    """Make a part that is named by its module part of the table, with the keys of its ``**kwargs``.

    Raises UserError where it is not there, or cannot be called with what the data gives.
    """
    key = group, option
    known = _named[key].further if key in _named else ()
    wanted = tuple(dict.fromkeys((*known, *further)))
    if key not in _named or wanted != known:
        places = len(GIVEN[group])
        part = named.find(group, option, [*_files], places, _taken(group))
        added = _Named(part, wanted, _stamps(part))
        _replace(dict(_files), _named | {key: added})


def users_files() -> list[Path]:
    """The user's files that are in the table."""
    return [*_files]


def named_files() -> list[Path]:
    """Those of them that a command line or the environment names, and not a run."""
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


def _stamps(part: named.Found) -> tuple[int, ...]:
    return _stamp(part.file) + _stamp(part.defined_in)


@kept
def options(group: str) -> dict[str, Option]:
    """The options of a config group by name, in alphabetical order."""
    found = dict(_builtin(group)) if group in FOLDERS else {}
    for file in _files:
        for each in _of_user(file):
            if each.group != group:
                continue
            if (other := _of_same_name(each, found)) is not None:
                [decorator] = [kind for kind, of in signature.KINDS.items() if of == group]
                raise UserError(
                    f"{group}={each.name}: {file} declares it, and so does {other}\n"
                    f'  give it another name: @tinylab.{decorator}(name="my_{each.name}")'
                )
            found[each.name] = Option(group, each.name, file, "", each)
    for (of_group, name), part in _named.items():
        if of_group == group:
            found[name] = part.option()
    return dict(sorted(found.items()))


def _of_same_name(own: Declaration, found: dict[str, Option]) -> Path | None:
    """What declares an option of this name already, a YAML file of tinylab's included."""
    taken = found.get(own.name)
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


def _of_user(file: Path) -> list[Declaration]:
    """What a user's file declares, checked. Raises UserError."""
    try:
        compile(file.read_bytes(), file, "exec", dont_inherit=True)
        found = signature.read(file)
    except SyntaxError as error:
        raise UserError(f"{file}:{error.lineno}: {error.msg}") from error
    except (OSError, ValueError) as error:
        raise UserError(f"code={file}: cannot be read as Python: {error}") from error
    for each in found:
        refuse = _refuse_unfit_metric if each.group == "metric" else _refuse_unfit
        refuse(each, f"{file}: {each.attribute}")
    return [
        # Images stay as they are given.
        replace(each, common={"image_size": None, **each.common})
        if each.group == "dataset"
        else each
        for each in found
    ]


def _refuse_unfit(own: Declaration, where: str) -> None:
    if not re.fullmatch(r"[A-Za-z_][\w-]*", own.name):
        raise UserError(
            f"{where}: name={own.name!r}: expected letters, digits, - and _, a letter first"
        )
    names = [key.name for key in own.keys]
    common = [entry.name for entry in dataclasses.fields(FOLDERS[own.group][1])]
    for name in names:
        if name in _taken(own.group):
            raise UserError(
                f"{where}: {name}: expected another name for this parameter: {own.group}.{name} is "
                "a key of tinylab's"
            )
    if unknown := [name for name in own.common if name not in common]:
        raise UserError(f"{where}: {unknown[0]}: expected one of {', '.join(common)}")
    if own.group == "dataset" and any(key.is_place for key in own.keys):
        raise UserError(f"{where}: is_place: where own data lies counts; leave it out")
    _refuse_ungiven(own, [each for each in own.takes if each not in names], common, where)


def _taken(group: str) -> tuple[str, ...]:
    """Names of keys that a part of the user's cannot have, since tinylab's own have them."""
    if group == "augment":
        return ("name", *(entry.name for entry in dataclasses.fields(FOLDERS[group][1])))
    return TAKEN.get(group, ("name",))


def _refuse_ungiven(own: Declaration, without: list[str], common: list[str], where: str) -> None:
    """Raise UserError where the parameters without defaults are not those that are given."""
    is_instance_called = own.is_class and own.group not in ("model", "optim")
    given = () if is_instance_called else GIVEN[own.group]
    if own.group == "model":
        surplus = [each for each in without if each not in given]
    else:
        surplus = [each for each in without[len(given) :] if each not in common]
    if surplus:
        raise UserError(
            f"{where}: {surplus[0]}: expected a default, such as {surplus[0]}: int = 1\n"
            f"  (without one are {' and '.join(given) or 'none'}, which tinylab gives)"
        )
    if own.group != "model" and not own.is_class and len(without) < len(given):
        raise UserError(
            f"{where}({', '.join(own.takes)}): expected {' and '.join(given)} as the first "
            "parameters, without defaults"
        )


def _refuse_unfit_metric(own: Declaration, where: str) -> None:
    better = own.common.get("better")
    if better not in ("higher", "lower"):
        given = "" if better is None else f"better={better!r}: "
        raise UserError(
            f'{where}: {given}expected @tinylab.metric(better="higher"), or better="lower"'
        )
    if not re.fullmatch(r"[A-Za-z_]\w*", own.name) or own.name in metrics.TAKEN:
        raise UserError(
            f"{where}: name={own.name!r}: expected letters, digits and _, a letter first, and none "
            "of tinylab's own metrics"
        )
    if len(own.takes) != 2:
        raise UserError(
            f"{where}({', '.join(own.takes)}): expected a function of (labels, probabilities)\n"
            "  further parameters need a default"
        )


def which_data(record: Any) -> tuple[Any, ...]:
    """What tells a dataset that is the same for everyone from the others, however prepared."""
    return tuple(getattr(record, key, None) for key in WHICH_DATA)


def of(record: Any) -> Option:
    """The option that a record belongs to."""
    return options(record.section)[record.name]


def chosen(config: Any) -> list[Option]:
    """The options that a config chose, but for those that need no code of their own."""
    found = [of(getattr(config, group)) for group in FOLDERS]
    return [option for option in found if not option.is_plain]


def record(group: str, name: str, **values: Any) -> Any:
    """The record of an option with some values set. Raises UserError for an unknown name."""
    known = options(group)
    if name not in known:
        raise UserError(no_such(group, name, list(known)))
    return known[name].record(**values)


def no_such(group: str, name: str, known: Sequence[str], hint: str | None = None) -> str:
    """What to say of an option that is not among the ``known`` ones of a group."""
    said = f"{group}={name}: no such option"
    if group in FOLDERS and name in _names_in_main():
        return (
            f"{said}; a class of this session is none, since other processes cannot have it\n"
            f'  write it into a file (%%writefile {name}.py in a cell), then code="{name}.py"'
        )
    if group in FOLDERS and (file := _declaring(group, name)) is not None:
        files = [os.path.relpath(each) for each in (*_typed, file)]
        listed = files[0] if len(files) == 1 else f"[{','.join(files)}]"
        return f"{said}; {files[-1]} declares it: add code={listed}"
    hint = did_you_mean(name, known) if hint is None else hint
    return f"{said}{hint}; valid here: {', '.join(known)}"


def _declaring(group: str, name: str) -> Path | None:
    """A file of the working folder, or of TINYLAB_CODE or the project, that declares an option."""
    with contextlib.suppress(UserError, OSError):
        for file in (*islice(Path.cwd().glob("*.py"), MOST_FILES), *user_code.named(())):
            with contextlib.suppress(UserError, SyntaxError, OSError, ValueError):
                if any((group, name) == (each.group, each.name) for each in signature.read(file)):
                    return file
    return None


def _names_in_main() -> set[str]:
    """The classes and functions that a notebook, or a script, has defined, in lower case."""
    values = [*vars(sys.modules["__main__"]).values()]
    defined = [each for each in values if isinstance(each, type | FunctionType)]
    return {each.__name__.lower() for each in defined if each.__module__ == "__main__"}


def restored(group: str, values: dict[str, Any], file: Path | None = None) -> Any:
    """A pickled or copied record again; ``file`` of the user's declares it, if one does."""
    if file is not None and values["name"] not in options(group):
        add_files([file])
    add_saved(group, values)
    made: Any = object.__new__(options(group)[values["name"]].record)
    made.__dict__.update(values)
    return made


def add_saved(group: str, values: dict[str, Any]) -> None:
    """Make the part that a saved section names part of the table, if it is named by its module.

    Raises UserError where it is not there.
    """
    if named.is_name(values.get("name")):
        add_named(group, values["name"], _undeclared(group, values))


def _undeclared(group: str, values: dict[str, Any]) -> list[str]:
    """The keys of a section that its record does not have: those for ``**kwargs``."""
    known = options(group).get(values["name"])
    record = FOLDERS[group][1] if known is None else known.record
    names = {entry.name for entry in dataclasses.fields(record)}
    return [key for key in values if key not in names]
